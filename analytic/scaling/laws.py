"""Scaling laws: the loss after N parameters have seen D tokens, some of them more than once.

Most published laws have the form L = E + A / N^alpha + B / D^beta (Hoffmann et al. 2022, arXiv:2203.15556,
eq. 10), in nats per token; laws fitted to one's own runs may couple the two terms (see `forms`). The exponents of
models with experts change with their number, and some laws say N and D without a loss: `Law` is the union. What its N
counts is part of a law, and so are its citation and the ranges of the runs it was fitted on.
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
Convention = ParamsConvention | Literal["active"]
Quantity = Literal["tokens", "flops_per_token"]


@dataclass(frozen=True, slots=True)
class OutOfRange:
    """A quantity of a plan outside what the law was fitted on: an extrapolation."""

    quantity: str
    value: float
    least: float
    most: float


def _outside(fitted: Mapping[str, tuple[float, float]], plan: Mapping[str, float]) -> tuple[OutOfRange, ...]:
    """The quantities of a plan outside the ranges of the fitted runs."""
    return tuple(
        OutOfRange(quantity, plan[quantity], least, most)
        for quantity, (least, most) in fitted.items()
        if not least <= plan[quantity] <= most
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingLaw:
    """L(N, D) = E + ((A / N^alpha)^(1/k) + (B / D^beta)^(1/k))^k.

    Attributes:
        k: 1 adds the two terms.
        n_means: what N counts; a planner converts with `count_params` before asking for a loss.
        fitted: (least, most) of "params", "tokens" and "flops" of the fitted runs, where stated.
        data_constrained: excess parameters decay too, as in the fit of arXiv:2305.16264.
        uncertainty: of the coefficients, for intervals; published laws state none.
        is_compared: whether a plan shows it next to other laws, without being asked.
        experts: in each layer, where the law is one of models with so many; None of a law of dense models.
    """

    name: str
    citation: str
    e: float
    a: float
    b: float
    alpha: float
    beta: float
    n_means: Convention
    d_means: str
    fitted: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    data_constrained: bool = False
    k: float = 1.0
    uncertainty: Uncertainty | None = None
    is_compared: bool = True
    experts: int | None = None

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
        experts = 1 if self.experts is None else self.experts
        return _outside(self.fitted, {"params": params, "tokens": tokens, "flops": flops, "experts": experts})

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


@dataclass(frozen=True, slots=True, kw_only=True)
class MoeLaw:
    """Models with experts: L = a X^delta N^(alpha + gamma ln X) + b X^omega D^(beta + zeta ln X) + c.

    X is the number E of experts in a layer, bent at both ends (Ludziejewski et al. 2025, arXiv:2502.05172, eq. 7; Clark
    et al. 2022, arXiv:2202.01169, eq. 6): 1/X = 1 / (E - 1 + 1 / (1/start - 1/most)) + 1/most. E = 1 is a dense model.
    Names are theirs. How many of the experts a token visits is in N, the active parameters, alone.
    """

    name: str
    citation: str
    a: float
    b: float
    c: float
    alpha: float
    beta: float
    gamma: float
    delta: float
    zeta: float
    omega: float
    start: float
    most: float
    n_means: Convention
    d_means: str
    fitted: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def at(self, experts: int) -> ScalingLaw:
        """The law of models with so many experts in a layer."""
        bent = 1 / (1 / (experts - 1 + 1 / (1 / self.start - 1 / self.most)) + 1 / self.most)
        return ScalingLaw(
            name=self.name,
            citation=self.citation,
            e=self.c,
            a=self.a * bent**self.delta,
            b=self.b * bent**self.omega,
            alpha=-(self.alpha + self.gamma * math.log(bent)),
            beta=-(self.beta + self.zeta * math.log(bent)),
            n_means=self.n_means,
            d_means=self.d_means,
            fitted=self.fitted,
            experts=experts,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocationLaw:
    """How a compute budget is best split, and no loss: the best of one quantity is coefficient x C^exponent.

    Attributes:
        quantity: "tokens"; or "flops_per_token", training FLOPs without those of the output head, of which the
            law's own C counts no others.
    """

    name: str
    citation: str
    quantity: Quantity
    coefficient: float
    exponent: float
    n_means: str
    d_means: str
    fitted: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def best(self, compute_flops: float) -> float:
        """The best amount of the quantity."""
        return float(self.coefficient * compute_flops**self.exponent)

    def outside(self, params: float, tokens: float, flops: float) -> tuple[OutOfRange, ...]:
        """What of a plan lies outside the fitted ranges."""
        return _outside(self.fitted, {"params": params, "tokens": tokens, "flops": flops})


Law = ScalingLaw | MoeLaw | AllocationLaw


def _effective(amount: float, unique: float, decay: float) -> tuple[float, float]:
    """What an amount is worth of which `unique` is new, and d ln worth / d ln amount (arXiv:2305.16264, eq. 5)."""
    if amount <= unique:
        return amount, 1.0
    fading = math.exp((1 - amount / unique) / decay)
    worth = unique * (1 + decay * (1 - fading))
    return worth, amount * fading / worth
