"""The 80 and 95% intervals of a plan by a law that states its own error."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from analytic.planning.losses import Objective, Outcome
from analytic.scaling.fitted_plan import (
    FARTHEST_USEFUL_DECADES,
    Interval,
    loss_interval,
    plan_with_intervals,
    predictive,
)
from analytic.scaling.optimum import at_ratio
from analytic.scaling.runs import Run

CHINCHILLA_RATIO = 20  # tokens per parameter: arXiv:2203.15556, table 3


@dataclass(frozen=True, slots=True)
class PlanIntervals:
    """How sure a plan is.

    Attributes:
        params, tokens: of the best N and D of the compute; None where something else decides them: the data, or a
            size that was asked for. N is all parameters, in the plan's proportion to those that the law counts.
        decades_beyond: of compute beyond the largest run of the law; 0 within.
        chinchilla: (N as the law counts, D) of D = 20 N, which is the better choice far beyond the runs.
    """

    params: Interval | None
    tokens: Interval | None
    loss: Interval
    decades_beyond: float
    chinchilla: tuple[float, float]

    @property
    def too_far(self) -> bool:
        return self.decades_beyond > FARTHEST_USEFUL_DECADES


def plan_intervals(
    goal: Objective, outcome: Outcome, total_params: int, compute_flops: Fraction, *, is_law_free: bool
) -> PlanIntervals | None:
    """Of an outcome whose architecture has `total_params`; None where the law states no error.

    Args:
        is_law_free: whether the law alone decides N and D.
    """
    law = predictive(goal.law)
    if law is None:
        return None
    candidate, compute = outcome.candidate, float(compute_flops)
    worth = float(goal.law.worth(outcome.tokens, goal.data.unique))  # an integer may be larger than numpy's
    used = outcome.tokens * candidate.flops_per_token
    trained = Run(float(candidate.params), worth, loss=1.0, flops_per_token=used / worth)
    params = tokens = None
    if is_law_free:
        best = plan_with_intervals(law, compute, goal.cost)
        params, tokens = _scaled(best.params, total_params / candidate.params), best.tokens
    return PlanIntervals(
        params=params,
        tokens=tokens,
        loss=loss_interval(law.predict_runs([trained])[0]),
        decades_beyond=max(math.log10(used / law.fit.most_flops), 0.0),
        chinchilla=at_ratio(compute, goal.cost, CHINCHILLA_RATIO),
    )


def _scaled(one: Interval, factor: float) -> Interval:
    bounds = (one.value, one.low_80, one.high_80, one.low_95, one.high_95)
    return Interval(*(factor * bound for bound in bounds))
