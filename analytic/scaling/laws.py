"""A scaling law: the loss after N parameters have seen D tokens, some of them more than once.

Published laws have the form L = E + A / N^alpha + B / D^beta (Hoffmann et al. 2022, arXiv:2203.15556,
eq. 10), in nats per token; laws fitted to one's own runs may couple the two terms (see `forms`). What its N
counts is part of the law, and so are its citation and the ranges of the runs it was fitted on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from analytic.scaling.posterior import Uncertainty

# Muennighoff et al. 2023, arXiv:2305.16264: R_D* and R_N*, at full precision from the authors' repository.
# R_D* is poorly identified: on their own runs the objective is flat within 0.2% from about 15 to 200.
REPEATED_DATA_DECAY = 15.387756
EXCESS_PARAMS_DECAY = 5.309743
LOG_ENDLESS = 700.0  # of an amount that no plan reaches, and whose powers a float still holds
MANY_EPOCHS = 16  # beyond this their own runs did worse than the law says

ParamsConvention = Literal["total", "non_embedding"]


@dataclass(frozen=True, slots=True)
class OutOfRange:
    """A quantity of a plan outside what the law was fitted on: an extrapolation."""

    quantity: str
    value: float
    least: float
    most: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingLaw:
    """L(N, D) = E + ((A / N^alpha)^(1/k) + (B / D^beta)^(1/k))^k.

    Attributes:
        k: 1 adds the two terms.
        n_means: what N counts; a planner converts with `count_params` before asking for a loss.
        fitted: (least, most) of "params", "tokens" and "flops" of the fitted runs, where stated.
        data_constrained: excess parameters decay too, as in the fit of arXiv:2305.16264.
        uncertainty: of the coefficients, for intervals; published laws state none.
    """

    name: str
    citation: str
    e: float
    a: float
    b: float
    alpha: float
    beta: float
    n_means: ParamsConvention
    d_means: str
    fitted: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    data_constrained: bool = False
    k: float = 1.0
    uncertainty: Uncertainty | None = None

    @property
    def log_ratio(self) -> float:
        """ln G, G = ((alpha / beta)^k A / B)^(1 / (alpha + beta)): arXiv:2203.15556, eq. 4, where k is 1."""
        additive = math.log(self.alpha * self.a / (self.beta * self.b))
        return (additive + (self.k - 1) * math.log(self.alpha / self.beta)) / (self.alpha + self.beta)

    def loss(self, params: float, tokens: float, unique_tokens: float = math.inf) -> float:
        """Nats per token after `tokens` tokens, of which `unique_tokens` are distinct.

        Repeated tokens count less and less: U (1 + R* (1 - exp(-R / R*))) for R repetitions
        (arXiv:2305.16264, eq. 6). Laws fitted on one epoch borrow R* from there.

        >>> from analytic.scaling.law_file import load_law
        >>> muennighoff = load_law("muennighoff")
        >>> round(muennighoff.loss(6.34e9, 242e9, 25e9), 9)
        2.225644089
        """
        n, _ = self._effective_params(params, unique_tokens)
        d = self.worth(tokens, unique_tokens)
        by_params, by_tokens = self.a * n**-self.alpha, self.b * d**-self.beta
        if self.k == 1:
            return float(self.e + by_params + by_tokens)
        return float(self.e + sum(self._coupled(by_params, by_tokens)))

    def worth(self, tokens: float, unique_tokens: float) -> float:
        """How many new tokens `tokens` are worth, of which `unique_tokens` are distinct."""
        return _effective(tokens, unique_tokens, REPEATED_DATA_DECAY)[0]

    def slopes(self, params: float, tokens: float, unique_tokens: float = math.inf) -> tuple[float, float]:
        """dL/d ln N and dL/d ln D."""
        n, n_elasticity = self._effective_params(params, unique_tokens)
        d, d_elasticity = _effective(tokens, unique_tokens, REPEATED_DATA_DECAY)
        by_params, by_tokens = self.a * n**-self.alpha, self.b * d**-self.beta
        if self.k != 1:
            by_params, by_tokens = self._coupled(by_params, by_tokens)
        return float(-self.alpha * by_params * n_elasticity), float(-self.beta * by_tokens * d_elasticity)

    def outside(self, params: float, tokens: float, flops: float) -> tuple[OutOfRange, ...]:
        """What of a plan lies outside the fitted ranges."""
        plan = {"params": params, "tokens": tokens, "flops": flops}
        return tuple(
            OutOfRange(quantity, plan[quantity], least, most)
            for quantity, (least, most) in self.fitted.items()
            if not least <= plan[quantity] <= most
        )

    def _coupled(self, first: float, second: float) -> tuple[float, float]:
        """(T_1^(1/k) + T_2^(1/k))^k, the loss above E, in the parts that its logarithmic derivatives by each are."""
        larger = max(first, second)
        if larger == 0:  # so large an N and D that a float does not hold the terms
            return 0.0, 0.0
        powers = [(term / larger) ** (1 / self.k) for term in (first, second)]
        above = larger * sum(powers) ** (self.k - 1)
        return above * powers[0], above * powers[1]

    def _effective_params(self, params: float, unique_tokens: float) -> tuple[float, float]:
        """N and d ln N' / d ln N; beyond what the unique tokens are worth, parameters decay (eq. 7)."""
        if not self.data_constrained or unique_tokens == math.inf:
            return params, 1.0
        log_worth = self.log_ratio + (self.log_ratio + math.log(unique_tokens)) * self.beta / self.alpha
        return _effective(params, math.exp(min(max(log_worth, 0), LOG_ENDLESS)), EXCESS_PARAMS_DECAY)


def _effective(amount: float, unique: float, decay: float) -> tuple[float, float]:
    """What an amount is worth of which `unique` is new, and d ln worth / d ln amount (arXiv:2305.16264, eq. 5)."""
    if amount <= unique:
        return amount, 1.0
    fading = math.exp((1 - amount / unique) / decay)
    worth = unique * (1 + decay * (1 - fading))
    return worth, amount * fading / worth
