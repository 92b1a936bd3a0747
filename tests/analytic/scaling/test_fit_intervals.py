"""Intervals, backtests, the prior and plans of fitted laws."""

from __future__ import annotations

import math
import random
import statistics
from dataclasses import replace
from pathlib import Path

import pytest

from analytic.errors import FileError
from analytic.scaling.backtest import HoldOut, hold_out
from analytic.scaling.fit import FitOptions, fit_law
from analytic.scaling.fitted_plan import best_params, near_optimal, plan_with_intervals
from analytic.scaling.forms import ALPHA, LOG_E, Coefficients, FormName
from analytic.scaling.intervals import FittedLaw, fit_with_intervals, largest_budget, split
from analytic.scaling.optimum import CostCurve, TabledCost
from analytic.scaling.prior import as_toml, fitted_alone, load_prior, main, prior_of, shipped_runs
from analytic.scaling.repeats import fit_repeats
from analytic.scaling.runs import Columns, Run, read_runs
from tests.analytic.scaling.test_fit import PARAMS, RATIOS, TRUTHS, simulated

COUPLED = TRUTHS["coupled"]


@pytest.fixture(scope="module")
def law() -> FittedLaw:
    return fit_with_intervals(simulated(COUPLED, noise=0.004), FitOptions(prior=load_prior()))


def test_the_interval_is_by_the_rule(law: FittedLaw) -> None:
    """sd^2 = kappa^2 (sigma^2 + posterior) + (1% a decade)^2, two decades beyond, times 1.3 and 2.2."""
    import numpy as np

    n = math.sqrt(law.fit.most_flops * 100 / 6 / 20)
    wider = replace(law, kappa=1.7)
    (found,) = wider.predict([(n, 20 * n)])
    posterior = float(law.fit.standard_error(np.array([n]), np.array([20 * n]))[0])
    deviation = math.sqrt(1.7**2 * (law.fit.sigma**2 + posterior**2) + 0.02**2)
    assert found.loss == pytest.approx(law.fit.coefficients.loss(n, 20 * n))
    assert math.log(found.high_80 / found.loss) == pytest.approx(1.3 * deviation)
    assert math.log(found.loss / found.low_95) == pytest.approx(2.2 * deviation)


def test_kappa_is_the_scatter_of_the_own_backtests(law: FittedLaw) -> None:
    squares = sum(one.held_out * one.rms_z**2 for one in law.backtests)
    count = sum(one.held_out for one in law.backtests)
    assert [one.decades for one in law.backtests] == [0.4, 0.8, 1.2]
    assert all(one.fitted + one.held_out == 32 for one in law.backtests)
    assert law.kappa == pytest.approx(max(1, math.sqrt(squares / count)))


def test_large_runs_off_the_law_widen_the_interval() -> None:
    runs = simulated(COUPLED, noise=0.002)
    edge = max(run.flops for run in runs) / 10
    moved = [replace(run, loss=run.loss * 1.05) if run.flops > edge else run for run in runs]
    options = FitOptions(prior=load_prior())
    assert fit_with_intervals(runs, options).kappa < 1.5
    assert fit_with_intervals(moved, options).kappa > 2


def test_a_cut_is_by_compute() -> None:
    runs = [Run(1.0, 10.0**i, 2.0) for i in range(4)]
    assert split(runs, 1.0) == (tuple(runs[:3]), (runs[3],))
    assert split(runs, 1.1) == (tuple(runs[:2]), tuple(runs[2:]))
    near = [Run(1.0, 100.0, 2.0), Run(2.0, 49.8, 2.0), Run(1.0, 98.0, 2.0)]
    assert largest_budget(near) == tuple(near[:2])


def test_a_hold_out_of_runs_without_noise_is_exact() -> None:
    """Of 32 runs, those of ratio N^2 > 1e20: the largest size at 15.8 and up, the next at 39.8 and up."""
    found = hold_out(simulated(COUPLED), 1.0, FitOptions())
    assert (found.runs, found.fitted) == (5, 27)
    assert found.median_abs_error < 1e-9
    assert found.largest_abs_error < 1e-9
    assert (found.coverage_80, found.coverage_95) == (1.0, 1.0)
    assert not found.failed


