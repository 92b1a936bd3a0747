"""What other laws make of the same runs: the additive law that most papers fit, and a published one scaled to them.

Where they disagree with a law by more than its interval, the choice of the law decides, not the runs.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from analytic.defaults import DEFAULT_LAW
from analytic.scaling.fit import Fit, FitOptions, fit_law
from analytic.scaling.intervals import Prediction, can_fit
from analytic.scaling.law_file import load_laws

EPOCH = FitOptions(form="additive", objective="huber-1e-3")  # Besiroglu et al. 2024, arXiv:2404.10102


@dataclass(frozen=True, slots=True)
class OtherLaw:
    """Another law of the same runs: nats per token by N and D."""

    name: str
    loss: Callable[[float, float], float]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What another law says where a law predicts."""

    name: str
    loss: float
    predicted: Prediction

    @property
    def disagrees(self) -> bool:
        """Whether it is outside the 80% interval."""
        return not self.predicted.low_80 <= self.loss <= self.predicted.high_80


def other_laws(fit: Fit) -> tuple[OtherLaw, ...]:
    """The additive fit by Epoch's objective, unless it is this fit or needs more runs; a published law, scaled."""
    options = replace(EPOCH, min_ratio=fit.options.least_ratio)
    others = [_scaled(fit)]
    if replace(fit.options, min_ratio=options.min_ratio) != options and can_fit(fit.runs, options):
        others.insert(0, OtherLaw("additive, huber-1e-3", fit_law(fit.runs, options).coefficients.loss))
    return tuple(others)


def compared(others: Sequence[OtherLaw], predictions: Sequence[Prediction]) -> tuple[Comparison, ...]:
    """Every other law at every prediction."""
    return tuple(Comparison(one.name, one.loss(p.params, p.tokens), p) for p in predictions for one in others)


def _scaled(fit: Fit) -> OtherLaw:
    """The default published law times one number, the median of measured over published losses of the runs."""
    law = load_laws()[DEFAULT_LAW]
    ratios = [math.log(run.loss / law.loss(run.params, run.tokens)) for run in fit.runs]
    scale = math.exp(statistics.median(ratios))
    return OtherLaw(f"{law.name} x {scale:.3f}", lambda params, tokens: scale * law.loss(params, tokens))
