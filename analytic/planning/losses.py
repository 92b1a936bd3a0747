"""Which architecture of a family is best for so much compute and so much data, by a scaling law."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

from analytic.model.params import parameter_counts
from analytic.planning.architectures import (
    Candidate,
    Family,
    build,
    candidates,
    count_params,
    frontier,
    line,
    near,
)
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
    """A law, the architectures to choose from, counted as the law counts, and the data there are.

    Attributes:
        served_per_flop: how many tokens less are trained on for each FLOP of the compute, because the model is served.
        fixed: the architecture that is trained, whatever the law would choose.
    """

    law: ScalingLaw
    family: Family
    data: DataLimit
    served_per_flop: Fraction = Fraction(0)
    fixed: Candidate | None = None

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
        served = float(self.served_per_flop * compute_flops)
        best = optimum(self.law, float(compute_flops), cost or self.cost, self.data.unique, self.data.most, served)
        return best if self.enough is None or best.params < self.enough.params else self.enough

    def at(self, params: float, compute_flops: float) -> Allocation | None:
        """What the compute comes to at any N, smooth as the optimum is; None where it does not pay for a token."""
        tokens = compute_flops / self.cost.flops_per_token(params) - float(self.served_per_flop) * compute_flops
        if tokens < 1:
            return None
        tokens = min(tokens, self.data.most)
        return Allocation(params, tokens, self.law.loss(params, tokens, self.data.unique))

    def merit(self, candidate: Candidate, compute_flops: float) -> tuple[float, float, int]:
        """What to minimize: the share of the compute that is enough for the data, else the loss; of equals, N."""
        whole, served = compute_flops / candidate.flops_per_token, float(self.served_per_flop) * compute_flops
        if whole <= served:
            return _ALL_OF_IT, math.inf, candidate.params
        tokens = min(whole - served, self.data.most)
        loss = self.law.loss(candidate.params, tokens, self.data.unique)
        is_enough = self.enough is not None and loss <= self.enough.loss
        return (tokens + served) / whole if is_enough else _ALL_OF_IT, loss, candidate.params

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
        if self.fixed is not None:
            return self.fixed
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

    def affordable(self, candidate: Candidate, compute_flops: Fraction) -> int:
        """The tokens that the compute trains on, and serves the model with; below 0 where it cannot."""
        per_token = candidate.flops_per_token
        return tokens_from_compute(compute_flops * (1 - self.served_per_flop * per_token), per_token)

    def outcome(self, candidate: Candidate, compute_flops: Fraction) -> Outcome:
        """An architecture trained for as long as compute and data allow, in whole tokens."""
        tokens = self.data.clip(max(self.affordable(candidate, compute_flops), 0))
        loss = self.law.loss(candidate.params, max(tokens, 1), self.data.unique)
        return Outcome(candidate=candidate, tokens=tokens, loss=loss)


def objective(law: ScalingLaw, family: Family, data: DataLimit, served_per_flop: Fraction = Fraction(0)) -> Objective:
    """The family counted as the law counts."""
    counted = replace(family, params=LAW_MEASURE[law.n_means])
    return Objective(law=law, family=counted, data=data, served_per_flop=served_per_flop)


def of_size(goal: Objective, total_params: int) -> Objective:
    """The same with one architecture: that whose parameters, all of them, are nearest to so many."""
    found = near(total_params, replace(goal.family, params="total"))
    nearest = min(found.candidates, key=lambda c: abs(c.params - total_params))
    family = replace(goal.family, tied=found.family.tied)
    spec = build(family, nearest.hidden_size, nearest.layer, nearest.depth)
    counted = count_params(parameter_counts(spec), family.params)
    return replace(goal, family=family, fixed=nearest._replace(params=counted))
