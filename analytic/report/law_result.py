"""A law fitted to the runs of a file, what it was asked, and what other laws say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from analytic.report.units import percent
from analytic.scaling.backtest import HoldOut
from analytic.scaling.comparison import Comparison
from analytic.scaling.fit import Prior
from analytic.scaling.fitted_plan import FittedPlan
from analytic.scaling.intervals import FittedLaw, Prediction
from analytic.scaling.laws import ParamsConvention
from analytic.scaling.runs import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class LawFit:
    """A law fitted to the runs of a file, and what it was asked.

    Attributes:
        repeated: runs left out because they repeat data.
        hold_out: None where the runs are too few for one.
        flops: the budget of `optimum`.
        predicted: the runs asked for, whose losses are `predictions`.
        comparisons: what other laws of the same runs say at each prediction and at the optimum.
    """

    source: str
    law: FittedLaw
    n_means: ParamsConvention
    repeated: int
    hold_out: HoldOut | None
    flops: float
    optimum: FittedPlan
    predicted: Sequence[Run]
    predictions: Sequence[Prediction]
    comparisons: Sequence[Comparison]

    @property
    def shown_source(self) -> str:
        """The name of the file in printable ASCII."""
        return plain(self.source)

    def decades_beyond(self, run: Run) -> float:
        """Of compute beyond the largest run fitted."""
        return max(math.log10(run.flops / self.law.fit.most_flops), 0.0)

    @property
    def method(self) -> str:
        """How it was fitted, in printable ASCII."""
        options = self.law.fit.options
        return f"{options.form} form, {options.objective} objective, prior: {plain(prior_origin(options.prior))}"

    @property
    def left_out(self) -> str:
        ratio = self.law.fit.options.least_ratio
        return (
            f"left out: {self.law.fit.dropped} of fewer than {ratio:g} tokens per parameter, "
            f"{self.repeated} that repeat data"
        )

    @property
    def backtest(self) -> str:
        held_out = self.hold_out
        if held_out is None:
            return "no backtest: too few runs below or above the cut"
        return (
            f"{held_out.fitted} runs fitted, the {held_out.runs} within {10**held_out.decades:.3g}x of the largest "
            f"predicted: {percent(held_out.largest_abs_error)} off at the largest budget, "
            f"{held_out.coverage_80:.0%} inside 80%, {held_out.coverage_95:.0%} inside 95%"
        )


def plain(text: str) -> str:
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in text)


def prior_origin(prior: Prior | None) -> str:
    return "none" if prior is None else ", ".join(prior.families) or "of a file that names no families"
