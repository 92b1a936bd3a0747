"""Laws as a family of architectures needs them: with its number of experts, or as an architecture of the best size."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import assert_never

from analytic.planning.architectures import EXPERTS, Candidate, Kind, frontier, shapes
from analytic.planning.losses import Objective
from analytic.scaling.laws import AllocationLaw, Law, ScalingLaw


def of_family(law: Law, kind: Kind) -> ScalingLaw | AllocationLaw:
    """A law of models with experts as that of models with as many as the family has: one expert is a dense model."""
    if isinstance(law, ScalingLaw | AllocationLaw):
        return law
    return law.at(EXPERTS if kind == "moe" else 1)


def is_compared(law: Law, kind: Kind) -> bool:
    """Whether a plan shows a shipped law next to the one that is used: those with experts for such models alone."""
    if isinstance(law, ScalingLaw):
        return law.is_compared
    return isinstance(law, AllocationLaw) or kind == "moe"


def allocated(law: AllocationLaw, goal: Objective, compute_flops: Fraction) -> Candidate:
    """The architecture whose exact counts are nearest to what the law finds best for so much compute."""
    head = {shape.hidden_size: shape.flops_outside for shape in shapes(goal.family)}
    compute = float(compute_flops)

    def distance(candidate: Candidate) -> float:
        tokens = compute / candidate.flops_per_token
        match law.quantity:
            case "tokens":
                return abs(math.log(tokens / law.best(compute)))
            case "flops_per_token":
                without_head = candidate.flops_per_token - head[candidate.hidden_size]
                return abs(math.log(without_head / law.best(without_head * tokens)))
            case _:
                assert_never(law.quantity)

    return min(frontier(goal.family), key=distance)
