"""How well a law fitted to the small runs predicts the large ones, by definitions that anyone can repeat."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from analytic.errors import FileError
from analytic.scaling.fit import FitOptions, kept_runs
from analytic.scaling.intervals import FittedLaw, Prediction, can_fit, fit_with_intervals, largest_budget, split
from analytic.scaling.runs import Run

LEAST_TO_JUDGE_BY = 4


@dataclass(frozen=True, slots=True)
class HoldOut:
    """The runs of C <= Cmax / 10^decades fitted, every larger one predicted.

    Attributes:
        runs: how many were predicted.
        median_abs_error: of loss, as a fraction, over those.
        largest_abs_error: the mean over the runs at the largest budget.
        coverage_80, coverage_95: the part of the measured losses inside the intervals.
        width_95: the median full width of the 95% interval over the prediction.
        law: of the runs fitted.
    """

    decades: float
    fitted: int
    runs: int
    median_abs_error: float
    largest_abs_error: float
    coverage_80: float
    coverage_95: float
    width_95: float
    law: FittedLaw

    @property
    def failed(self) -> bool:
        """More than a third of the runs outside the 95% interval, or too few to judge by."""
        outside = round((1 - self.coverage_95) * self.runs)
        return self.runs < LEAST_TO_JUDGE_BY or 3 * outside > self.runs


def hold_out(runs: Sequence[Run], decades: float, options: FitOptions) -> HoldOut:
    """Fit to the smaller runs, predict the larger ones.

    Raises:
        FileError: too few runs below the cut, or none above it.
    """
    smaller, larger = split(kept_runs(runs, options), decades)
    if not larger or not can_fit(smaller, options):
        counts = f"{len(smaller)} runs below it and {len(larger)} above"
        raise FileError(f"nothing to hold out {decades:g} decades below the largest run: {counts}")
    law = fit_with_intervals(smaller, options)
    predictions = law.predict_runs(larger)
    largest = largest_budget(larger)
    return HoldOut(
        decades=decades,
        fitted=len(smaller),
        runs=len(larger),
        median_abs_error=statistics.median(map(abs_error, predictions, larger)),
        largest_abs_error=statistics.fmean(map(abs_error, law.predict_runs(largest), largest)),
        coverage_80=statistics.fmean(p.low_80 <= r.loss <= p.high_80 for p, r in zip(predictions, larger, strict=True)),
        coverage_95=statistics.fmean(p.low_95 <= r.loss <= p.high_95 for p, r in zip(predictions, larger, strict=True)),
        width_95=statistics.median((p.high_95 - p.low_95) / p.loss for p in predictions),
        law=law,
    )


def abs_error(prediction: Prediction, run: Run) -> float:
    """|predicted / measured - 1| of a loss."""
    return abs(prediction.loss / run.loss - 1)
