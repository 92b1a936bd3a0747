"""How a compute budget is best split between parameters and tokens."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from analytic.scaling.laws import ScalingLaw


@dataclass(frozen=True, slots=True)
class Allocation:
    """How a compute budget is split: parameters (as the law counts them), tokens, and the loss."""

    params: float
    tokens: float
    loss: float


@dataclass(frozen=True, slots=True)
class CostCurve:
    """Training FLOPs per token as a smooth function of N: 6 N + k N^p.

    k = 0 is C = 6 N D (arXiv:2001.08361, section 2.1); p = 0 a constant attention term; p = 2/3 the
    attention of models of one depth-to-width ratio.
    """

    k: float = 0.0
    p: float = 0.0

    def flops_per_token(self, params: float) -> float:
        return float(6 * params + self.k * params**self.p)

    def elasticity(self, params: float) -> float:
        """d ln f / d ln N."""
        return float((6 * params + self.p * self.k * params**self.p) / self.flops_per_token(params))


@dataclass(frozen=True, slots=True)
class TabledCost:
    """Training FLOPs per token between exact points (N, f) of rising N: a straight line in logarithms."""

    points: Sequence[tuple[float, float]]

    def flops_per_token(self, params: float) -> float:
        (n, f), _ = self._segment(params)
        return float(f * (params / n) ** self.elasticity(params))

    def elasticity(self, params: float) -> float:
        (n, f), (next_n, next_f) = self._segment(params)
        return math.log(next_f / f) / math.log(next_n / n)

    def _segment(self, params: float) -> tuple[tuple[float, float], tuple[float, float]]:
        """The points around N; beyond the table its first or last two."""
        after = min(max(1, bisect_right(self.points, (params, math.inf))), len(self.points) - 1)
        return self.points[after - 1], self.points[after]


_LOG_FARTHEST = 300.0  # of N: where a law that hardly depends on N and D has its optimum, cut where floats hold it
_MOST_COMPUTE = 1e60  # far beyond what brings any law within rounding of its E
Cost = CostCurve | TabledCost
SIX_N = CostCurve()


def closed_form(law: ScalingLaw, compute_flops: float) -> Allocation:
    """The optimum of C = 6 N D with unlimited data: N = G (C/6)^(beta / (alpha + beta)) (arXiv:2203.15556, eq. 4).

    >>> from analytic.scaling.law_file import load_law
    >>> allocation = closed_form(load_law("exercise"), 5.616e23)
    >>> round(allocation.params), round(allocation.tokens)
    (47476210890, 1971513695914)
    """
    scale = compute_flops / 6
    ratio = math.exp(min(max(law.log_ratio, -_LOG_FARTHEST), _LOG_FARTHEST))
    params = ratio * scale ** (law.beta / (law.alpha + law.beta))
    tokens = scale ** (law.alpha / (law.alpha + law.beta)) / ratio
    return Allocation(params, tokens, law.loss(params, tokens))


def optimum(
    law: ScalingLaw,
    compute_flops: float,
    cost: Cost = SIX_N,
    unique_tokens: float = math.inf,
    most_tokens: float = math.inf,
    served_tokens: float = 0.0,
) -> Allocation:
    """The N that minimizes L(N, D) of C = f(N) (D + S): where dL/d ln N = (1 + S / D) (d ln f / d ln N) dL/d ln D.

    Where that takes more than `most_tokens`, the smallest N that spends the compute on as many: a
    smaller one would leave compute unused, a larger one is further from the optimum.

    Args:
        served_tokens: S, the training tokens that cost as much as serving the model does.
    """

    def trained(params: float) -> float:
        return compute_flops / cost.flops_per_token(params) - served_tokens

    def at(params: float) -> Allocation:
        return Allocation(params, trained(params), law.loss(params, trained(params), unique_tokens))

    def descends(params: float) -> bool:
        tokens = trained(params)
        if tokens <= 0:
            return False
        by_params, by_tokens = law.slopes(params, tokens, unique_tokens)
        return by_params < cost.elasticity(params) * by_tokens * (1 + served_tokens / tokens)

    best = at(_switch(descends, compute_flops))
    if best.tokens <= most_tokens:
        return best
    return at(_switch(lambda params: trained(params) > most_tokens, compute_flops))


def least_compute(
    law: ScalingLaw, loss: float, cost: Cost = SIX_N, served_tokens: float = 0.0
) -> tuple[float, Allocation]:
    """The least C = f(N) (D + S) that reaches a loss above the law's E, and the N and D that do.

    The answer to Sardana et al. 2023, arXiv:2401.00448, eq. 3, whose 6 N D + 2 N D_inference has S = D_inference / 3.
    """

    def is_short(compute_flops: float) -> bool:
        affordable = compute_flops / cost.flops_per_token(1.0) > served_tokens
        return not affordable or optimum(law, compute_flops, cost, served_tokens=served_tokens).loss > loss

    compute_flops = _switch(is_short, _MOST_COMPUTE)
    return compute_flops, optimum(law, compute_flops, cost, served_tokens=served_tokens)


def at_ratio(compute_flops: float, cost: Cost, tokens_per_param: float) -> tuple[float, float]:
    """The N and the D of so many tokens per parameter that spend the compute."""
    params = _switch(lambda n: tokens_per_param * n * cost.flops_per_token(n) < compute_flops, compute_flops)
    return params, compute_flops / cost.flops_per_token(params)


def enough_params(
    law: ScalingLaw, most_tokens: float, unique_tokens: float, cost: Cost, *, tokens_per_param: float, nats: float
) -> float:
    """The least N that gets within `nats` of what limited data allow: of the largest N that they train properly.

    That is N = `most_tokens` / `tokens_per_param`, beyond which a law is not asked. Where a law wants more
    parameters than that, it is the N whose optimum takes just `most_tokens`.
    """
    allowed = law.loss(most_tokens / tokens_per_param, most_tokens, unique_tokens)

    def is_short(params: float) -> bool:
        return law.loss(params, most_tokens, unique_tokens) > allowed + nats

    def descends(params: float) -> bool:
        by_params, by_tokens = law.slopes(params, most_tokens, unique_tokens)
        return by_params < cost.elasticity(params) * by_tokens

    return max(_switch(is_short, most_tokens), _switch(descends, most_tokens))


def _switch(holds: Callable[[float], bool], most: float) -> float:
    """Where a condition on N stops to hold, by bisection of ln N from N = 1 to `most`."""
    low, high = 0.0, math.log(most)
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if holds(math.exp(middle)) else (low, middle)
    return math.exp(high)