def test_errors_of_a_hold_out_are_of_the_measured_losses() -> None:
    """Every larger run 10% above the law: predicted / measured - 1 = 1 / 1.1 - 1."""
    runs = simulated(COUPLED)
    edge = max(run.flops for run in runs) / 10
    moved = [replace(run, loss=run.loss * 1.1) if run.flops > edge else run for run in runs]
    found = hold_out(moved, 1.0, FitOptions())
    assert found.median_abs_error == pytest.approx(0.1 / 1.1, rel=1e-6)
    assert found.largest_abs_error == pytest.approx(0.1 / 1.1, rel=1e-6)
    assert found.coverage_95 == 0
    assert found.failed


def test_the_error_at_the_largest_budget_is_of_those_runs_alone() -> None:
    """The one run of 10^9.5 parameters and 100 tokens for each, 20% above its law: 1 / 1.2 - 1."""
    runs = simulated(COUPLED)
    most = max(run.flops for run in runs)
    moved = [replace(run, loss=run.loss * 1.2) if run.flops == most else run for run in runs]
    found = hold_out(moved, 1.0, FitOptions())
    assert found.largest_abs_error == pytest.approx(0.2 / 1.2, rel=1e-6)
    assert found.median_abs_error < 1e-9


def test_a_hold_out_fails_when_a_third_is_outside_or_too_few_are_there(law: FittedLaw) -> None:
    good = HoldOut(1.0, 20, 12, 0.01, 0.01, 0.8, 8 / 12, 0.03, law)
    assert not good.failed
    assert replace(good, coverage_95=7 / 12).failed
    assert replace(good, runs=3).failed


def test_nothing_to_hold_out_is_refused() -> None:
    with pytest.raises(FileError, match="0 runs below it and 32 above"):
        hold_out(simulated(COUPLED), 9.0, FitOptions())


def test_the_optimum_is_where_no_other_size_is_better(law: FittedLaw) -> None:
    flops = 1e21
    best = best_params(law.fit, flops)
    c = law.fit.coefficients
    losses = [c.loss(n, flops / (6 * n)) for n in (0.98 * best, best, 1.02 * best)]
    assert losses[1] == min(losses)


def test_a_cost_of_6n_in_a_table_has_the_closed_optimum(law: FittedLaw) -> None:
    table = TabledCost([(10.0**i, 6 * 10.0**i) for i in range(13)])
    for flops in (1e19, 1e23):
        assert best_params(law.fit, flops, table) == pytest.approx(best_params(law.fit, flops), rel=1e-9)


def test_the_optimum_at_another_cost_is_where_no_other_size_is_better(law: FittedLaw) -> None:
    cost = CostCurve(k=3e5, p=2 / 3)
    flops = 1e20
    best = best_params(law.fit, flops, cost)
    c = law.fit.coefficients
    losses = [c.loss(n, flops / cost.flops_per_token(n)) for n in (0.98 * best, best, 1.02 * best)]
    assert losses[1] == min(losses)
    assert best != pytest.approx(best_params(law.fit, flops), rel=0.02)


def test_a_plan_has_nested_intervals_and_spends_the_compute(law: FittedLaw) -> None:
    flops = 10 * law.fit.most_flops
    plan = plan_with_intervals(law, flops)
    for one in (plan.params, plan.tokens, plan.loss):
        assert one.low_95 < one.low_80 < one.value < one.high_80 < one.high_95
    assert 6 * plan.params.value * plan.tokens.value == pytest.approx(flops)
    assert plan.params.low_80 * plan.tokens.high_80 == pytest.approx(flops / 6, rel=1e-3)
    assert plan.decades_beyond == pytest.approx(1.0)
    assert not plan.too_far
    assert plan_with_intervals(law, 10**1.6 * law.fit.most_flops).too_far
    truth = COUPLED.best_params(flops)
    assert plan.params.low_95 < truth < plan.params.high_95
    assert plan.loss.low_95 < COUPLED.loss(truth, flops / 6 / truth) < plan.loss.high_95
    assert plan_with_intervals(law, flops) == plan


def test_another_seed_moves_intervals_by_the_noise_of_2000_draws(law: FittedLaw) -> None:
    """The best N, its D and the loss do not depend on draws; a 95% bound of N by draws is off by a few percent."""
    plans = [plan_with_intervals(law, 1e22, seed=seed) for seed in (0, 1)]
    assert plans[0].loss == plans[1].loss
    assert plans[0].params.value == plans[1].params.value
    for key in ("low_80", "high_80", "low_95", "high_95"):
        own, other = (math.log(getattr(plan.params, key) / plan.params.value) for plan in plans)
        assert own == pytest.approx(other, rel=0.1)


