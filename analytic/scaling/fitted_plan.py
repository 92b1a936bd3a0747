"""The compute-optimal size by a fitted law, with intervals.

At C = f(N) D the best N does not depend on E, and it is where ln of the N term over the D term is
k ln(eta beta / alpha), eta = d ln f / d ln N: closed for f = 6 N, by bisection for the FLOPs of architectures.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analytic.scaling.forms import ALPHA, BETA, FARTHEST, LEAST, LOG_A, LOG_B, LOG_K, MOST
from analytic.scaling.intervals import Prediction, PredictiveLaw
from analytic.scaling.laws import ScalingLaw
from analytic.scaling.optimum import SIX_N, Cost
from analytic.scaling.posterior import Predictive, posterior
from analytic.scaling.runs import Run

if TYPE_CHECKING:
    from analytic.scaling.forms import Array

DRAWS = 2000
NEAR_OPTIMAL_NATS = 0.005
FARTHEST_USEFUL_DECADES = 1.5
_GRID = 4001  # points over six decades of N: 0.35% apart
_HALF_WIDTH = math.log(1000)
_FARTHEST_DRAW = 30.0  # in ln N: thirteen decades
_BISECTIONS = 60


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its 80 and 95% intervals."""

    value: float
    low_80: float
    high_80: float
    low_95: float
    high_95: float


@dataclass(frozen=True, slots=True)
class FittedPlan:
    """How a compute budget is best split by a fitted law.

    Attributes:
        near_optimal: the least and the most N whose loss is within 5 mnat of the least, by the fitted law.
        decades_beyond: of compute beyond the largest run; 0 within.
    """

    params: Interval
    tokens: Interval
    loss: Interval
    near_optimal: tuple[float, float]
    decades_beyond: float

    @property
    def too_far(self) -> bool:
        """Whether 20 tokens per parameter is the better choice: so it was this far beyond the published runs."""
        return self.decades_beyond > FARTHEST_USEFUL_DECADES


def predictive(law: ScalingLaw) -> PredictiveLaw | None:
    """A law with what its file says of its error; None of one that states none."""
    u = law.uncertainty
    if u is None:
        return None
    return PredictiveLaw(posterior(u, law.e, law.a, law.alpha, law.b, law.beta, law.k), u.kappa)


def best_params(fit: Predictive, flops: float, cost: Cost = SIX_N) -> float:
    """The N of least loss at C = f(N) D."""
    import numpy as np

    if cost == SIX_N:
        return fit.coefficients.best_params(flops)
    log_cost = np.vectorize(lambda u: math.log(cost.flops_per_token(math.exp(u))))
    elasticity = np.vectorize(lambda u: cost.elasticity(math.exp(u)))
    six = fit.form.full(np.array([fit.theta]))
    return math.exp(_bisected(fit, six, flops, log_cost, elasticity, (-FARTHEST, FARTHEST))[0])


def plan_with_intervals(law: PredictiveLaw, flops: float, cost: Cost = SIX_N, *, seed: int = 0) -> FittedPlan:
    """The best N, its D and the loss, each with 80 and 95%: N and D by draws of theta from N(theta, kappa^2 Cov)."""
    import numpy as np

    fit = law.fit
    params = best_params(fit, flops, cost)
    per_token = cost.flops_per_token(params)
    six = fit.form.full(_draws(law, seed))
    grid = math.log(params) + np.linspace(-_FARTHEST_DRAW, _FARTHEST_DRAW, _GRID)
    log_costs = np.log([cost.flops_per_token(n) for n in np.exp(grid).tolist()])
    elasticities = np.array([cost.elasticity(n) for n in np.exp(grid).tolist()])
    log_params = _bisected(
        fit,
        six,
        flops,
        lambda u: np.interp(u, grid, log_costs),
        lambda u: np.interp(u, grid, elasticities),
        (float(grid[0]), float(grid[-1])),
    )
    log_tokens = math.log(flops) - np.interp(log_params, grid, log_costs)
    best = Run(params, flops / per_token, loss=1.0, flops_per_token=per_token)
    return FittedPlan(
        params=_interval(params, np.exp(log_params)),
        tokens=_interval(best.tokens, np.exp(log_tokens)),
        loss=loss_interval(law.predict_runs([best])[0]),
        near_optimal=near_optimal(fit, flops, params, cost),
        decades_beyond=max(math.log10(flops / fit.most_flops), 0.0),
    )


def near_optimal(fit: Predictive, flops: float, best: float, cost: Cost = SIX_N) -> tuple[float, float]:
    """The least and the most N whose loss at C = f(N) D is within 5 mnat of that of the best N."""
    import numpy as np

    params = np.exp(math.log(best) + np.linspace(-_HALF_WIDTH, _HALF_WIDTH, _GRID))
    tokens = flops / np.array([cost.flops_per_token(n) for n in params.tolist()])
    losses = np.exp(fit.log_loss(params, tokens))
    near = params[losses <= losses[_GRID // 2] + NEAR_OPTIMAL_NATS]
    return float(near[0]), float(near[-1])


def _draws(law: PredictiveLaw, seed: int) -> Array:
    """Draws of theta, (draws, size), inside the bounds of the fit."""
    import numpy as np

    fit = law.fit
    values, vectors = np.linalg.eigh(np.array(law.covariance))
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T  # the symmetric root: no sign is arbitrary
    normal = np.random.default_rng(seed).standard_normal((DRAWS, len(fit.theta)))
    bounds = [[limits[i] for i in fit.form.positions] for limits in (LEAST, MOST)]
    draws: Array = (np.array(fit.theta) + normal @ root).clip(*map(np.array, bounds))
    return draws


def _bisected(
    fit: Predictive,
    six: Array,
    flops: float,
    log_cost: Callable[[Array], Array],
    elasticity: Callable[[Array], Array],
    bounds: tuple[float, float],
) -> Array:
    """ln of the best N of each row of six parameters: where the N term stops to be large against the D term."""
    import numpy as np

    a, alpha, b, beta, k = (six[:, i] for i in (LOG_A, ALPHA, LOG_B, BETA, LOG_K))
    low, high = (np.full(len(six), bound) for bound in bounds)
    for _ in range(_BISECTIONS):
        u = (low + high) / 2
        gap = a - alpha * (u - fit.center[0]) - b + beta * (math.log(flops) - log_cost(u) - fit.center[1])
        larger = gap > np.exp(k) * np.log(elasticity(u) * beta / alpha)
        low, high = np.where(larger, u, low), np.where(larger, high, u)
    return low


def _interval(value: float, draws: Array) -> Interval:
    import numpy as np

    low_95, low_80, high_80, high_95 = np.quantile(draws, (0.025, 0.1, 0.9, 0.975)).tolist()
    return Interval(value, low_80, high_80, low_95, high_95)


def loss_interval(prediction: Prediction) -> Interval:
    """The loss of a run alone."""
    p = prediction
    return Interval(p.loss, p.low_80, p.high_80, p.low_95, p.high_95)
