"""What other laws say of the same runs."""

from __future__ import annotations

import math

import pytest

from analytic.scaling.comparison import Comparison, compared, other_laws
from analytic.scaling.fit import FitOptions, fit_law
from analytic.scaling.intervals import Prediction
from analytic.scaling.law_file import load_laws
from analytic.scaling.prior import load_prior
from analytic.scaling.runs import Run
from tests.analytic.scaling.test_fit import TRUTHS, simulated

PREDICTION = Prediction(1e9, 2e10, 2.5, low_80=2.4, high_80=2.6, low_95=2.3, high_95=2.7)


def test_the_additive_law_is_that_of_epochs_objective() -> None:
    runs = simulated(TRUTHS["additive"], noise=0.003)
    additive, _ = other_laws(fit_law(runs, FitOptions(prior=load_prior())))
    direct = fit_law(runs, FitOptions(form="additive", objective="huber-1e-3")).coefficients
    assert additive.name == "additive, huber-1e-3"
    assert additive.loss(3e9, 6e10) == pytest.approx(direct.loss(3e9, 6e10), rel=1e-12)


def test_runs_of_a_published_law_times_a_number_give_the_number_back() -> None:
    """Of 33 losses the median ratio is 1.07, whatever one of them says."""
    law = load_laws()["besiroglu"]
    runs = [Run(run.params, run.tokens, 1.07 * law.loss(run.params, run.tokens)) for run in simulated(TRUTHS["tied"])]
    runs.append(Run(1e9, 3e10, 9.0))
    published = other_laws(fit_law(runs, FitOptions(prior=load_prior())))[-1]
    assert published.name == "besiroglu x 1.070"
    assert published.loss(7e9, 2e11) == pytest.approx(1.07 * law.loss(7e9, 2e11), rel=1e-9)


def test_a_law_is_not_compared_with_itself_or_with_what_cannot_be_fitted() -> None:
    runs = simulated(TRUTHS["additive"], noise=0.003)
    epoch = FitOptions(form="additive", objective="huber-1e-3")
    assert len(other_laws(fit_law(runs, epoch))) == 1
    assert len(other_laws(fit_law(runs, FitOptions(form="additive")))) == 2
    assert len(other_laws(fit_law(runs[:5], FitOptions(prior=load_prior())))) == 1


@pytest.mark.parametrize(
    ("loss", "disagrees"), [(2.39, True), (2.41, False), (2.59, False), (2.61, True), (math.inf, True)]
)
def test_outside_the_80_percent_interval_is_a_disagreement(loss: float, disagrees: bool) -> None:
    assert Comparison("another", loss, PREDICTION).disagrees == disagrees


def test_every_law_is_compared_at_every_prediction() -> None:
    others = other_laws(fit_law(simulated(TRUTHS["coupled"]), FitOptions(prior=load_prior())))
    found = compared(others, [PREDICTION, PREDICTION])
    assert [one.name for one in found] == 2 * [one.name for one in others]
    assert found[0].loss == others[0].loss(1e9, 2e10)
