"""Fits of simulated runs whose law is known, and the derivatives that the minimizer uses."""

from __future__ import annotations

import math
import os
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from analytic.errors import FileError
from analytic.scaling.fit import Fit, FitOptions, Prior, bootstrap, fit_law
from analytic.scaling.fitted_plan import plan_with_intervals
from analytic.scaling.forms import ALPHA, BETA, FORMS, LOG_E, LOG_K, Coefficients, FormName, curvature, with_jacobian
from analytic.scaling.intervals import fit_with_intervals
from analytic.scaling.prior import load_prior
from analytic.scaling.runs import Run, read_runs

TRUTHS: dict[FormName, Coefficients] = {
    "coupled": Coefficients(e=1.6, a=300.0, b=900.0, alpha=0.29, beta=0.30, k=0.4),
    "additive": Coefficients(e=1.8, a=480.0, b=2100.0, alpha=0.35, beta=0.37, k=1.0),
    "tied": Coefficients(e=1.8, a=480.0, b=2100.0, alpha=0.35, beta=0.35, k=1.0),
    "zero_e": Coefficients(e=0.0, a=30.0, b=60.0, alpha=0.12, beta=0.13, k=1.0),
}
PARAMS = [10 ** (7.5 + 2 * i / 7) for i in range(8)]
RATIOS = [6.3, 15.8, 39.8, 100.0]


def simulated(truth: Coefficients, noise: float = 0.0, seed: int = 0) -> list[Run]:
    """32 runs of eight sizes, their losses off by normal errors of so many nats per nat."""
    generator = random.Random(seed)
    points = [(n, ratio * n) for n in PARAMS for ratio in RATIOS]
    return [Run(n, d, truth.loss(n, d) * math.exp(generator.gauss(0, noise))) for n, d in points]


def test_the_law_is_as_it_is_written() -> None:
    """(16^(1/2) + 9^(1/2))^2 = 49 with A N^-1 = 64 / 4, B D^-2 = 81 / 9 and k = 2."""
    assert Coefficients(e=1.0, a=64.0, b=81.0, alpha=1.0, beta=2.0, k=2.0).loss(4.0, 3.0) == pytest.approx(50.0)


@pytest.mark.parametrize("name", FORMS)
def test_derivatives_are_those_of_the_function(name: FormName) -> None:
    form = FORMS[name]
    six = np.array([-0.3, 0.2, 0.31, 0.1, 0.25, -0.9])
    theta = six[list(form.positions)]
    generator = np.random.default_rng(0)
    x, y, weights = generator.normal(size=(3, 20))
    step = 1e-6 * np.eye(form.size)
    jacobian = with_jacobian(form, theta[None], x, y)[1][0]
    moved = [[with_jacobian(form, (theta + s)[None], x, y) for s in (d, -d)] for d in step]
    slopes = np.stack([(up[0][0] - down[0][0]) / 2e-6 for up, down in moved], axis=-1)
    assert jacobian == pytest.approx(slopes, abs=1e-8)
    bends = np.stack([weights @ (up[1][0] - down[1][0]) / 2e-6 for up, down in moved], axis=-1)
    assert curvature(form, theta, x, y, weights) == pytest.approx(bends, abs=1e-7)


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("objective", ["mad", "huber-1e-3"])
def test_runs_without_noise_give_their_law_back(name: FormName, objective: str) -> None:
    truth = TRUTHS[name]
    options = FitOptions(form=name, objective="mad" if objective == "mad" else "huber-1e-3")
    found = fit_law(simulated(truth), options).coefficients
    for field in ("e", "a", "b", "alpha", "beta", "k"):
        assert getattr(found, field) == pytest.approx(getattr(truth, field), rel=1e-9, abs=1e-9)


def test_epochs_objective_is_the_sum_of_hubers_loss() -> None:
    """Half the square up to 1e-3, and from there on 1e-3 times all but half of 1e-3."""
    fit = fit_law(simulated(TRUTHS["additive"], noise=0.001), FitOptions(form="additive", objective="huber-1e-3"))
    errors = [abs(math.log(fit.coefficients.loss(run.params, run.tokens) / run.loss)) for run in fit.runs]
    assert min(errors) < 1e-3 < max(errors)
    assert fit.objective == pytest.approx(sum(r * r / 2 if r <= 1e-3 else 1e-3 * (r - 5e-4) for r in errors), rel=1e-9)


def test_no_law_nearby_fits_better() -> None:
    runs = simulated(TRUTHS["additive"], noise=0.01)
    options = FitOptions(form="additive", objective="huber-1e-3")
    best = fit_law(runs, options)

    def objective(c: Coefficients) -> float:
        errors = [abs(math.log(c.loss(run.params, run.tokens) / run.loss)) for run in runs]
        return sum(min(r, 1e-3) * (r - min(r, 1e-3) / 2) for r in errors)

    assert objective(best.coefficients) == pytest.approx(best.objective, rel=1e-9)
    for field in ("e", "a", "b", "alpha", "beta"):
        for factor in (0.999, 1.001):
            nearby = replace(best.coefficients, **{field: factor * getattr(best.coefficients, field)})
            assert objective(nearby) > best.objective


