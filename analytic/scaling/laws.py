"""Published scaling laws: loss, compute-optimal allocation, repeated data.

Every law here has the form L = E + A / N^alpha + B / D^beta (Hoffmann et al. 2022, arXiv:2203.15556,
eq. 10), in nats per token. What its N counts is part of the law, and so are its citation and the
ranges of the runs it was fitted on.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

from analytic.errors import FileError, PlannerError, UsageError
from analytic.io.files import configs_dir, read_toml
from analytic.io.keys import Derived, Keys

# Muennighoff et al. 2023, arXiv:2305.16264: R_D* and R_N*, at full precision from the authors' repository.
# R_D* is poorly identified: on their own runs the objective is flat within 0.2% from about 15 to 200.
REPEATED_DATA_DECAY = 15.387756
EXCESS_PARAMS_DECAY = 5.309743
LOG_ENDLESS = 700.0  # of an amount that no plan reaches, and whose powers a float still holds
MANY_EPOCHS = 16  # beyond this their own runs did worse than the law says

ParamsConvention = Literal["total", "non_embedding"]
_CONVENTIONS = ("total", "non_embedding")
_COEFFICIENTS = ("E", "A", "B", "alpha", "beta")
_LOGARITHMS = ("log_E", "log_A", "log_B")
_REQUIRED = ("citation", "alpha", "beta", "n_means", "d_means")
_MOST_COEFFICIENT = 1e12
_MOST_EXPONENT = 10.0


@dataclass(frozen=True, slots=True)
class OutOfRange:
    """A quantity of a plan outside what the law was fitted on: an extrapolation."""

    quantity: str
    value: float
    least: float
    most: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingLaw:
    """L(N, D) = E + A / N^alpha + B / D^beta.

    Attributes:
        n_means: what N counts; a planner converts with `count_params` before asking for a loss.
        fitted: (least, most) of "params", "tokens" and "flops" of the fitted runs, where stated.
        data_constrained: excess parameters decay too, as in the fit of arXiv:2305.16264.
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

    @property
    def log_ratio(self) -> float:
        """ln G, G = (alpha A / (beta B))^(1 / (alpha + beta)) of arXiv:2203.15556, eq. 4."""
        return math.log(self.alpha * self.a / (self.beta * self.b)) / (self.alpha + self.beta)

    def loss(self, params: float, tokens: float, unique_tokens: float = math.inf) -> float:
        """Nats per token after `tokens` tokens, of which `unique_tokens` are distinct.

        Repeated tokens count less and less: U (1 + R* (1 - exp(-R / R*))) for R repetitions
        (arXiv:2305.16264, eq. 6). Laws fitted on one epoch borrow R* from there.

        >>> muennighoff = load_law("muennighoff")
        >>> round(muennighoff.loss(6.34e9, 242e9, 25e9), 9)
        2.225644089
        """
        n, _ = self._effective_params(params, unique_tokens)
        d = self.worth(tokens, unique_tokens)
        return float(self.e + self.a * n**-self.alpha + self.b * d**-self.beta)

    def worth(self, tokens: float, unique_tokens: float) -> float:
        """How many new tokens `tokens` are worth, of which `unique_tokens` are distinct."""
        return _effective(tokens, unique_tokens, REPEATED_DATA_DECAY)[0]

    def slopes(self, params: float, tokens: float, unique_tokens: float = math.inf) -> tuple[float, float]:
        """dL/d ln N and dL/d ln D."""
        n, n_elasticity = self._effective_params(params, unique_tokens)
        d, d_elasticity = _effective(tokens, unique_tokens, REPEATED_DATA_DECAY)
        by_params = -self.alpha * self.a * n**-self.alpha * n_elasticity
        return float(by_params), float(-self.beta * self.b * d**-self.beta * d_elasticity)

    def outside(self, params: float, tokens: float, flops: float) -> tuple[OutOfRange, ...]:
        """What of a plan lies outside the fitted ranges."""
        plan = {"params": params, "tokens": tokens, "flops": flops}
        return tuple(
            OutOfRange(quantity, plan[quantity], least, most)
            for quantity, (least, most) in self.fitted.items()
            if not least <= plan[quantity] <= most
        )

    def _effective_params(self, params: float, unique_tokens: float) -> tuple[float, float]:
        """N and d ln N' / d ln N; beyond what the unique tokens are worth, parameters decay (eq. 7)."""
        if not self.data_constrained or unique_tokens == math.inf:
            return params, 1.0
        log_worth = self.log_ratio + (self.log_ratio + math.log(unique_tokens)) * self.beta / self.alpha
        return _effective(params, math.exp(min(max(log_worth, 0), LOG_ENDLESS)), EXCESS_PARAMS_DECAY)


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


