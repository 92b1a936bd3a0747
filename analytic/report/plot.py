"""A plan as a picture: the loss of what the budget pays for, and the loss over N and D.

matplotlib is imported by the modules of pictures alone, and those only for `--plot`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle, islice
from textwrap import shorten

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from analytic.planning.assumptions import BAND_NATS
from analytic.planning.budget import Dollars
from analytic.planning.forward import Plan
from analytic.planning.losses import objective
from analytic.report import plot_style as style
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
GRID = 80
LEVELS = 8
AROUND = 12.0  # the contours show so many times less and more than the plan's N and D
INTO_FITTED = 6.0  # how far they go into the fitted range where the plan is beyond it
ROOM_BELOW = 0.3  # of the range of the losses, for what is written below the curves
LABEL_GAP = 0.045  # between the names of two laws, in heights of the axes
OWN_LABEL = 0.87  # where the contour of the plan's own loss is labelled, likewise
NEAR_PLAN = 0.09  # no contour's label is nearer to the plan, in widths of the axes
MOST_CHARACTERS = 150
MOST_OF_NAME = 18


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


def picture_of(plan: Plan, kind: str) -> bytes:
    """Loss against N along the budget's frontier for each law, and loss contours over N and D, as png or svg."""
    return style.bytes_of(plan_figure(plan), kind)


def _budget(plan: Plan) -> str:
    budget = plan.request.budget
    if isinstance(budget, Dollars):
        return f"{short(budget.usd)} USD"
    return f"{short(budget.num_gpus * budget.hours)} GPU-hours"


def plan_figure(plan: Plan) -> Figure:
    """The picture, before it is written in some format."""
    figure = style.new_figure(13, 6.4)
    params, gpu, mfu = plan.params, plan.option.gpu, plan.option.mfu
    active = "" if params.active == params.total else f" ({short(params.active)} active)"
    model = f"{short(params.total)} parameters{active}, {short(plan.outcome.tokens)} tokens"
    title = f"{_budget(plan)} on {gpu.name}: {model}, loss {plan.outcome.loss:.3f}"
    figure.text(0.02, 0.93, title, fontsize=15, weight="bold", color=style.DARK)
    spent = f"C = {_scientific(float(plan.compute_flops))} FLOP at an MFU of {mfu.value:.1%}, {mfu.origin}"
    figure.text(0.02, 0.89, shorten(spent, MOST_CHARACTERS), fontsize=10, color=style.QUIET)
    _draw_frontier(figure.add_axes((0.06, 0.1, 0.325, 0.69)), plan)
    _draw_contours(figure.add_axes((0.61, 0.1, 0.37, 0.69)), plan)
    return figure


def _draw_frontier(axes: Axes, plan: Plan) -> None:
    """Loss against N for each law, where D is what the budget pays for."""
    outcome, band = plan.outcome, plan.sensitivity.band
    star = outcome.candidate.params, outcome.loss
    least, most = band or (star[0], star[0])
    view = View(min(least, star[0]) / 3, max(most, star[0]) * 3)
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
    _draw_star(axes, labels, plan, star)


def _curves(plan: Plan, view: View) -> list[Curve]:
    """The law that is used first, then the others in their order."""
    used = plan.request.law
    others = [each for each in plan.sensitivity.laws if each[0].name != used.name]
    sizes, compute, data = view.spread(POINTS), float(plan.compute_flops), plan.request.data
    curves = []
    for (law, optimum), drawn in zip(
        [(used, plan.optimum), *others], (USED, *islice(cycle(OTHERS), len(others))), strict=True
    ):
        cost = objective(law, plan.request.family, plan.request.data).cost
        tokens = [min(compute / cost.flops_per_token(n), data.most) for n in sizes]
        losses = [law.loss(n, d, data.unique) for n, d in zip(sizes, tokens, strict=True)]
        curves.append(Curve(law, optimum, sizes, losses, *drawn))
    return curves


