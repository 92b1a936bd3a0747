"""Which architecture of a family is best for so much compute and so much data, by a scaling law."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

from analytic.planning.architectures import Candidate, Family, candidates, frontier, line
from analytic.planning.assumptions import BAND_NATS, LAW_MEASURE, LEAST_TOKENS_PER_PARAM, PREFERENCE, TOLERANCE
from analytic.planning.budget import DataLimit, tokens_from_compute
from analytic.scaling.laws import ScalingLaw
from analytic.scaling.optimum import Allocation, Cost, enough_params, optimum

_ALL_OF_IT = 2.0  # above every share of the compute


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One architecture, trained for as long as compute and data allow."""

    candidate: Candidate
    tokens: int
    loss: float


@dataclass(frozen=True, kw_only=True)
class Objective:
    """A law, the architectures to choose from, counted as the law counts, and the data there are."""

    law: ScalingLaw
    family: Family
    data: DataLimit

    @cached_property
    def cost(self) -> Cost:
        return line(self.family)

    @cached_property
    def front(self) -> Sequence[Candidate]:
        """The architectures of which one is the best, whatever the compute."""
        return frontier(self.family)

    @cached_property
    def enough(self) -> Allocation | None:
        """Where limited data are used up: more parameters would gain less than 0.005 nats of what they allow.

        None where the data have no end.
        """
        most, unique = self.data.most, self.data.unique
        if math.isinf(most):
            return None
        params = enough_params(
            self.law, most, unique, self.cost, tokens_per_param=LEAST_TOKENS_PER_PARAM, nats=BAND_NATS
        )
        return Allocation(params, most, self.law.loss(params, most, unique))

    def optimum(self, compute_flops: Fraction, cost: Cost | None = None) -> Allocation:
        """The smooth optimum, and no larger than the data are worth."""
        best = optimum(self.law, float(compute_flops), cost or self.cost, self.data.unique, self.data.most)
        return best if self.enough is None or best.params < self.enough.params else self.enough

    def merit(self, candidate: Candidate, compute_flops: float) -> tuple[float, float, int]:
        """What to minimize: the share of the compute that is enough for the data, else the loss; of equals, N."""
        affordable = compute_flops / candidate.flops_per_token
        tokens = min(affordable, self.data.most)
        loss = self.law.loss(candidate.params, tokens, self.data.unique)
        is_enough = self.enough is not None and loss <= self.enough.loss
        return tokens / affordable if is_enough else _ALL_OF_IT, loss, candidate.params

    def loss(self, candidate: Candidate, compute_flops: float) -> float:
        """Of an architecture that is trained for as long as compute and data allow."""
        return self.merit(candidate, compute_flops)[1]

    def best(self, compute_flops: Fraction) -> Candidate:
        """The least loss of the family; of equals, the smallest."""
        compute = float(compute_flops)
        return min(self.front, key=lambda c: self.merit(c, compute)[1:])

    def choose(self, compute_flops: Fraction) -> Candidate:
        """The cheapest that is enough for the data, else by the loss.

        An architecture within 1% of the optimum's N is preferred, unless 0.1% less compute buys the best of
        the family a lower loss: so more compute, by as much, is never worse.
        """
        compute = float(compute_flops)
        best = min(self.front, key=lambda c: self.merit(c, compute))
        if self.merit(best, compute)[0] < _ALL_OF_IT:
            return best
        reduced = compute * float(1 - PREFERENCE)
        worst = min(self.loss(c, reduced) for c in self.front)
        target = self.optimum(compute_flops).params
        near = [c for c in candidates(self.family) if abs(c.params - target) <= TOLERANCE * target]
        preferred = min(near, key=lambda c: self.merit(c, compute), default=best)
        return preferred if self.loss(preferred, compute) <= worst else best

    def outcome(self, candidate: Candidate, compute_flops: Fraction) -> Outcome:
        """An architecture trained for as long as compute and data allow, in whole tokens."""
        tokens = self.data.clip(tokens_from_compute(compute_flops, candidate.flops_per_token))
        loss = self.law.loss(candidate.params, max(tokens, 1), self.data.unique)
        return Outcome(candidate=candidate, tokens=tokens, loss=loss)


def objective(law: ScalingLaw, family: Family, data: DataLimit) -> Objective:
    """The family counted as the law counts."""
    return Objective(law=law, family=replace(family, params=LAW_MEASURE[law.n_means]), data=data)
