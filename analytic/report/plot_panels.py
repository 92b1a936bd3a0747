"""What the two panels of a plan's picture share: logarithmic ranges, heads, the designed model."""

from __future__ import annotations

import math
from dataclasses import dataclass

from matplotlib.axes import Axes

from analytic.planning.budget import Dollars
from analytic.planning.forward import Plan
from analytic.report.plot_style import DARK, QUIET, Labels, log_ticks, short
from analytic.scaling.laws import Law

MOST_OF_NAME = 18


@dataclass(frozen=True, slots=True)
class View:
    """A logarithmic range of N or D."""

    least: float
    most: float

    def at(self, share: float) -> float:
        """The value at a share of the range."""
        return self.least * math.exp(math.log(self.most / self.least) * share)

    def share(self, value: float) -> float:
        """Where in the range a value is."""
        return math.log(value / self.least) / math.log(self.most / self.least)

    def spread(self, count: int) -> list[float]:
        """So many values from least to most, even in logarithm."""
        return [self.at(i / (count - 1)) for i in range(count)]


def head(axes: Axes, title: str, below: str) -> None:
    axes.set_title(title, loc="left", fontsize=11.5, pad=24, color=DARK)
    axes.text(0, 1.03, below, transform=axes.transAxes, fontsize=9, color=QUIET)


def budget_text(plan: Plan) -> str:
    budget = plan.request.budget
    if isinstance(budget, Dollars):
        return f"{short(budget.usd)} USD"
    return f"{short(budget.num_gpus * budget.hours)} GPU-hours"


def name_of(law: Law) -> str:
    return law.name if len(law.name) <= MOST_OF_NAME else f"{law.name[: MOST_OF_NAME - 1]}…"


def draw_star(axes: Axes, labels: Labels, plan: Plan, at: tuple[float, float]) -> None:
    """The designed model with its figures."""
    axes.plot(*at, "*", color=DARK, markeredgecolor="white", markersize=17, zorder=6)
    candidate, tokens = plan.outcome.candidate, plan.outcome.tokens
    text = f"N {short(candidate.params)}\nD {short(tokens)}\nloss {plan.outcome.loss:.3f}"
    labels.put(text, at, fontsize=10, weight="bold", color=DARK, zorder=7)


def log_axis(axes: Axes, which: str, view: View) -> None:
    axis = axes.xaxis if which == "x" else axes.yaxis
    axes.set(**{f"{which}scale": "log", f"{which}lim": (view.least, view.most)})
    log_ticks(axis, view.least, view.most)
