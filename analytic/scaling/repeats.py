"""The law of repeated data, fitted: Muennighoff et al. 2023, arXiv:2305.16264.

L = E + A / N'^alpha + B / D'^beta, where repeated tokens and excess parameters are worth less and less:
D' = U (1 + R_D (1 - exp(-R / R_D))) for R repetitions of U unique tokens, and N' likewise with R_N beyond
G (G U)^(beta / alpha), the parameters that U tokens deserve. Seven numbers, all of them fitted together.

R_D is hardly identified: the objective is almost flat above some value, and "at least" that value is what is reported.
Predictions have no intervals: beyond 16 epochs no version of this law holds (12% on published runs).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from analytic.errors import FileError
from analytic.scaling.fit import HUBER, LEAST_DELTA, MAD_TO_SIGMA
from analytic.scaling.forms import ALPHA, BETA, FORMS, LEAST, LOG_A, LOG_B, LOG_E, LOG_K, MOST
from analytic.scaling.laws import MANY_EPOCHS
from analytic.scaling.runs import Run
from analytic.scaling.solver import Problem, descend, starting_points

if TYPE_CHECKING:
    from analytic.scaling.forms import Array

LOG_R_D, LOG_R_N = 5, 6
LEAST_DECAY, MOST_DECAY = 0.1, 10_000.0
_SIZE = 7
_STARTING_DECAYS = ((5.0, 2.0), (15.0, 5.0), (100.0, 5.0), (100.0, 1.0))
_FIRST_DELTA = 1e-2
_STEP = 1e-6
_PROFILE = 33  # values of R_D, evenly spaced in ln
_CHI_SQUARED_80 = 1.642  # one degree of freedom


@dataclass(frozen=True, slots=True)
class RepeatsFit:
    """A fitted law of repeated data.

    Attributes:
        r_d_at_least, r_d_at_most: the 80% interval of R_D by profile likelihood; None where nothing bounds it.
        many_epochs: how many runs were left out for more than 16 epochs.
        dropped: how many for fewer tokens per parameter than asked for.
    """

    e: float
    a: float
    b: float
    alpha: float
    beta: float
    r_d: float
    r_n: float
    r_d_at_least: float
    r_d_at_most: float | None
    sigma: float
    objective: float
    runs: tuple[Run, ...]
    many_epochs: int
    dropped: int
    theta: tuple[float, ...]
    center: tuple[float, float]

    def losses(self, runs: Sequence[Run]) -> tuple[float, ...]:
        """Nats per token by each run's N, D and unique tokens."""
        import numpy as np

        predicted = _log_loss(np.array([self.theta]), _columns(runs), self.center)[0]
        return tuple(np.exp(predicted).tolist())


def fit_repeats(runs: Sequence[Run], *, min_ratio: float = 1.0) -> RepeatsFit:
    """The law that fits runs with repeated data best.

    Raises:
        FileError: fewer runs than the law's numbers need.
    """
    import numpy as np

    few_epochs = [run for run in runs if run.tokens <= MANY_EPOCHS * run.unique_tokens]
    kept = tuple(sorted(run for run in few_epochs if run.tokens >= min_ratio * run.params))
    if len(kept) <= _SIZE:
        which = f"at most {MANY_EPOCHS} epochs and at least {min_ratio:g} tokens per parameter"
        raise FileError(f"{len(kept)} runs of {which}, expected at least {_SIZE + 1}")
    columns = _columns(kept)
    center = (float(columns[0].mean()), float(columns[1].mean()))
    problem = _problem(columns, np.log([run.loss for run in kept]), center)
    found, objectives = descend(problem, _starts(problem, columns, center))
    sizes = abs(problem.residuals(found[[objectives.argmin()]])[0][0])
    delta = max(HUBER * MAD_TO_SIGMA * float(np.median(sizes)), LEAST_DELTA)
    problem = replace(problem, delta=delta)
    found, objectives = descend(problem, found)
    theta, objective = found[objectives.argmin()], float(objectives.min())
    sizes = abs(problem.residuals(theta[None])[0][0])
    cut = np.minimum(sizes, 3 * MAD_TO_SIGMA * float(np.median(sizes)))
    sigma = math.sqrt(float((cut**2).sum()) / (len(kept) - _SIZE))
    e, a, alpha, b, beta, log_r_d, log_r_n = theta.tolist()
    return RepeatsFit(
        e=math.exp(e),
        a=math.exp(a + alpha * center[0]),
        b=math.exp(b + beta * center[1]),
        alpha=alpha,
        beta=beta,
        r_d=math.exp(log_r_d),
        r_n=math.exp(log_r_n),
        r_d_at_least=_decay_bound(problem, theta, objective, sigma, LEAST_DECAY) or LEAST_DECAY,
        r_d_at_most=_decay_bound(problem, theta, objective, sigma, MOST_DECAY),
        sigma=sigma,
        objective=objective,
        runs=kept,
        many_epochs=len(runs) - len(few_epochs),
        dropped=len(few_epochs) - len(kept),
        theta=tuple(theta.tolist()),
        center=center,
    )