def _frontier_axes(axes: Axes, plan: Plan, view: View, curves: list[Curve]) -> Labels:
    """Every curve is seen at its right end, where its name is, and around its optimum."""
    style.plain_axes(axes)
    least = min(min(curve.losses) for curve in curves)
    most = max(max(curve.losses[-1], curve.optimum.loss) for curve in curves)
    most = max(most, curves[0].losses[0])
    span = max(most - least, 1e-3 * abs(most))
    axes.set_ylim(least - ROOM_BELOW * span, most + 0.08 * span)
    _log_axis(axes, "x", view)
    axes.set_xlabel("N, parameters as each law counts them", color=style.DARK)
    axes.set_ylabel("loss, nats per token", color=style.DARK)
    _head(
        axes, "Loss of what the budget pays for", "D is what the budget pays for at each N; dots: the best N of a law"
    )
    axes.grid(axis="y", color=style.FAINT, linewidth=0.6)
    return Labels(axes)


def _head(axes: Axes, title: str, below: str) -> None:
    axes.set_title(title, loc="left", fontsize=11.5, pad=24, color=style.DARK)
    axes.text(0, 1.03, below, transform=axes.transAxes, fontsize=9, color=style.QUIET)


def _name(law: ScalingLaw) -> str:
    return law.name if len(law.name) <= MOST_OF_NAME else f"{law.name[: MOST_OF_NAME - 1]}…"