def test_the_near_optimal_sizes_are_within_5_mnat(law: FittedLaw) -> None:
    flops = 1e21
    best = best_params(law.fit, flops)
    low, high = near_optimal(law.fit, flops, best)
    c = law.fit.coefficients
    allowed = c.loss(best, flops / 6 / best) + 0.005
    assert low < best < high
    for n, inward in ((low, 1.005), (high, 1 / 1.005)):
        assert c.loss(n * inward, flops / 6 / (n * inward)) < allowed < c.loss(n / inward, flops / 6 / (n / inward))


def test_a_wider_kappa_widens_the_plan(law: FittedLaw) -> None:
    narrow, wide = (plan_with_intervals(replace(law, kappa=k), 1e22).params for k in (1.0, 2.0))
    assert math.log(wide.high_80 / wide.low_80) == pytest.approx(2 * math.log(narrow.high_80 / narrow.low_80), rel=0.1)


def test_the_shipped_prior_is_that_of_the_shipped_runs() -> None:
    computed = prior_of({name: fitted_alone(runs) for name, runs in shipped_runs().items()})
    shipped = load_prior()
    assert shipped.families == ("gadre", "gemstones", "muennighoff", "olmo", "porian") == computed.families
    for i, moments in computed.moments.items():
        assert shipped.moments[i] == pytest.approx(moments, abs=6e-5)


def test_a_family_counts_once_in_the_prior() -> None:
    """Families at 0.1, 0.2 and 0.6: the median, and 0.6 times 0.7 standard deviations sqrt(0.07)."""
    thetas = {"a-1": 0.0, "a-2": 0.2, "b": 0.2, "c": 0.6}
    prior = prior_of({name: {i: value for i in range(6)} for name, value in thetas.items()})
    assert prior.moments[ALPHA] == pytest.approx((0.2, 0.6 * 0.7 * math.sqrt(0.07)))
    assert prior.moments[LOG_E] == pytest.approx((0.2, 0.6 * 0.7 * math.sqrt(0.07)))