def test_the_order_of_the_runs_changes_nothing() -> None:
    runs = simulated(TRUTHS["coupled"], noise=0.005)
    options = FitOptions(prior=load_prior())
    fit = fit_law(runs, options)
    random.Random(3).shuffle(runs)
    assert fit_law(runs, options) == fit


def test_the_units_change_nothing() -> None:
    runs = simulated(TRUTHS["coupled"], noise=0.005)
    scaled = [Run(run.params / 1e6, run.tokens / 1e9, run.loss) for run in runs]
    options = FitOptions(prior=load_prior(), min_ratio=0.0)
    fit, other = fit_law(runs, options), fit_law(scaled, options)
    assert other.theta == pytest.approx(fit.theta, rel=1e-7)
    assert other.sigma == pytest.approx(fit.sigma, rel=1e-7)


def test_tied_exponents_are_one_and_zero_e_is_zero() -> None:
    runs = simulated(TRUTHS["additive"], noise=0.01)
    tied = fit_law(runs, FitOptions(form="tied")).coefficients
    assert tied.alpha == tied.beta
    assert fit_law(runs, FitOptions(form="zero_e")).coefficients.e == 0


def test_runs_of_few_tokens_per_parameter_are_dropped_and_counted() -> None:
    runs = [*simulated(TRUTHS["coupled"]), Run(1e8, 0.99e8, 9.0), Run(1e8, 1e8, TRUTHS["coupled"].loss(1e8, 1e8))]
    fit = fit_law(runs, FitOptions())
    assert (fit.dropped, len(fit.runs)) == (1, 33)
    additive = fit_law(runs, FitOptions(form="additive"))
    assert (additive.dropped, len(additive.runs)) == (0, 34)


def test_a_prior_decides_what_the_runs_do_not() -> None:
    """Eight runs of 20 tokens per parameter cannot tell one exponent from the other."""
    truth = TRUTHS["coupled"]
    runs = [Run(n, 20 * n, truth.loss(n, 20 * n)) for n in PARAMS]
    moments = {LOG_E: (-0.3, 0.05), ALPHA: (0.27, 0.001), BETA: (0.33, 0.05), LOG_K: (-0.9, 0.1)}
    fit = fit_law(runs, FitOptions(prior=Prior(moments)))
    assert fit.coefficients.alpha == pytest.approx(0.27, abs=0.002)
    assert fit.coefficients.loss(1e9, 2e10) == pytest.approx(truth.loss(1e9, 2e10), rel=2e-3)


