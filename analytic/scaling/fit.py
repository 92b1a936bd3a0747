"""Fitting a law to runs: maximum a posteriori under Huber's loss on ln L, with the posterior covariance.

The parameters and the minimizer are in `forms` and `solver`. What a fit is worth far from its runs is another
matter: `intervals` and `backtest`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from analytic.errors import FileError
from analytic.scaling.forms import FORMS, LOG_E, Coefficients, Form, FormName
from analytic.scaling.posterior import Predictive, coefficients
from analytic.scaling.runs import Run
from analytic.scaling.solver import Problem, descend, form_problem, polish, starting_points

if TYPE_CHECKING:
    from analytic.scaling.forms import Array

ObjectiveName = Literal["mad", "huber-1e-3"]

EPOCH_DELTA = 1e-3  # Besiroglu et al. 2024, arXiv:2404.10102
HUBER = 1.345  # times sigma: 95% as efficient as least squares where errors are normal (Huber 1964)
MAD_TO_SIGMA = 1.4826  # of a normal distribution
LEAST_DELTA = 1e-5
LEAST_SIGMA = 1.5e-3  # two seeds of one run differ by as much, and few runs can seem to scatter less
LEAST_RUNS = 4  # with a prior
# Scatter of published runs about their law, and the degrees of freedom that it counts for next to one's own runs.
USUAL_SIGMA, USUAL_FREEDOM = 5e-3, 4.0
# A run counts half as much two decades of compute below the largest. Chosen by leaving out families: the error of the
# largest runs a decade beyond the fit falls from 1.3 to 1.1%, at 1.5 decades from 2.4 to 2.0%.
HALVING_DECADES = 2.0
WINSOR = 3.0  # scales beyond which a residual counts as no larger
_LOOSE = 1e-7  # tolerance where a minimum is only a start
_BEST = 10  # starts of the second descent
_CHUNK = 500  # resamples at a time, which bounds memory
MIN_RATIO: Mapping[FormName, float] = {"coupled": 1.0, "additive": 0.0, "tied": 0.0, "zero_e": 0.0}


@dataclass(frozen=True, slots=True)
class Prior:
    """What the runs of others say: (mean, standard deviation) of parameters by their index among the six.

    That of ln E is relative to ln of the least loss. `families` are those that it has seen.
    """

    moments: Mapping[int, tuple[float, float]]
    families: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FitOptions:
    """How a law is fitted.

    Attributes:
        objective: "mad" sets Huber's delta by the scatter of the runs; "huber-1e-3" is the objective of Epoch.
        prior: None lets the runs speak alone.
        min_ratio: runs of fewer tokens per parameter are left out; None is the form's own.
    """

    form: FormName = "coupled"
    objective: ObjectiveName = "mad"
    prior: Prior | None = None
    min_ratio: float | None = None

    @property
    def least_ratio(self) -> float:
        return MIN_RATIO[self.form] if self.min_ratio is None else self.min_ratio


@dataclass(frozen=True, slots=True)
class Fit(Predictive):
    """A fitted law.

    Attributes:
        theta, center, covariance, sigma: see `Predictive`.
        delta: where Huber's loss goes from square to straight.
        objective: the sum of Huber's loss over the runs, without the prior.
        agreement: the part of the starts that end in this minimum.
        runs: those fitted, sorted.
        dropped: how many were left out for too few tokens per parameter.
    """

    options: FitOptions
    theta: tuple[float, ...]
    center: tuple[float, float]
    covariance: tuple[tuple[float, ...], ...]
    sigma: float
    delta: float
    objective: float
    agreement: float
    runs: tuple[Run, ...]
    dropped: int

    @property
    def form(self) -> Form:
        return FORMS[self.options.form]

    @property
    def most_flops(self) -> float:
        """Of the largest run."""
        return max(run.flops for run in self.runs)


def fit_law(runs: Sequence[Run], options: FitOptions) -> Fit:
    """The law of a form that fits the runs best. The order of the runs changes nothing.

    Raises:
        FileError: too few runs, or runs of one size alone.
    """
    import numpy as np

    kept = kept_runs(runs, options)
    _check(kept, options)
    form, center = FORMS[options.form], _center(kept)
    problem = _problem(kept, options, EPOCH_DELTA)
    x, y, _ = _logs(kept, center)
    starts = starting_points(form, x, y, problem.target, problem.weights)
    if options.objective == "mad":  # the scatter is that about the fit with Epoch's delta
        found, objectives = descend(replace(problem, precision=0 * problem.precision), starts, tolerance=_LOOSE)
        starts = found[np.argsort(objectives, kind="stable")[:_BEST]]
        scatter = MAD_TO_SIGMA * _median(abs(problem.residuals(starts[:1])[0][0]), problem.weights)
        scatter *= math.sqrt(len(kept) / max(len(kept) - form.size, 1))
        scatter = _shrunk(scatter, len(kept) - form.size, options)
        problem = _problem(kept, options, max(HUBER * scatter, LEAST_DELTA))
    if options.prior is not None:
        starts = np.concatenate([starts, np.where(problem.precision > 0, problem.mean, starts)])
    found, objectives = descend(problem, starts)
    theta, _ = polish(problem, found[objectives.argmin()])
    return _fit(problem, theta, options, kept, len(runs) - len(kept), objectives)


def bootstrap(fit: Fit, resamples: int, seed: int = 0) -> tuple[Coefficients, ...]:
    """The coefficients of fits to runs drawn with replacement: what is usually called their standard error."""
    import numpy as np

    problem = _problem(fit.runs, fit.options, fit.delta)
    n = len(fit.runs)
    draws: list[Coefficients] = []
    generator = np.random.default_rng(seed)
    for size in [_CHUNK] * (resamples // _CHUNK) + [resamples % _CHUNK] * (resamples % _CHUNK > 0):
        counts = generator.multinomial(n, np.full(n, 1 / n), size)
        resampled = replace(problem, weights=problem.weights * counts)
        thetas, _ = descend(resampled, np.tile(fit.theta, (size, 1)), tolerance=1e-9)
        draws += [coefficients(fit.form, theta, fit.center) for theta in thetas]
    return tuple(draws)


def kept_runs(runs: Sequence[Run], options: FitOptions) -> tuple[Run, ...]:
    """The runs of enough tokens per parameter, sorted."""
    return tuple(sorted(run for run in runs if run.tokens >= options.least_ratio * run.params))


def least_runs(options: FitOptions) -> int:
    """A prior speaks for all but A and B; without one, more runs than parameters."""
    return LEAST_RUNS if options.prior is not None else FORMS[options.form].size + 1


def _check(kept: tuple[Run, ...], options: FitOptions) -> None:
    least = least_runs(options)
    if len(kept) < least:
        ratio = options.least_ratio
        raise FileError(f"{len(kept)} runs of at least {ratio:g} tokens per parameter, expected at least {least}")
    for quantity, values in (("N", {run.params for run in kept}), ("D", {run.tokens for run in kept})):
        if len(values) == 1:
            raise FileError(f"every run has {quantity} = {values.pop():g}: expected at least two")


def _center(kept: Sequence[Run]) -> tuple[float, float]:
    """Mean ln N and mean ln D."""
    n = len(kept)
    return sum(math.log(run.params) for run in kept) / n, sum(math.log(run.tokens) for run in kept) / n


def _logs(kept: Sequence[Run], center: tuple[float, float]) -> tuple[Array, Array, Array]:
    """ln N and ln D, centred, and ln of the measured losses."""
    import numpy as np

    params, tokens, losses = np.log([(run.params, run.tokens, run.loss) for run in kept]).T
    return params - center[0], tokens - center[1], losses


def _problem(kept: Sequence[Run], options: FitOptions, delta: float) -> Problem:
    """What is minimized over the runs kept, with the prior where there is one."""
    import numpy as np

    form = FORMS[options.form]
    weights = _weights(kept) if options.objective == "mad" else np.ones(len(kept))
    x, y, target = _logs(kept, _center(kept))
    problem = form_problem(form, x, y, target, weights, delta)
    if options.prior is None:
        return problem
    sigma = max(delta / HUBER, LEAST_SIGMA)
    mean, precision = np.zeros(form.size), np.zeros(form.size)
    for index, position in enumerate(form.positions):
        if position in options.prior.moments:
            center, deviation = options.prior.moments[position]
            mean[index] = center + (target.min() if position == LOG_E else 0.0)
            precision[index] = (sigma / deviation) ** 2
    return replace(problem, mean=mean, precision=precision)


def _shrunk(sigma: float, freedom: float, options: FitOptions) -> float:
    """The scatter of so many degrees of freedom, and where there is a prior, of a few more at the usual scatter."""
    if options.prior is None:
        return sigma
    freedom = max(freedom, 0.0)
    return math.sqrt((freedom * sigma**2 + USUAL_FREEDOM * USUAL_SIGMA**2) / (freedom + USUAL_FREEDOM))


def _weights(runs: Sequence[Run]) -> Array:
    """How much each run counts, one on average: less the further it is from what is to be predicted."""
    import numpy as np

    flops = np.array([run.flops for run in runs])
    weights = 2.0 ** (np.log10(flops / flops.max()) / HALVING_DECADES)
    result: Array = weights / weights.mean()
    return result


def _median(values: Array, weights: Array) -> float:
    """The least value that half of the weight does not exceed."""
    import numpy as np

    order = np.argsort(values, kind="stable")
    cumulative = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(cumulative, cumulative[-1] / 2)])


def _fit(
    problem: Problem, theta: Array, options: FitOptions, kept: tuple[Run, ...], dropped: int, objectives: Array
) -> Fit:
    """Scatter and covariance at the minimum."""
    import numpy as np

    at, jacobian = problem.residuals(theta[None])
    plain = replace(problem, precision=0 * problem.precision)
    sigma, covariance = _scatter(problem, theta, abs(at[0]), jacobian[0], options)
    return Fit(
        options=options,
        theta=tuple(theta.tolist()),
        center=_center(kept),
        covariance=tuple(tuple(row) for row in covariance.tolist()),
        sigma=sigma,
        delta=problem.delta,
        objective=float(plain.objective(theta[None], at, problem.weights)[0]),
        agreement=float(np.mean(objectives < objectives.min() * (1 + 1e-6))),
        runs=kept,
        dropped=dropped,
    )


def _scatter(problem: Problem, theta: Array, sizes: Array, jacobian: Array, options: FitOptions) -> tuple[float, Array]:
    """sigma from the sizes of the residuals, those beyond three scales cut, and sigma^2 times the inverse Hessian.

    The degrees of freedom are those that the runs decide: the trace of the Hessian of the runs over that with the
    prior. A parameter at a bound stays there, with no variance; a direction that nothing decides gets a huge one.
    """
    import numpy as np

    weights = problem.weights
    cut = np.minimum(sizes, WINSOR * MAD_TO_SIGMA * _median(sizes, weights) + 1e-12)
    mean_square = float(weights @ cut**2 / weights.sum())
    huber = np.minimum(1, HUBER * max(math.sqrt(mean_square), 1e-12) / np.maximum(sizes, 1e-300))
    data = (jacobian * (weights * huber)[:, None]).T @ jacobian
    free = (theta > problem.least) & (theta < problem.most)
    block = np.ix_(free, free)
    values, vectors = np.linalg.eigh((data + np.diag(problem.precision))[block])
    inverse = np.zeros_like(data)
    inverse[block] = (vectors / np.maximum(values, 1e-13 * values.max(initial=1e-300))) @ vectors.T
    effective = float(weights.sum() ** 2 / (weights @ weights))
    freedom = max(effective - float(np.trace(data @ inverse)), 1.0)
    sigma = _shrunk(math.sqrt(mean_square * effective / freedom), freedom, options)
    return sigma, sigma**2 * inverse
