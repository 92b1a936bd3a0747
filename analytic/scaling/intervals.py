"""Intervals of a fitted law that hold for larger runs.

The covariance of a fit is true of its own runs alone: at nominal 95%, a bootstrap of the additive law holds 46% of
the runs ten times larger. Two things mend it. kappa widens the interval by how badly the same fit, made on smaller
runs alone, predicted the larger runs that are there. And no form is exact: 1% a decade of compute beyond the runs.
The factors 1.3 and 2.2 for 80 and 95%, as of a Student's t with few degrees of freedom, were chosen on published
families of runs that the fit had not seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analytic.scaling.fit import LEAST_SIGMA, Fit, FitOptions, fit_law, kept_runs, least_runs
from analytic.scaling.forms import ALPHA, BETA, LOG_A, LOG_B, NAMES
from analytic.scaling.posterior import Predictive
from analytic.scaling.runs import Run

if TYPE_CHECKING:
    from analytic.scaling.forms import Array

CUTS = (0.4, 0.8, 1.2)  # decades of compute below the largest run
PER_DECADE = 0.01
FACTOR_80, FACTOR_95 = 1.3, 2.2
_NO_BOUND = 100.0  # ln of a loss that says nothing, and that a float holds
SAME_BUDGET = 1.01  # budgets within 1% are one: N and D of an isoFLOP set are rounded


@dataclass(frozen=True, slots=True)
class Prediction:
    """A loss in nats per token with its 80 and 95% intervals."""

    params: float
    tokens: float
    loss: float
    low_80: float
    high_80: float
    low_95: float
    high_95: float


@dataclass(frozen=True, slots=True)
class OwnBacktest:
    """How a fit to the runs of least compute predicted the others.

    Attributes:
        decades: of compute between the largest run and the largest that was fitted.
        rms_z: errors of ln L over their standard deviation at kappa = 1.
    """

    decades: float
    fitted: int
    held_out: int
    rms_z: float


@dataclass(frozen=True, slots=True)
class PredictiveLaw:
    """A law that states its own error, and how much wider its intervals have to be."""

    fit: Predictive
    kappa: float

    @property
    def covariance(self) -> tuple[tuple[float, ...], ...]:
        """Of theta, kappa included."""
        return tuple(tuple(self.kappa**2 * value for value in row) for row in self.fit.covariance)

    def predict(self, points: Sequence[tuple[float, float]]) -> tuple[Prediction, ...]:
        """The losses of (N, D) trained at C = 6 N D."""
        return self.predict_runs([Run(params, tokens, loss=1.0) for params, tokens in points])

    def predict_runs(self, runs: Sequence[Run]) -> tuple[Prediction, ...]:
        """The losses of runs by their N, D and compute; what was measured is not looked at."""
        import numpy as np

        if not runs:
            return ()
        log_loss, deviation = self.moments(runs)
        bounds = [factor * deviation for factor in (0, -FACTOR_80, FACTOR_80, -FACTOR_95, FACTOR_95)]
        losses = np.exp((log_loss + np.array(bounds)).clip(-_NO_BOUND, _NO_BOUND)).T.tolist()
        return tuple(Prediction(run.params, run.tokens, *row) for run, row in zip(runs, losses, strict=True))

    def moments(self, runs: Sequence[Run]) -> tuple[Array, Array]:
        """ln L of each run and its standard deviation."""
        return _moments(self.fit, self.kappa, runs)


@dataclass(frozen=True, slots=True)
class FittedLaw(PredictiveLaw):
    """A fit and how much wider its intervals have to be."""

    fit: Fit
    backtests: tuple[OwnBacktest, ...]

    @property
    def coefficient_covariance(self) -> tuple[tuple[float, ...], ...]:
        """Of ln E, ln A, alpha, ln B, beta and ln k at N and D themselves, kappa included; 0 where one is fixed."""
        import numpy as np

        at_origin = np.eye(len(NAMES))
        at_origin[LOG_A, ALPHA], at_origin[LOG_B, BETA] = self.fit.center
        by_theta = at_origin @ self.fit.form.matrix()
        rows = by_theta @ np.array(self.covariance) @ by_theta.T
        return tuple(tuple(row) for row in rows.tolist())


def fit_with_intervals(runs: Sequence[Run], options: FitOptions) -> FittedLaw:
    """The fit to all runs, and kappa by the fits to the smaller ones.

    Raises:
        FileError: too few runs, or runs of one size alone.
    """
    import numpy as np

    fit = fit_law(runs, options)
    errors = {cut: _backtest(fit.runs, cut, options) for cut in CUTS}
    tested = [(cut, fitted, z) for cut, (fitted, z) in errors.items() if len(z)]
    kappa = 1.0
    if tested:
        kappa = max(kappa, _rms(np.concatenate([z for _, _, z in tested])))
    return FittedLaw(fit, kappa, tuple(OwnBacktest(cut, fitted, len(z), _rms(z)) for cut, fitted, z in tested))


def split(runs: Sequence[Run], decades: float) -> tuple[tuple[Run, ...], tuple[Run, ...]]:
    """Runs of C <= Cmax / 10^decades, and every larger one."""
    edge = max(run.flops for run in runs) / 10**decades * (1 + 1e-9)
    return tuple(run for run in runs if run.flops <= edge), tuple(run for run in runs if run.flops > edge)


def largest_budget(runs: Sequence[Run]) -> tuple[Run, ...]:
    """The runs of most compute."""
    most = max(run.flops for run in runs)
    return tuple(run for run in runs if run.flops * SAME_BUDGET >= most)


def can_fit(runs: Sequence[Run], options: FitOptions) -> bool:
    """Whether `fit_law` takes them."""
    kept = kept_runs(runs, options)
    varied = len({run.params for run in kept}) > 1 and len({run.tokens for run in kept}) > 1
    return varied and len(kept) >= least_runs(options)


def _backtest(runs: Sequence[Run], decades: float, options: FitOptions) -> tuple[int, Array]:
    """How many runs were fitted, and the errors of the rest over their standard deviation; none if too few."""
    import numpy as np

    smaller, larger = split(runs, decades)
    if not can_fit(smaller, options):
        return len(smaller), np.empty(0)
    log_loss, deviation = _moments(fit_law(smaller, options), 1.0, larger)
    return len(smaller), (np.log([run.loss for run in larger]) - log_loss) / deviation


def _moments(fit: Predictive, kappa: float, runs: Sequence[Run]) -> tuple[Array, Array]:
    import numpy as np

    params, tokens = np.array([run.params for run in runs]), np.array([run.tokens for run in runs])
    flops = np.array([run.flops for run in runs])
    beyond = np.maximum(np.log10(flops / fit.most_flops), 0)
    noise = max(fit.sigma, LEAST_SIGMA)
    variance = kappa**2 * (noise**2 + fit.standard_error(params, tokens) ** 2) + (PER_DECADE * beyond) ** 2
    return fit.log_loss(params, tokens), np.sqrt(variance)


def _rms(values: Array) -> float:
    return math.sqrt(float((values**2).mean()))
