"""A plan as a picture: the loss of what the budget pays for, and the loss over N and D.

matplotlib is imported by the modules of pictures alone, and those only for `--plot`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import cycle, islice
from textwrap import shorten

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from analytic.planning.assumptions import BAND_NATS
from analytic.planning.forward import Plan
from analytic.report import plot_style as style
from analytic.report.contour_plot import draw_contours
from analytic.report.plot_panels import View, budget_text, draw_star, head, log_axis, name_of
from analytic.report.plot_style import Labels, short
from analytic.scaling.laws import ScalingLaw
from analytic.scaling.optimum import Allocation

# The law that is used is solid and strong. Dashes tell the others apart in grey.
Drawn = tuple[str, str | tuple[int, tuple[float, ...]], float]  # colour, dashes, width
USED: Drawn = (style.BLUE, "-", 3.2)
OTHERS: tuple[Drawn, ...] = (
    (style.VERMILION, (0, (5, 2)), 1.3),
    (style.GREEN, (0, (7, 2, 1.5, 2)), 1.3),
    (style.PURPLE, (0, (1.2, 1.5)), 1.3),
    (style.ORANGE, (0, (5, 1.5, 1, 1.5, 1, 1.5)), 1.3),
    (style.QUIET, (0, (10, 3)), 1.3),
)
POINTS = 160
MOST_SERVED = 0.9  # of the budget, at the right end of the curves
ROOM_BELOW = 0.6  # of the range of the losses, for what is written below the curves
LABEL_GAP = 0.045  # between the names of two laws, in heights of the axes
MOST_CHARACTERS = 150


@dataclass(frozen=True, slots=True)
class Curve:
    """One law along the budget's frontier: its losses at `sizes`, its optimum, and how it is drawn."""

    law: ScalingLaw
    optimum: Allocation
    sizes: list[float]
    losses: list[float]
    colour: str
    dashes: str | tuple[int, tuple[float, ...]]
    width: float


def picture_of(plan: Plan, kind: str) -> bytes:
    """Loss against N along the budget's frontier for each law, and loss contours over N and D, as png or svg."""
    return style.bytes_of(plan_figure(plan), kind)


def plan_figure(plan: Plan) -> Figure:
    """The picture, before it is written in some format."""
    figure = style.new_figure(13, 6.4)
    params, gpu, mfu = plan.params, plan.option.gpu, plan.option.mfu
    active = "" if params.active == params.total else f" ({short(params.active)} active)"
    model = f"{short(params.total)} parameters{active}, {short(plan.outcome.tokens)} tokens"
    title = f"{budget_text(plan)} on {gpu.name}: {model}, loss {plan.outcome.loss:.3f}"
    if plan.request.allocation is not None:
        title += f" by {name_of(plan.request.law)}; the size by {name_of(plan.request.allocation)}"
    figure.text(0.02, 0.93, title, fontsize=15, weight="bold", color=style.DARK)
    spent = f"C = {_scientific(float(plan.compute_flops))} FLOP at an MFU of {mfu.value:.1%}, {mfu.origin}"
    if plan.served is not None:
        tokens = short(plan.served.serving.tokens)
        spent += f"; serving {tokens} tokens takes {plan.served.share:.0%} of the budget"
    figure.text(0.02, 0.89, shorten(spent, MOST_CHARACTERS), fontsize=10, color=style.QUIET)
    _draw_frontier(figure.add_axes((0.06, 0.1, 0.325, 0.69)), plan)
    draw_contours(figure.add_axes((0.625, 0.1, 0.355, 0.69)), plan)
    return figure


def _draw_frontier(axes: Axes, plan: Plan) -> None:
    """Loss against N for each law, where D is what the budget pays for."""
    outcome, band = plan.outcome, plan.sensitivity.band
    star = outcome.candidate.params, outcome.loss
    least, most = band or (star[0], star[0])
    view = _affordable(plan, View(min(least, star[0]) / 3, max(most, star[0]) * 3))
    curves = _curves(plan, view)
    labels = _frontier_axes(axes, plan, view, curves)
    for curve in curves:
        strength = curve.width / USED[2]
        axes.plot(curve.sizes, curve.losses, c=curve.colour, ls=curve.dashes, lw=curve.width, zorder=2 + strength)
        labels.avoid(curve.sizes, curve.losses)
        if curve.law is not plan.request.law:
            axes.plot(curve.optimum.params, curve.optimum.loss, "o", color=curve.colour, markersize=5)
    _name_laws(axes, plan, curves)
    if band is not None:
        axes.axvspan(least, most, color=style.BLUE, alpha=0.1, linewidth=0)
        text = f"within {BAND_NATS} nats: {short(least)} to {short(most)}"
        labels.avoid_text(_write_below(axes, view.share(math.sqrt(least * most)), 0.1, text, style.BLUE))
    labels.avoid_text(_bracket(axes, plan.request.law, view))
    draw_star(axes, labels, plan, star)


