"""The loss over N and D by the law that is used, what the budget pays for, and where the law was fitted."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from matplotlib.axes import Axes

from analytic.planning.budget import DataLimit
from analytic.planning.forward import Plan
from analytic.report import plot_style as style
from analytic.report.plot_panels import View, budget_text, draw_star, head, log_axis, name_of
from analytic.report.plot_style import Labels, short
from analytic.scaling.laws import ScalingLaw

POINTS = 160
GRID = 80
LEVELS = 8
AROUND = 12.0  # the contours show so many times less and more than the plan's N and D
INTO_FITTED = 6.0  # how far they go into the fitted range where the plan is beyond it
OWN_LABEL = 0.87  # where the contour of the plan's own loss is labelled, likewise
NEAR_PLAN = 0.09  # no contour's label is nearer to the plan, in widths of the axes


def draw_contours(axes: Axes, plan: Plan) -> None:
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
    goal, compute = replace(plan.request.goal(plan.option), data=DataLimit()), float(plan.compute_flops)
    budget = [made for n in sizes.spread(POINTS) if (made := goal.at(n, compute)) is not None]
    seen = [(made.params, made.tokens) for made in budget if lengths.least <= made.tokens <= lengths.most]
    axes.plot(*zip(*seen, strict=True), color=style.DARK, linewidth=1.8)
    labels.avoid(*zip(*seen, strict=True))
    _along(axes, labels, f"{budget_text(plan)} pay for this N and D", seen)
    _draw_data_limits(axes, labels, plan, sizes, lengths)
    draw_star(axes, labels, plan, (params, tokens))


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
    log_axis(axes, "x", sizes)
    log_axis(axes, "y", lengths)
    axes.set_xlabel(f"N, {_counted(plan)}", color=style.DARK)
    axes.set_ylabel("D, tokens", color=style.DARK)
    head(axes, f"Loss over N and D by {name_of(law)}", _beyond(plan))


def _counted(plan: Plan) -> str:
    """What N counts in the law that is used."""
    active = "active " if plan.params.active != plan.params.total else ""
    without = " without tables and head" if plan.request.law.n_means == "non_embedding" else ""
    return f"{active}parameters{without}"


def _beyond(plan: Plan) -> str:
    """Where the plan is outside of what the law was fitted on."""
    law, names = plan.request.law, {"params": "N", "tokens": "D", "flops": "C", "experts": "experts"}
    if not law.fitted:
        return f"what {name_of(law)} was fitted on is not stated"
    outside = [
        f"{names[each.quantity]} {_times(each.value / each.most)}"
        if each.value > each.most
        else f"{names[each.quantity]} {_times(each.least / each.value)} below"
        for each in law.outside(plan.outcome.candidate.params, plan.outcome.tokens, plan.used_flops)
    ]
    if not outside:
        return f"the plan is within what {name_of(law)} was fitted on"
    return f"the plan is beyond what {name_of(law)} was fitted on: {', '.join(outside)}"


def _times(ratio: float) -> str:
    """
    >>> _times(8.2901), _times(202_345)
    ('8.29x', '202,000x')
    """
    return f"{float(f'{ratio:.3g}'):,g}x"


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
    text = f"{name_of(law)} was fitted here"
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