def test_a_prior_is_read_as_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "prior.toml"
    path.write_text(as_toml(load_prior()), encoding="utf-8")
    assert load_prior(path) == load_prior()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[alpha]\nmean = 0.3\n", "alpha.missing sd"),
        ("[alpha]\nmean = 0.3\nsd = 0\n", "alpha.sd = 0: expected a positive number"),
        ("[alpha]\nmean = 'x'\nsd = 1\n", "alpha.mean = 'x': expected a number"),
        ("[gamma]\nmean = 0.3\nsd = 1\n", "gamma: no such key"),
        ("alpha = 3\n", "alpha = 3: expected an object"),
        ("families = 3\n", "families = 3: expected a list of strings"),
        ("[alpha", "not TOML"),
    ],
)
def test_a_bad_prior_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "prior.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(FileError) as caught:
        load_prior(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert str(caught.value).count(str(path)) == 1


def test_the_command_prints_the_prior(capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    assert "[log_E]\nmean = " in capsys.readouterr().out


@pytest.mark.thorough
@pytest.mark.parametrize(("form", "error"), [("coupled", 0.006), ("additive", 0.012)])
def test_intervals_hold_where_the_truth_is_known(form: FormName, error: float) -> None:
    """Fifty sets of noisy runs; the additive truth is one that the prior did not expect."""
    options = FitOptions(prior=load_prior())
    found = [hold_out(simulated(TRUTHS[form], noise=0.005, seed=seed), 1.0, options) for seed in range(50)]
    assert statistics.fmean(one.median_abs_error for one in found) < error
    assert statistics.fmean(one.coverage_80 for one in found) >= 0.72
    assert statistics.fmean(one.coverage_95 for one in found) >= 0.92


@pytest.mark.thorough
def test_the_coupled_form_errs_little_where_it_is_wrong_and_the_additive_one_much() -> None:
    """A decade beyond twenty sets of noisy runs of each truth; what the N chosen costs by the truth itself."""
    forms = {"coupled": FitOptions(prior=load_prior()), "additive": FitOptions(form="additive")}
    errors, costs = {}, {}
    for truth_name in forms:
        truth = TRUTHS[truth_name]  # type: ignore[index]
        for name, options in forms.items():
            found, cost = [], []
            for seed in range(20):
                smaller, larger = split(simulated(truth, noise=0.003, seed=seed), 1.0)
                fit = fit_law(smaller, options)
                (p,) = FittedLaw(fit, 1.0, ()).predict_runs(largest_budget(larger))
                found.append(abs(p.loss / truth.loss(p.params, p.tokens) - 1))
                flops = 10 * fit.most_flops
                chosen, best = (c.best_params(flops) for c in (fit.coefficients, truth))
                cost.append(truth.loss(chosen, flops / 6 / chosen) - truth.loss(best, flops / 6 / best))
            errors[truth_name, name], costs[truth_name, name] = statistics.fmean(found), statistics.fmean(cost)
    assert errors["coupled", "coupled"] < 0.005
    assert errors["additive", "coupled"] < 0.01
    assert errors["coupled", "additive"] > 1.5 * errors["coupled", "coupled"]
    assert costs["coupled", "additive"] > 1.5 * costs["coupled", "coupled"]
    assert costs["coupled", "coupled"] < 0.0005
    assert costs["additive", "coupled"] < 0.002


@pytest.mark.thorough
@pytest.mark.parametrize(("count", "removed"), [(32, 12), (12, 1)])
@pytest.mark.parametrize("form", ["coupled", "additive"])
def test_an_interval_does_not_shrink_when_runs_are_removed(form: FormName, count: int, removed: int) -> None:
    """The mean of ln(width after / width before) over draws is above 0, or below it by less than two of its errors."""
    options = FitOptions(prior=load_prior())
    generator = random.Random(0)

    def log_width(runs: list[Run]) -> float:
        (found,) = fit_with_intervals(runs, options).predict([(1e10, 2e11)])
        return math.log(math.log(found.high_95 / found.low_95))

    changes = []
    for seed in range(30):
        runs = generator.sample(simulated(TRUTHS[form], noise=0.005, seed=seed), count)
        changes.append(log_width(generator.sample(runs, count - removed)) - log_width(runs))
    error = statistics.stdev(changes) / math.sqrt(len(changes))
    assert statistics.fmean(changes) > -2 * error


def test_repeated_data_without_noise_gives_its_law_back() -> None:
    """U (1 + R_D (1 - exp(-R / R_D))) of tokens; no run has more parameters than its tokens deserve."""
    truth, r_d = TRUTHS["additive"], 12.0
    runs = []
    for n in PARAMS:
        for ratio in RATIOS:
            for epochs in (1, 3, 9):
                unique = ratio * n
                worth = unique * (1 + r_d * (1 - math.exp(-(epochs - 1) / r_d)))
                runs.append(Run(n, epochs * unique, truth.loss(n, worth), unique))
    runs = [run for run in runs if run.params <= deserved(truth, run.unique_tokens)]
    fit = fit_repeats(runs)
    assert (fit.e, fit.alpha, fit.beta, fit.r_d) == pytest.approx((truth.e, truth.alpha, truth.beta, r_d), rel=1e-6)
    assert fit.losses(runs) == pytest.approx([run.loss for run in runs], rel=1e-8)
    assert fit.r_d_at_most is not None
    assert 0.999 * r_d < fit.r_d_at_least <= fit.r_d <= fit.r_d_at_most < 1.001 * r_d


def deserved(c: Coefficients, unique: float) -> float:
    """G (G U)^(beta / alpha), G = (alpha A / (beta B))^(1 / (alpha + beta)) (arXiv:2305.16264, section 3)."""
    g = (c.alpha * c.a / (c.beta * c.b)) ** (1 / (c.alpha + c.beta))
    return float(g * (g * unique) ** (c.beta / c.alpha))


def test_repeats_need_more_runs_than_numbers() -> None:
    with pytest.raises(FileError, match="7 runs of at most 16 epochs"):
        fit_repeats(simulated(TRUTHS["additive"])[:7])


@pytest.mark.thorough
def test_published_repeats_below_3b_predict_those_above() -> None:
    """Runs of at most 16 epochs and at least 5 tokens per parameter. R_D has a least value and no most."""
    path = Path(__file__).parents[3] / "configs" / "laws" / "runs" / "muennighoff.csv"
    runs = read_runs(path, Columns(unique_tokens="unique_tokens"))
    fit = fit_repeats([run for run in runs if run.params < 3e9], min_ratio=5)
    usual = [run for run in runs if 5 * run.params <= run.tokens <= 16 * run.unique_tokens]
    larger = [run for run in usual if run.params >= 3e9]
    errors = [abs(p / run.loss - 1) for p, run in zip(fit.losses(larger), larger, strict=True)]
    assert statistics.fmean(errors) < 0.017
    assert 40 < fit.r_d_at_least < 200
    assert fit.r_d_at_most is None
    assert fit.many_epochs == sum(run.tokens > 16 * run.unique_tokens for run in runs if run.params < 3e9)