def _affordable(plan: Plan, view: View) -> View:
    """Without the sizes whose serving takes nearly all of the budget: there every curve goes straight up."""
    goal = plan.request.goal(plan.option)
    seen = [n for n in view.spread(POINTS) if goal.served_per_flop * goal.cost.flops_per_token(n) <= MOST_SERVED]
    return View(view.least, seen[-1])


def _curves(plan: Plan, view: View) -> list[Curve]:
    """The law that is used first, then the others in their order."""
    used = plan.request.law
    others = [each for each in plan.sensitivity.laws if each[0].name != used.name]
    compute = float(plan.compute_flops)
    curves = []
    for (law, optimum), drawn in zip(
        [(used, plan.optimum), *others], (USED, *islice(cycle(OTHERS), len(others))), strict=True
    ):
        goal = plan.request.goal(plan.option, law)
        made = [at for n in view.spread(POINTS) if (at := goal.at(n, compute)) is not None]
        curves.append(Curve(law, optimum, [at.params for at in made], [at.loss for at in made], *drawn))
    return curves


def _frontier_axes(axes: Axes, plan: Plan, view: View, curves: list[Curve]) -> Labels:
    """Every curve is seen at its right end, where its name is, and around its optimum."""
    style.plain_axes(axes)
    least = min(min(curve.losses) for curve in curves)
    most = max(max(curve.losses[-1], curve.optimum.loss) for curve in curves)
    most = max(most, curves[0].losses[0])
    span = max(most - least, 1e-3 * abs(most))
    axes.set_ylim(least - ROOM_BELOW * span, most + 0.08 * span)
    log_axis(axes, "x", view)
    axes.set_xlabel("N, parameters as each law counts them", color=style.DARK)
    axes.set_ylabel("loss, nats per token", color=style.DARK)
    paid = "" if plan.served is None else ", serving included"
    head(
        axes,
        "Loss of what the budget pays for",
        f"D is what the budget pays for at each N{paid}; dots: the best N of a law",
    )
    axes.grid(axis="y", color=style.FAINT, linewidth=0.6)
    return Labels(axes)


def _name_laws(axes: Axes, plan: Plan, curves: list[Curve]) -> None:
    """The name of each law to the right of its curve, with the N that it finds best."""
    low, high = axes.get_ylim()
    ends = [(curve.losses[-1] - low) / (high - low) for curve in curves]
    for curve, end, height in zip(curves, ends, style.keep_apart(ends, LABEL_GAP, 1.0), strict=True):
        is_used = curve.law is plan.request.law
        axes.annotate(
            f"{name_of(curve.law)}{', used' if is_used else ''}: N {short(curve.optimum.params)}",
            (1, end),
            (1.04, height),
            xycoords="axes fraction",
            color=style.INK.get(curve.colour, curve.colour),
            fontsize=10 if is_used else 9.5,
            weight="bold" if is_used else "normal",
            verticalalignment="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": curve.colour, "linewidth": 0.8, "shrinkA": 1, "shrinkB": 0},
        )


def _bracket(axes: Axes, law: ScalingLaw, view: View) -> Text:
    """Below the curves, the N that the law was fitted on, with an arrow where it goes on outside of the view."""
    if "params" not in law.fitted:
        return _write_below(axes, 0.5, 0.035, f"the N that {name_of(law)} was fitted on is not stated", style.QUIET)
    least, most = law.fitted["params"]
    left, right = (min(max(view.share(value), 0.0), 1.0) for value in (least, most))
    if left < right:
        axes.plot([left, right], [0.02, 0.02], color=style.QUIET, linewidth=3, transform=axes.transAxes)
    before = "← " if least < view.least else ""
    after = " →" if most > view.most else ""
    text = f"{before}{name_of(law)} was fitted on {short(least)} to {short(most)}{after}"
    return _write_below(axes, (left + right) / 2, 0.035, text, style.QUIET)


def _write_below(axes: Axes, x: float, height: float, text: str, colour: str) -> Text:
    """A line of text centered at a share of the width, as far as it stays within the axes."""
    return axes.text(
        min(max(x, 0.31), 0.69), height, text, transform=axes.transAxes, ha="center", color=colour, fontsize=9
    )


def _scientific(value: float) -> str:
    """
    >>> _scientific(5.616e23)
    '5.62e23'
    """
    return f"{value:.2e}".replace("e+", "e")