Cost = CostCurve | TabledCost
SIX_N = CostCurve()


def closed_form(law: ScalingLaw, compute_flops: float) -> Allocation:
    """The optimum of C = 6 N D with unlimited data: N = G (C/6)^(beta / (alpha + beta)) (arXiv:2203.15556, eq. 4).

    >>> allocation = closed_form(load_law("exercise"), 5.616e23)
    >>> round(allocation.params), round(allocation.tokens)
    (47476210890, 1971513695914)
    """
    scale = compute_flops / 6
    ratio = math.exp(law.log_ratio)
    params = ratio * scale ** (law.beta / (law.alpha + law.beta))
    tokens = scale ** (law.alpha / (law.alpha + law.beta)) / ratio
    return Allocation(params, tokens, law.loss(params, tokens))


def optimum(
    law: ScalingLaw,
    compute_flops: float,
    cost: Cost = SIX_N,
    unique_tokens: float = math.inf,
    most_tokens: float = math.inf,
) -> Allocation:
    """The N that minimizes L(N, C / f(N)): where dL/d ln N = (d ln f / d ln N) dL/d ln D.

    Where that takes more than `most_tokens`, the smallest N that spends the compute on as many: a
    smaller one would leave compute unused, a larger one is further from the optimum.
    """

    def at(params: float) -> Allocation:
        tokens = compute_flops / cost.flops_per_token(params)
        return Allocation(params, tokens, law.loss(params, tokens, unique_tokens))

    def descends(params: float) -> bool:
        by_params, by_tokens = law.slopes(params, compute_flops / cost.flops_per_token(params), unique_tokens)
        return by_params < cost.elasticity(params) * by_tokens

    best = at(_switch(descends, compute_flops))
    if best.tokens <= most_tokens:
        return best
    return at(_switch(lambda params: compute_flops / cost.flops_per_token(params) > most_tokens, compute_flops))


def _switch(holds: Callable[[float], bool], most: float) -> float:
    """Where a condition on N stops to hold, by bisection of ln N from N = 1 to `most`."""
    low, high = 0.0, math.log(most)
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if holds(math.exp(middle)) else (low, middle)
    return math.exp(high)


def load_laws(path: Path | None = None) -> dict[str, ScalingLaw]:
    """The laws of a TOML file by name; by default the shipped ones.

    Raises:
        FileError: naming the path, the entry, the key and what was expected.
    """
    path = path or _shipped_path()
    where = "laws"
    laws = {}
    try:
        file = Keys(read_toml(path))
        file.allow(("laws",))
        tables = file.section("laws") or Keys({})
        for name in tables.config:
            where = f"laws.{name}"
            laws[name] = _law(name, tables.section(name) or Keys({}))
    except PlannerError as error:
        raise type(error)(f"{path}: {where}: {error}") from None
    return laws