def _name_laws(axes: Axes, plan: Plan, curves: list[Curve]) -> None:
    """The name of each law to the right of its curve, with the N that it finds best."""
    low, high = axes.get_ylim()
    ends = [(curve.losses[-1] - low) / (high - low) for curve in curves]
    for curve, end, height in zip(curves, ends, style.keep_apart(ends, LABEL_GAP, 1.0), strict=True):
        is_used = curve.law is plan.request.law
        axes.annotate(
            f"{_name(curve.law)}{', used' if is_used else ''}: N {short(curve.optimum.params)}",
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
        return _write_below(axes, 0.5, 0.035, f"the N that {_name(law)} was fitted on is not stated", style.QUIET)
    least, most = law.fitted["params"]
    left, right = (min(max(view.share(value), 0.0), 1.0) for value in (least, most))
    if left < right:
        axes.plot([left, right], [0.02, 0.02], color=style.QUIET, linewidth=3, transform=axes.transAxes)
    before = "← " if least < view.least else ""
    after = " →" if most > view.most else ""
    text = f"{before}{_name(law)} was fitted on {short(least)} to {short(most)}{after}"
    return _write_below(axes, (left + right) / 2, 0.035, text, style.QUIET)


def _write_below(axes: Axes, x: float, height: float, text: str, colour: str) -> Text:
    """A line of text centered at a share of the width, as far as it stays within the axes."""
    return axes.text(
        min(max(x, 0.31), 0.69), height, text, transform=axes.transAxes, ha="center", color=colour, fontsize=9
    )


def _draw_star(axes: Axes, labels: Labels, plan: Plan, at: tuple[float, float]) -> None:
    """The designed model with its figures."""
    axes.plot(*at, "*", color=style.DARK, markeredgecolor="white", markersize=17, zorder=6)
    candidate, tokens = plan.outcome.candidate, plan.outcome.tokens
    text = f"N {short(candidate.params)}\nD {short(tokens)}\nloss {plan.outcome.loss:.3f}"
    labels.put(text, at, fontsize=10, weight="bold", color=style.DARK, zorder=7)


def _draw_contours(axes: Axes, plan: Plan) -> None:
    """The loss that the law predicts of every N and D, and which of them the budget pays for."""
    law, data = plan.request.law, plan.request.data
    params, tokens = plan.outcome.candidate.params, plan.outcome.tokens
    sizes, lengths = _view(params, law.fitted.get("params")), _view(tokens, law.fitted.get("tokens"))
    _contour_axes(axes, plan, sizes, lengths)
    labels = Labels(axes)

    def loss(n: float, d: float) -> float:
        return law.loss(n, d, data.unique)

    _shade_fitted(axes, labels, law, sizes, lengths)
    _contour_lines(axes, labels, (sizes, lengths), loss, (params, tokens), plan.outcome.loss)
    cost, compute = objective(law, plan.request.family, plan.request.data).cost, float(plan.compute_flops)
    budget = [(n, compute / cost.flops_per_token(n)) for n in sizes.spread(POINTS)]
    seen = [(n, d) for n, d in budget if lengths.least <= d <= lengths.most]
    axes.plot(*zip(*seen, strict=True), color=style.DARK, linewidth=1.8)
    labels.avoid(*zip(*seen, strict=True))
    _along(axes, labels, f"{_budget(plan)} pay for this N and D", seen)
    _draw_data_limits(axes, labels, plan, sizes, lengths)
    _draw_star(axes, labels, plan, (params, tokens))


def _view(planned: float, fitted: tuple[float, float] | None) -> View:
    """Around the plan, and so far that the fitted range comes into view."""
    least, most = planned / AROUND, planned * AROUND
    if fitted is not None:
        least = min(least, max(fitted[0], fitted[1] / INTO_FITTED))
        most = max(most, min(fitted[1], fitted[0] * INTO_FITTED))
    return View(least, most)


def _contour_axes(axes: Axes, plan: Plan, sizes: View, lengths: View) -> None:
    law = plan.request.law
    style.plain_axes(axes)
    _log_axis(axes, "x", sizes)
    _log_axis(axes, "y", lengths)
    axes.set_xlabel(f"N, {_counted(plan)}", color=style.DARK)
    axes.set_ylabel("D, tokens", color=style.DARK)
    _head(axes, f"Loss over N and D by {_name(law)}", _beyond(plan))


def _counted(plan: Plan) -> str:
    """What N counts in the law that is used."""
    active = "active " if plan.params.active != plan.params.total else ""
    without = " without tables and head" if plan.request.law.n_means == "non_embedding" else ""
    return f"{active}parameters{without}"


def _beyond(plan: Plan) -> str:
    """Where the plan is outside of what the law was fitted on."""
    law, names = plan.request.law, {"params": "N", "tokens": "D", "flops": "C"}
    if not law.fitted:
        return f"what {_name(law)} was fitted on is not stated"
    outside = [
        f"{names[each.quantity]} {short(each.value / each.most)}x"
        if each.value > each.most
        else f"{names[each.quantity]} {short(each.least / each.value)}x below"
        for each in plan.extrapolations
    ]
    if not outside:
        return f"the plan is within what {_name(law)} was fitted on"
    return f"the plan is beyond what {_name(law)} was fitted on: {', '.join(outside)}"


def _shade_fitted(axes: Axes, labels: Labels, law: ScalingLaw, sizes: View, lengths: View) -> None:
    """The rectangle of N and D that the law was fitted on; a strip where only one of the two is stated."""
    if "params" not in law.fitted and "tokens" not in law.fitted:
        return
    (left, right), (low, high) = (
        (max(fitted[0], view.least), min(fitted[1], view.most))
        for fitted, view in (
            (law.fitted.get("params", (0, math.inf)), sizes),
            (law.fitted.get("tokens", (0, math.inf)), lengths),
        )
    )
    outline = [(left, low), (right, low), (right, high), (left, high)]
    axes.fill(*zip(*outline, strict=True), facecolor=style.ORANGE, alpha=0.16, linewidth=0, gid="fitted N and D")
    text = f"{_name(law)} was fitted here"
    labels.avoid_text(style.beside(axes, text, (left, low), (5, 4), color=style.INK[style.ORANGE]))


def _contour_lines(
    axes: Axes,
    labels: Labels,
    views: tuple[View, View],
    loss: Callable[[float, float], float],
    plan_at: tuple[float, float],
    plan_loss: float,
) -> None:
    """Lines of equal loss at round values, named along the diagonal; the plan's own is dashed."""
    sizes, lengths = views
    n, d = sizes.spread(GRID), lengths.spread(GRID)
    grid = [[loss(each, tokens) for each in n] for tokens in d]
    star = sizes.share(plan_at[0]), lengths.share(plan_at[1])
    places = {}
    for level in _round_levels([loss(sizes.at(t), lengths.at(t)) for t in (i / LEVELS for i in range(LEVELS + 1))]):
        share = _falls_to(lambda t: loss(sizes.at(t), lengths.at(t)), level)
        is_far = math.hypot(share - star[0], share - star[1]) > NEAR_PLAN
        if is_far and round(level, 2) != round(plan_loss, 2):
            places[level] = (sizes.at(share), lengths.at(share))
    if places:
        drawn = axes.contour(n, d, grid, levels=sorted(places), colors=style.SLATE, linewidths=0.9)
        for text in axes.clabel(drawn, fmt=short_loss, fontsize=9, colors=style.SLATE, manual=list(places.values())):
            text.set_bbox(style.HALO)
            labels.avoid_text(text)
    if min(map(min, grid)) < plan_loss < max(map(max, grid)):
        own = axes.contour(n, d, grid, levels=[plan_loss], colors=style.BLUE, linewidths=1.6, linestyles="--")
        xs, ys = zip(*(point for part in own.allsegs[0] for point in part), strict=True)
        labels.avoid(xs, ys)
        named = max((x, y) for x, y in zip(xs, ys, strict=True) if sizes.share(x) < OWN_LABEL)
        for text in axes.clabel(own, fmt=f"{plan_loss:.3f}", fontsize=9, manual=[named]):
            labels.avoid_text(text)


def short_loss(loss: float) -> str:
    """
    >>> short_loss(1.9), short_loss(1.925)
    ('1.90', '1.925')
    """
    return f"{loss:.3f}".removesuffix("0")


def _round_levels(losses: list[float]) -> list[float]:
    """The losses in between, to as few digits as tell them apart.

    >>> _round_levels([2.1234, 2.0567, 1.9876, 1.9]), _round_levels([1, 1, 1])
    ([2.06, 1.99], [])
    """
    for digits in (2, 3):
        levels = list(dict.fromkeys(round(loss, digits) for loss in losses[1:-1]))
        if len(levels) == len(losses) - 2:
            break
    return [level for level in levels if losses[-1] < level < losses[0]]


def _falls_to(falling: Callable[[float], float], level: float) -> float:
    """Where between 0 and 1 a falling function comes to a level."""
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > level else (low, middle)
    return low


def _along(axes: Axes, labels: Labels, text: str, line: list[tuple[float, float]]) -> None:
    """A name below the first part of a falling line, turned as the line is."""
    (x0, y0), (x1, y1) = axes.transData.transform([line[0], line[len(line) // 2]])
    angle = math.degrees(math.atan2(y1 - y0, x1 - x0))
    at = line[len(line) // 4]
    turned = {"rotation": angle, "rotation_mode": "anchor", "ha": "center", "va": "top"}
    labels.avoid_text(style.beside(axes, text, at, (-4, -5), **turned))


def _draw_data_limits(axes: Axes, labels: Labels, plan: Plan, sizes: View, lengths: View) -> None:
    """One epoch of the data, and the most that may be taken."""
    data = plan.request.data
    limits = {data.unique: "one epoch"} | ({data.most: f"{data.max_epochs:g} epochs"} if data.max_epochs else {})
    for limit, name in limits.items():
        if lengths.least < limit < lengths.most:
            axes.axhline(limit, color=style.VERMILION, linestyle=(0, (4, 2)), linewidth=1.3)
            labels.avoid(sizes.spread(POINTS), [limit] * POINTS)
            text = f"{name}: {short(limit)}"
            labels.avoid_text(style.beside(axes, text, (sizes.least, limit), (4, 3), color=style.INK[style.VERMILION]))


def _log_axis(axes: Axes, which: str, view: View) -> None:
    axis = axes.xaxis if which == "x" else axes.yaxis
    axes.set(**{f"{which}scale": "log", f"{which}lim": (view.least, view.most)})
    style.log_ticks(axis, view.least, view.most)


def _scientific(value: float) -> str:
    """
    >>> _scientific(5.616e23)
    '5.62e23'
    """
    return f"{value:.2e}".replace("e+", "e")
