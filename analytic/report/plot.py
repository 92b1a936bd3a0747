"""A plan as a picture. The only module that imports matplotlib, and only `--plot` imports it."""

from __future__ import annotations

import io
import math
from itertools import cycle

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from analytic.planning.assumptions import BAND_NATS
from analytic.planning.budget import Dollars
from analytic.planning.forward import Plan
from analytic.planning.losses import objective
from analytic.scaling.laws import ScalingLaw
from analytic.scaling.optimum import Cost

# Okabe and Ito's colours, told apart in every common colour vision; dashes tell the lines apart in grey.
STYLES = (
    ("#0072B2", "-"),
    ("#D55E00", "--"),
    ("#009E73", "-."),
    ("#CC79A7", ":"),
    ("#E69F00", (0, (5, 1, 1, 1, 1, 1))),
    ("#56B4E9", (0, (1, 1))),
)
POINTS = 160
GRID = 70
ABOVE_OPTIMUM_NATS = 0.06
PLAN = "#000000"


def picture_of(plan: Plan, kind: str) -> bytes:
    """Loss against N along the budget's frontier for each law, and loss contours over N and D, as png or svg."""
    figure = Figure(figsize=(13, 6), layout="constrained")
    frontier, contours = figure.subplots(1, 2)
    _frontier(frontier, plan)
    _contours(contours, plan)
    budget = plan.request.budget
    spent = (
        f"{budget.usd:,.0f} USD" if isinstance(budget, Dollars) else f"{budget.hours:,g} hours of {budget.num_gpus:,}"
    )
    usd = f"{spent} {'on' if isinstance(budget, Dollars) else 'x'} {plan.option.gpu.name}"
    mfu = f"MFU {plan.option.mfu.value:.1%}, {plan.option.mfu.origin}"
    figure.suptitle(f"{usd}: C = {float(plan.compute_flops):.3g} FLOP; {mfu}")
    picture = io.BytesIO()
    figure.savefig(picture, format=kind, dpi=160)
    return picture.getvalue()


def _frontier(axes: Axes, plan: Plan) -> None:
    sensitivity, outcome = plan.sensitivity, plan.outcome
    least, most = sensitivity.band or (plan.optimum.params, plan.optimum.params)
    sizes = _spread(least / 3, most * 3, POINTS)
    top = 0.0
    for (law, optimum), (colour, dashes) in zip(sensitivity.laws, cycle(STYLES), strict=False):
        cost = objective(law, plan.request.family, plan.request.data).cost
        losses = [_loss(plan, law, cost, n) for n in sizes]
        axes.plot(sizes, losses, color=colour, linestyle=dashes, label=law.name)
        axes.plot(optimum.params, optimum.loss, marker="o", color=colour, markersize=6)
        top = max(top, optimum.loss + ABOVE_OPTIMUM_NATS)
    band = f"within {BAND_NATS} nats ({plan.request.law.name})"
    axes.axvspan(least, most, color="#999999", alpha=0.22, linewidth=0, label=band)
    axes.plot(
        outcome.candidate.params, outcome.loss, "*", color=PLAN, markersize=14, linestyle="none", label="designed model"
    )
    axes.plot([], [], "o", color="#666666", label="optimum of each law")
    axes.set(ylabel="loss, nats per token")
    _params_axis(axes, sizes)
    axes.set_ylim(top=top)
    axes.set_title("Loss along the budget's frontier, D = C / f(N)")
    axes.grid(visible=True, which="major", alpha=0.3)
    _legend_below(axes, columns=4)


def _contours(axes: Axes, plan: Plan) -> None:
    outcome, data = plan.outcome, plan.request.data
    law, optimum = plan.request.law, plan.optimum
    sizes = _spread(optimum.params / 12, optimum.params * 12, GRID)
    tokens = _spread(optimum.tokens / 12, optimum.tokens * 12, GRID)
    losses = [[law.loss(n, d, data.unique) for n in sizes] for d in tokens]
    levels = [outcome.loss + step for step in (-0.15, -0.1, -0.06, -0.03, 0, 0.03, 0.06, 0.1, 0.15, 0.25, 0.4)]
    _params_axis(axes, sizes)  # before the contours: their labels need the final scale
    axes.set(yscale="log", ylabel="D, tokens")
    axes.set_ylim(tokens[0], tokens[-1])
    drawn = axes.contour(sizes, tokens, losses, levels=levels, cmap="cividis", linewidths=1.1)
    axes.clabel(drawn, fmt="%.3f", fontsize=8)
    cost = objective(law, plan.request.family, plan.request.data).cost
    compute = float(plan.compute_flops)
    budget = [compute / cost.flops_per_token(n) for n in sizes]
    axes.plot(sizes, budget, color=PLAN, linewidth=1.8, label="what the budget pays for")
    axes.plot(
        outcome.candidate.params,
        outcome.tokens,
        "*",
        color=PLAN,
        markersize=14,
        linestyle="none",
        label="designed model",
    )
    for limit, name, dashes in ((data.unique, "one epoch", ":"), (data.most, "most epochs", "--")):
        if not math.isinf(limit):
            axes.axhline(limit, color="#D55E00", linestyle=dashes, label=name)
    axes.set_title(f"Loss in nats per token, {law.name}")
    _legend_below(axes, columns=2)


def _params_axis(axes: Axes, sizes: list[float]) -> None:
    axes.set(xscale="log", xlabel="N, parameters as the law counts them")
    axes.set_xlim(sizes[0], sizes[-1])
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n / 1e9:g} B"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _legend_below(axes: Axes, *, columns: int) -> None:
    axes.legend(fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=columns, frameon=False)


def _loss(plan: Plan, law: ScalingLaw, cost: Cost, params: float) -> float:
    data = plan.request.data
    tokens = min(float(plan.compute_flops) / cost.flops_per_token(params), data.most)
    return law.loss(params, tokens, data.unique)


def _spread(least: float, most: float, count: int) -> list[float]:
    """`count` values from least to most, even in logarithm."""
    step = math.log(most / least) / (count - 1)
    return [least * math.exp(step * i) for i in range(count)]