def load_law(name: str) -> ScalingLaw:
    """A shipped law by its name, or the one law of a TOML file by its path.

    Raises:
        UsageError: no such law; the message lists those there are.
        FileError: a file that does not hold exactly one law, or one that is named like a shipped law.
    """
    shipped = load_laws()
    if name in shipped:
        return shipped[name]
    if not name.casefold().endswith(".toml"):
        raise UsageError(f"no scaling law {name!r}: expected one of {', '.join(shipped)}, or the path of a .toml file")
    laws = list(load_laws(Path(name)).values())
    if len(laws) != 1:
        raise FileError(f"{name}: expected one table [laws.NAME], not {len(laws)}")
    if laws[0].name in shipped:  # a plan shows both, and tells them apart by name
        raise FileError(f"{name}: laws.{laws[0].name}: expected a name that {_shipped_path()} has not")
    return laws[0]


def _shipped_path() -> Path:
    return configs_dir() / "scaling_laws.toml"


def custom_law(name: str, citation: str, keys: Keys) -> ScalingLaw:
    """A law from its bare coefficients E, A, B, alpha and beta; N is total parameters."""
    keys.require(_COEFFICIENTS, "law")
    return ScalingLaw(
        name=name,
        citation=citation,
        e=_coefficient(keys, "E"),
        a=_coefficient(keys, "A"),
        b=_coefficient(keys, "B"),
        alpha=keys.number("alpha", most=_MOST_EXPONENT),
        beta=keys.number("beta", most=_MOST_EXPONENT),
        n_means="total",
        d_means="tokens seen",
    )


def _law(name: str, keys: Keys) -> ScalingLaw:
    keys.require(_REQUIRED, "law")
    keys.allow((*_REQUIRED, *_COEFFICIENTS, *_LOGARITHMS, "fitted", "data_constrained"))
    e, a, b = (_coefficient(keys, key) for key in ("E", "A", "B"))
    return ScalingLaw(
        name=name,
        citation=keys.text("citation"),
        e=e,
        a=a,
        b=b,
        alpha=keys.number("alpha", most=_MOST_EXPONENT),
        beta=keys.number("beta", most=_MOST_EXPONENT),
        n_means=cast(ParamsConvention, keys.text("n_means", among=_CONVENTIONS)),
        d_means=keys.text("d_means"),
        fitted=_ranges(keys),
        data_constrained=keys.flag("data_constrained", Derived(False, "a fit to single epochs")),
    )


def _coefficient(keys: Keys, key: str) -> float:
    """A coefficient as printed, or from its logarithm: exactly one of the two."""
    if (key in keys.config) == (f"log_{key}" in keys.config):
        raise FileError(f"{key}: expected either {key} or log_{key}")
    if key in keys.config:  # a law may have no irreducible loss, but no optimum without both of the other terms
        return keys.number(key, least=0 if key == "E" else 1 / _MOST_COEFFICIENT, most=_MOST_COEFFICIENT)
    bound = math.log(_MOST_COEFFICIENT)
    return math.exp(keys.number(f"log_{key}", least=-bound, most=bound))


def _ranges(keys: Keys) -> dict[str, tuple[float, float]]:
    section = keys.section("fitted") or Keys({})
    section.allow(("params", "tokens", "flops"))
    ranges = {}
    for quantity, value in section.config.items():
        rising = "a list of two rising positive numbers"
        if type(value) is not list or len(value) != 2 or any(type(x) not in (int, float) for x in value):
            section.reject(quantity, value, rising)
        least, most = value
        if not 0 < least < most < math.inf:
            section.reject(quantity, value, rising)
        ranges[quantity] = (float(least), float(most))
    return ranges


def _effective(amount: float, unique: float, decay: float) -> tuple[float, float]:
    """What an amount is worth of which `unique` is new, and d ln worth / d ln amount (arXiv:2305.16264, eq. 5)."""
    if amount <= unique:
        return amount, 1.0
    fading = math.exp((1 - amount / unique) / decay)
    worth = unique * (1 + decay * (1 - fading))
    return worth, amount * fading / worth