def _columns(runs: Sequence[Run]) -> tuple[Array, Array, Array]:
    """ln N, ln D and ln of the unique tokens, no more than D."""
    import numpy as np

    rows = [(run.params, run.tokens, min(run.tokens, run.unique_tokens)) for run in runs]
    params, tokens, unique = np.log(rows).T
    return params, tokens, unique


def _problem(columns: tuple[Array, Array, Array], target: Array, center: tuple[float, float]) -> Problem:
    import numpy as np

    def evaluate(theta: Array) -> tuple[Array, Array]:
        steps = _STEP * np.eye(_SIZE)
        slopes = [_log_loss(theta + d, columns, center) - _log_loss(theta - d, columns, center) for d in steps]
        return _log_loss(theta, columns, center), np.stack(slopes, axis=-1) / (2 * _STEP)

    decays = [math.log(LEAST_DECAY)] * 2, [math.log(MOST_DECAY)] * 2
    return Problem(
        evaluate=evaluate,
        target=target,
        weights=np.ones(len(target)),
        delta=_FIRST_DELTA,
        mean=np.zeros(_SIZE),
        precision=np.zeros(_SIZE),
        least=np.array([*LEAST[:LOG_K], *decays[0]]),
        most=np.array([*MOST[:LOG_K], *decays[1]]),
    )


def _starts(problem: Problem, columns: tuple[Array, Array, Array], center: tuple[float, float]) -> Array:
    """The additive form's starts on tokens seen, with several pairs of decays."""
    import numpy as np

    x, y = columns[0] - center[0], columns[1] - center[1]
    additive = starting_points(FORMS["additive"], x, y, problem.target, problem.weights)
    pairs = np.log(_STARTING_DECAYS)
    return np.concatenate([np.hstack([additive, np.tile(pair, (len(additive), 1))]) for pair in pairs])


def _log_loss(theta: Array, columns: tuple[Array, Array, Array], center: tuple[float, float]) -> Array:
    """ln L, (starts, runs)."""
    import numpy as np

    params, tokens, unique = columns
    e, a, alpha, b, beta, r_d, r_n = (theta[:, i, None] for i in (LOG_E, LOG_A, ALPHA, LOG_B, BETA, LOG_R_D, LOG_R_N))
    log_ratio = a + alpha * center[0] - b - beta * center[1]
    log_g = (np.log(alpha / beta) + log_ratio) / (alpha + beta)
    deserved = np.minimum(params, log_g + (log_g + unique) * beta / alpha)
    x = _log_worth(params, deserved, np.exp(r_n)) - center[0]
    y = _log_worth(tokens, unique, np.exp(r_d)) - center[1]
    result: Array = np.logaddexp(e, np.logaddexp(a - alpha * x, b - beta * y))
    return result


def _log_worth(amount: Array, unique: Array, decay: Array) -> Array:
    """ln of what an amount is worth of which `unique` is new, all in ln (arXiv:2305.16264, eq. 5)."""
    import numpy as np

    repetitions = np.expm1(np.minimum(amount - unique, 50.0))
    result: Array = unique + np.log1p(-decay * np.expm1(-repetitions / decay))
    return result


def _decay_bound(problem: Problem, theta: Array, objective: float, sigma: float, end: float) -> float | None:
    """The R_D between the best and `end` from which on the best fit is significantly worse at 80%; None if nowhere.

    Between grid points on a straight line in ln R_D.
    """
    import numpy as np

    grid = np.linspace(theta[LOG_R_D], math.log(end), _PROFILE)
    mean, precision = np.zeros(_SIZE), np.zeros(_SIZE)
    precision[LOG_R_D] = 1e6 * (1 + objective)  # holds ln R_D at each value in turn
    allowed = _CHI_SQUARED_80 * sigma**2 / 2
    before = 0.0
    for i in range(1, _PROFILE):
        mean[LOG_R_D] = grid[i]
        start = theta.copy()
        start[LOG_R_D] = grid[i]
        held = replace(problem, mean=mean.copy(), precision=precision)
        found, _ = descend(held, start[None], iterations=40, tolerance=1e-8)
        excess = float(problem.objective(found, problem.residuals(found)[0], problem.weights)[0]) - objective
        if excess > allowed:
            share = (allowed - before) / (excess - before)
            return math.exp(grid[i - 1] + share * (grid[i] - grid[i - 1]))
        before = excess
    return None