def test_no_law_nearby_is_more_probable() -> None:
    """The weighted sum of Huber's loss and half of (sigma / tau)^2 (theta - mu)^2, spelled out."""
    runs = simulated(TRUTHS["coupled"], noise=0.01)
    prior = load_prior()
    fit = fit_law(runs, FitOptions(prior=prior))
    params, tokens, losses, flops = np.array([(run.params, run.tokens, run.loss, run.flops) for run in fit.runs]).T
    weights = 2 ** (np.log10(flops / flops.max()) / 2)  # half as much two decades below the largest
    weights *= len(fit.runs) / weights.sum()
    means = {i: mean + (math.log(losses.min()) if i == LOG_E else 0) for i, (mean, _) in prior.moments.items()}

    def objective(theta: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
        moved = replace(fit, theta=tuple(theta.tolist()))
        r = abs(moved.log_loss(params, tokens) - np.log(losses))
        huber = np.where(r <= fit.delta, r**2 / 2, fit.delta * (r - fit.delta / 2))
        sigma = fit.delta / 1.345
        pulls = [(sigma / sd * (theta[i] - means[i])) ** 2 / 2 for i, (_, sd) in prior.moments.items()]
        return float(weights @ huber + sum(pulls))

    best = np.array(fit.theta)
    for step in 1e-5 * np.eye(6):
        assert objective(best) < min(objective(best + step), objective(best - step))


def test_few_runs_with_a_prior_have_the_usual_scatter_in_part() -> None:
    """Eight runs that scatter by nothing have at most eight degrees of freedom; the usual 0.5% counts for four."""
    runs = [*simulated(TRUTHS["coupled"])[::4], simulated(TRUTHS["coupled"])[1]]
    truth, least = TRUTHS["coupled"], min(run.loss for run in runs)
    known = {LOG_E: math.log(truth.e / least), ALPHA: truth.alpha, BETA: truth.beta, LOG_K: math.log(truth.k)}
    prior = Prior({i: (mean, 0.05) for i, mean in known.items()})
    assert 0.005 * math.sqrt(4 / 13) < fit_law(runs, FitOptions(prior=prior)).sigma < 0.005 * math.sqrt(4 / 7)
    assert fit_law(simulated(truth)[::3], FitOptions()).sigma < 1e-9


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("kind", ["random", "equal", "rising", "tiny", "far apart", "one ratio"])
def test_no_set_of_runs_breaks_a_fit(name: FormName, kind: str) -> None:
    """Warnings are errors in these tests."""
    generator = random.Random(kind)
    runs = []
    for i in range(12):
        n = 10 ** generator.uniform(0 if kind == "far apart" else 7, 15 if kind == "far apart" else 9)
        d = n * (20 if kind == "one ratio" else 10 ** generator.uniform(0, 3))
        loss = {"equal": 3.0, "rising": 1e-3 * n**0.3, "tiny": 1e-6 / (i + 1)}.get(kind, generator.uniform(2, 9))
        runs.append(Run(n, d, loss))
    for prior in (None, load_prior()):
        law = fit_with_intervals(runs, FitOptions(form=name, prior=prior))
        for one in law.predict([(1e6, 1e6), (1e9, 1e11), (1e12, 1e13)]):
            assert 0 < one.low_95 <= one.low_80 <= one.loss <= one.high_80 <= one.high_95 < math.inf
        plan = plan_with_intervals(law, 10 * law.fit.most_flops)
        assert 0 < plan.params.low_95 <= plan.params.high_95 < math.inf


def test_what_the_runs_do_not_decide_is_less_certain() -> None:
    """Without a prior, and off the one ratio of tokens to parameters that the runs have."""
    truth = TRUTHS["additive"]
    generator = random.Random(0)
    losses = [truth.loss(n, 20 * n) * math.exp(generator.gauss(0, 0.003)) for n in PARAMS]
    runs = [Run(n, 20 * n, loss) for n, loss in zip(PARAMS, losses, strict=True)]
    fit = fit_law(runs, FitOptions(form="additive"))
    on, off = fit.standard_error(np.array([1e9, 1e9]), np.array([2e10, 2e12]))
    assert on < 0.05
    assert off > 5 * on


def test_more_scatter_is_a_larger_sigma() -> None:
    found = [fit_law(simulated(TRUTHS["coupled"], noise=noise), FitOptions()).sigma for noise in (0.002, 0.01)]
    assert found[0] == pytest.approx(0.002, rel=0.4)
    assert found[1] == pytest.approx(0.01, rel=0.4)


@pytest.mark.parametrize(
    ("runs", "options", "message"),
    [
        ([], FitOptions(), "0 runs of at least 1 tokens per parameter, expected at least 7"),
        (simulated(TRUTHS["coupled"])[:5], FitOptions(form="additive"), "5 runs .* expected at least 6"),
        (simulated(TRUTHS["coupled"])[:3], FitOptions(prior=Prior({})), "3 runs .* expected at least 4"),
        ([Run(1e8, 1e9 * i, 3.0) for i in range(1, 9)], FitOptions(), "every run has N = 1e"),
        ([Run(1e6 * i, 1e9, 3.0) for i in range(1, 9)], FitOptions(), "every run has D = 1e"),
    ],
)
def test_too_little_to_fit_is_refused(runs: list[Run], options: FitOptions, message: str) -> None:
    with pytest.raises(FileError, match=message):
        fit_law(runs, options)


def test_a_bootstrap_repeats_itself() -> None:
    fit = fit_law(simulated(TRUTHS["additive"], noise=0.01), FitOptions(form="additive"))
    assert bootstrap(fit, 5, seed=1) == bootstrap(fit, 5, seed=1) != bootstrap(fit, 5, seed=2)


@pytest.fixture(scope="module")
def chinchilla() -> Fit:
    """Epoch's 240 of the 245 points: those below the fifth highest loss."""
    runs = read_runs(Path(os.environ["CHINCHILLA_CSV"]))
    fifth = sorted(run.loss for run in runs)[-5]
    kept = [run for run in runs if run.loss < fifth]
    assert len(kept) == 240
    return fit_law(kept, FitOptions(form="additive", objective="huber-1e-3"))


@pytest.mark.chinchilla
def test_epochs_points_reach_the_least_known_objective(chinchilla: Fit) -> None:
    """The least that scipy's L-BFGS-B finds from 4,500 starts at tight tolerances."""
    assert chinchilla.objective == pytest.approx(1.0182740178e-3, rel=1e-9)
    c = chinchilla.coefficients
    assert (c.e, c.a, c.b) == pytest.approx((1.8172181, 477.82587, 2143.41736), rel=1e-6)
    assert (c.alpha, c.beta) == pytest.approx((0.3473105, 0.3671724), rel=1e-6)


@pytest.mark.chinchilla
def test_standard_errors_are_those_of_epoch(chinchilla: Fit) -> None:
    """Besiroglu et al. 2024, arXiv:2404.10102, from 4,000 resamples."""
    draws = bootstrap(chinchilla, 4000, seed=42)
    published = {"a": 124.5, "b": 1293.0, "e": 0.0257, "alpha": 0.0154, "beta": 0.0206}
    for name, error in published.items():
        assert np.std([getattr(draw, name) for draw in draws], ddof=1) == pytest.approx(error, rel=0.05)
