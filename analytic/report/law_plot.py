"""A fitted law as a picture: what its small runs say of the large ones, and what all runs say of a larger one.

Left, loss against N along budgets of compute, by the law of the runs below the cut of the backtest. Right, loss
against compute at the best N, by the law of all runs. Both with 80% bands, and shaded where no run was fitted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text

from analytic.report import plot_style as style
from analytic.report.law_result import LawFit
from analytic.report.plot_panels import View, head, log_axis
from analytic.report.plot_style import Labels, short
from analytic.scaling.fitted_plan import best_params
from analytic.scaling.intervals import FittedLaw, Prediction, split
from analytic.scaling.runs import Run

POINTS = 120
MOST_BUDGETS = 6  # curves that are drawn
LEAST_STEP = 0.5  # decades between two curves
FARTHEST_RATIO = 2000.0  # tokens per parameter at the left end of a curve
LABEL_GAP = 0.045  # between the names of two curves, in heights of the axes
MOST_NAMED = 3  # predictions asked for that get a label
MOST_TITLE, MOST_CHARACTERS = 80, 150
_SHADES = LinearSegmentedColormap.from_list("compute", ["#9CCBE8", style.BLUE, "#00263D"])
_HELD_OUT: dict[str, Any] = {"color": "white", "mec": style.VERMILION, "mew": 1.6, "ms": 5.5, "zorder": 4}
_EXTRAPOLATED: dict[str, Any] = {"color": style.ORANGE, "alpha": 0.13, "linewidth": 0}


@dataclass(frozen=True, slots=True)
class Backtest:
    """The law of the runs below a cut, and the runs above it; every run and none where nothing was held out."""

    law: FittedLaw
    held_out: tuple[Run, ...]

    @property
    def runs(self) -> tuple[Run, ...]:
        return (*self.law.fit.runs, *self.held_out)


def law_picture(result: LawFit, kind: str) -> bytes:
    """The picture as png or svg."""
    return style.bytes_of(law_figure(result), kind)


def law_figure(result: LawFit) -> Figure:
    """The picture, before it is written in some format."""
    fit, figure = result.law.fit, style.new_figure(13, 6.4)
    title = f"A scaling law of {len(fit.runs)} runs of {result.shown_source}"
    figure.text(0.02, 0.93, _literal(title, MOST_TITLE), fontsize=15, weight="bold", color=style.DARK)
    method = f"bands hold 80%; {result.method}"
    figure.text(0.02, 0.89, _literal(method, MOST_CHARACTERS), fontsize=10, color=style.QUIET)
    _draw_backtest(figure.add_axes((0.06, 0.1, 0.355, 0.69)), backtest_of(result))
    _draw_frontier(figure.add_axes((0.555, 0.1, 0.415, 0.69)), result)
    return figure


def backtest_of(result: LawFit) -> Backtest:
    """The law that `hold_out` fitted, and the runs it was judged by."""
    held_out = result.hold_out
    if held_out is None:
        return Backtest(result.law, ())
    return Backtest(held_out.law, split(result.law.fit.runs, held_out.decades)[1])


def _draw_backtest(axes: Axes, test: Backtest) -> None:
    """The runs, isoFLOP curves with bands, and the losses below those of every run fitted, shaded."""
    fit, flops = test.law.fit, [run.flops for run in test.runs]
    view = View(min(run.params for run in test.runs) / 1.6, max(run.params for run in test.runs) * 1.6)
    budgets = budgets_between(min(flops), max(flops))
    curves = [_curve(test.law, budget, _usual(test.law, budget, view)) for budget in budgets]
    _loss_axes(axes, [run.loss for run in test.runs], [p for curve in curves for p in curve])
    log_axis(axes, "x", view)
    axes.set_xlabel("N, parameters", color=style.DARK)
    if test.held_out:
        subtitle = f"fitted to {len(fit.runs)} runs; the {len(test.held_out)} larger ones, not fitted, as diamonds"
        head(axes, "What the smaller runs say of the larger ones", subtitle)
    else:
        head(axes, "Loss along budgets of compute", f"fitted to all {len(fit.runs)} runs: too few to hold some out")
    _shade_below(axes, _curve(test.law, fit.most_flops, view))
    for budget, curve in zip(budgets, curves, strict=True):
        _band(axes, [p.params for p in curve], curve, _shade(budget, flops))
    for run in fit.runs:
        axes.plot(run.params, run.loss, "o", color=_shade(run.flops, flops), ms=4.5, mec="white", mew=0.4, zorder=3)
    axes.plot([r.params for r in test.held_out], [r.loss for r in test.held_out], "D", **_HELD_OUT)
    _name_budgets(axes, view, budgets, curves)


def budgets_between(least: float, most: float) -> list[float]:
    """Budgets that end at the largest, evenly apart in logarithm.

    >>> [f"{budget:.0e}" for budget in budgets_between(1e17, 1e21)]
    ['1e+18', '1e+19', '1e+20', '1e+21']
    """
    decades = math.log10(most / least)
    step = max(LEAST_STEP, math.ceil(2 * decades / MOST_BUDGETS) / 2)
    return [most / 10 ** (i * step) for i in reversed(range(max(1, math.ceil(decades / step - 1e-9))))]


def _curve(law: FittedLaw, flops: float, view: View) -> tuple[Prediction, ...]:
    """The losses of C = 6 N D over N."""
    return law.predict([(n, flops / 6 / n) for n in view.spread(POINTS)])


def _usual(law: FittedLaw, flops: float, view: View) -> View:
    """The N that a budget is spent on: from the most tokens per parameter that anyone trains to the least fitted."""
    least_ratio = max(law.fit.options.least_ratio, 1.0)
    return View(
        max(view.least, math.sqrt(flops / 6 / FARTHEST_RATIO)),
        min(view.most, math.sqrt(flops / 6 / least_ratio)),
    )


def _band(axes: Axes, xs: Sequence[float], curve: Sequence[Prediction], colour: str) -> None:
    axes.plot(xs, [p.loss for p in curve], color=colour, linewidth=1.6, zorder=2.5)
    axes.fill_between(xs, [p.low_80 for p in curve], [p.high_80 for p in curve], color=colour, alpha=0.18, linewidth=0)


def _shade_below(axes: Axes, curve: Sequence[Prediction]) -> None:
    """Where a run has more compute than any fitted, by the law."""
    xs, losses = [p.params for p in curve], [p.loss for p in curve]
    axes.fill_between(xs, axes.get_ylim()[0], losses, gid="extrapolation", zorder=0.5, **_EXTRAPOLATED)
    _say_extrapolated(axes, 0.015, "more compute than any run fitted", "left")


def _say_extrapolated(axes: Axes, x: float, text: str, side: str) -> Text:
    return axes.text(x, 0.02, text, transform=axes.transAxes, ha=side, fontsize=9, color=style.INK[style.ORANGE])


def _name_budgets(axes: Axes, view: View, budgets: Sequence[float], curves: Sequence[Sequence[Prediction]]) -> None:
    """The compute of each curve where it ends, or where it leaves the axes."""
    low, high = axes.get_ylim()
    ends = [max((p for p in curve if p.loss <= high), key=lambda p: p.params, default=None) for curve in curves]
    seen = [(budget, end) for budget, end in zip(budgets, ends, strict=True) if end is not None]
    heights = style.keep_apart([(end.loss - low) / (high - low) for _, end in seen], LABEL_GAP, 1.0)
    for (budget, end), height in zip(seen, heights, strict=True):
        where = (view.share(end.params) + 0.012, height)
        text = f"{scientific(budget)} FLOP"
        axes.text(*where, text, transform=axes.transAxes, va="center", fontsize=9, color=style.DARK, zorder=5)


def _draw_frontier(axes: Axes, result: LawFit) -> None:
    """Loss at the best N against compute, the runs, what was asked for, and where the runs end."""
    law, most = result.law, result.law.fit.most_flops
    shown = [*(run.flops for run in (*law.fit.runs, *result.predicted)), result.flops]
    view = View(min(shown) / 1.5, max(shown) * 3)
    budgets = view.spread(POINTS)
    sizes = [best_params(law.fit, budget) for budget in budgets]
    curve = law.predict([(n, budget / 6 / n) for n, budget in zip(sizes, budgets, strict=True)])
    _loss_axes(axes, [run.loss for run in law.fit.runs], [*curve, *result.predictions])
    log_axis(axes, "x", view)
    axes.set_xticks(axes.get_xticks(), labels=[scientific(tick) for tick in axes.get_xticks()])
    axes.set_xlabel("C, training FLOP", color=style.DARK)
    head(axes, "What all runs say of a larger one", "line: loss at the best N for each C; dots: the runs, of any N")
    axes.axvspan(most, view.most, gid="extrapolation", zorder=0.5, **_EXTRAPOLATED)
    beyond = f"beyond the runs: {math.log10(view.most / most):.1f} decades"
    labels = Labels(axes)
    labels.avoid_text(_say_extrapolated(axes, 0.985, beyond, "right"))
    _band(axes, budgets, curve, style.BLUE)
    labels.avoid(budgets, [p.loss for p in curve])
    flops, losses = [run.flops for run in law.fit.runs], [run.loss for run in law.fit.runs]
    axes.plot(flops, losses, "o", color=style.SLATE, ms=4, mec="white", mew=0.4, zorder=3)
    labels.avoid(flops, losses)
    _draw_asked(axes, labels, result)


def _draw_asked(axes: Axes, labels: Labels, result: LawFit) -> None:
    """The optimum of the budget as a star, the runs asked for as squares, each with its 80% interval."""
    best = result.optimum
    points = [(result.flops, best.loss.value, best.loss.low_80, best.loss.high_80, best.params.value, "*")]
    for run, p in zip(result.predicted, result.predictions, strict=True):
        points.append((run.flops, p.loss, p.low_80, p.high_80, p.params, "s"))
    least, most = axes.get_ylim()
    points = [point for point in points if least <= point[1] <= most]  # a tiny run has a loss off any scale
    for i, (flops, loss, low, high, params, mark) in enumerate(points):
        colour = style.DARK if mark == "*" else style.VERMILION
        axes.plot([flops, flops], [low, high], color=colour, linewidth=1.4, zorder=5)
        axes.plot(flops, loss, mark, color=colour, markeredgecolor="white", ms=15 if mark == "*" else 7, zorder=6)
        if i <= MOST_NAMED:
            what = "best N" if mark == "*" else "N"
            text = f"{what} {short(params)}, D {short(flops / 6 / params)}\nloss {loss:.3f}, {low:.3f} to {high:.3f}"
            labels.put(text, (flops, loss), fontsize=9.5, color=style.INK.get(colour, colour), zorder=7)


def _loss_axes(axes: Axes, losses: Sequence[float], curves: Sequence[Prediction]) -> None:
    """An axis of losses that shows every run, and the curves as far as their bands are not absurd."""
    style.plain_axes(axes)
    least, most = min(*losses, *(p.loss for p in curves)), max(losses)
    span = max(most - least, 1e-3 * most)
    axes.set_ylim(max(0.0, least - 0.12 * span), most + 0.05 * span)
    axes.set_ylabel("loss, nats per token", color=style.DARK)
    axes.grid(axis="y", color=style.FAINT, linewidth=0.6)


def _shade(flops: float, all_flops: Sequence[float]) -> str:
    """Darker for more compute."""
    least, most = min(all_flops), max(all_flops)
    share = math.log(flops / least) / math.log(most / least) if least < most else 1.0
    return to_hex(_SHADES(share))


def _literal(text: str, most: int) -> str:
    """Text from a file, cut, its dollars not read as mathematics."""
    return shorten(text, most).replace("$", r"\$")


def scientific(value: float) -> str:
    """
    >>> scientific(1.2345e21), scientific(1e20)
    ('1.2e21', '1e20')
    """
    digits, power = f"{value:.1e}".split("e")
    return f"{digits.removesuffix('.0')}e{int(power)}"
