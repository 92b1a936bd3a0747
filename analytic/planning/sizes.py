"""What the same money comes to at other sizes, and what serving a model costs."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from analytic.planning.losses import Objective
from analytic.planning.market import Option
from analytic.planning.serving import TRAINING_OVER_FORWARD, Serving
from analytic.scaling.optimum import Allocation, least_compute

SIZES = (0.125, 0.25, 0.5, 0.7, 1.0, 1.4, 2.0, 4.0, 8.0)  # of the best N


@dataclass(frozen=True, slots=True)
class Size:
    """An N, what the budget trains it on, its loss, and the part of the budget that serves it."""

    params: float
    tokens: float
    loss: float
    served_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What serving the model of a plan costs.

    Attributes:
        usd, share: for all of its tokens, in money and of the budget.
        trained_alone: what reaches the optimum's loss with the least training, of whatever data.
        more_usd: how much more money that one takes for training and serving, as a share; both are smooth optima.
    """

    serving: Serving
    usd: Fraction
    share: float
    trained_alone: Allocation
    more_usd: float


def curve(goal: Objective, best_params: float, compute_flops: Fraction) -> tuple[Size, ...]:
    """The loss of the budget at sizes around the best, without those that it does not pay for."""
    sizes = []
    for factor in SIZES:
        params = factor * best_params
        made = goal.at(params, float(compute_flops))
        if made is not None:
            share = float(goal.served_per_flop) * goal.cost.flops_per_token(params)
            sizes.append(Size(made.params, made.tokens, made.loss, share))
    return tuple(sizes)


def served(
    goal: Objective, serving: Serving, option: Option, flops_per_token: int, optimum: Allocation, compute: Fraction
) -> Served:
    """What serving costs, next to the model that would be chosen if nobody used it."""
    forward = Fraction(flops_per_token, TRAINING_OVER_FORWARD)
    flops, alone = least_compute(goal.law, optimum.loss, goal.cost)
    budget = float(compute)
    whole = flops + float(goal.served_per_flop) * budget * goal.cost.flops_per_token(alone.params)
    return Served(
        serving=serving,
        usd=serving.tokens * forward * serving.usd_per_flop(option),
        share=float(goal.served_per_flop * flops_per_token),
        trained_alone=alone,
        more_usd=whole / budget - 1,
    )
