"""The intervals of a plan by a law of one's own: against the rule spelled out, and against normal quantiles."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from analytic.hardware.table import load_hardware
from analytic.performance.mfu import Assumed
from analytic.planning.architectures import Family
from analytic.planning.budget import DataLimit, Dollars
from analytic.planning.forward import Plan, make_plan
from analytic.planning.market import compare
from analytic.planning.request import Request
from analytic.scaling.fitted_plan import plan_with_intervals, predictive
from analytic.scaling.laws import ScalingLaw
from analytic.scaling.posterior import Uncertainty

HARDWARE = load_hardware()
MARKET = compare(HARDWARE, mfu=Assumed(value=0.4, by="given"), mfu_by_gpu={}, price_by_gpu={"h100-sxm": 2.5})
FAMILY = Family(kind="dense", vocab_size=32_000, seq_len=4096)
NORMAL_80, NORMAL_95 = 1.2816, 1.9600  # standard deviations around the mean
LOG_E, LOG_A, ALPHA, LOG_B, BETA = range(5)


def law_with(
    variances: dict[int, float], *, kappa: float = 1.0, most: float = 1e21, sigma: float = 0.004
) -> ScalingLaw:
    """An additive law with independent errors at the centre N = 1e9, D = 2e10."""
    return ScalingLaw(
        name="mine",
        citation="ours",
        e=1.8,
        a=400,
        b=2000,
        alpha=0.34,
        beta=0.37,
        n_means="total",
        d_means="tokens",
        uncertainty=Uncertainty(
            form="additive",
            center=(math.log(1e9), math.log(2e10)),
            covariance=tuple(tuple(variances.get(i, 0.0) if i == j else 0.0 for j in range(5)) for i in range(5)),
            sigma=0.004,
            kappa=kappa,
            largest_run_flops=most,
        ),
    )


def planned(law: ScalingLaw, usd: float = 2e4, data: DataLimit | None = None, family: Family = FAMILY) -> Plan:
    request = Request(budget=Dollars(usd), market=MARKET, law=law, family=family, data=data or DataLimit())
    return make_plan(request, [law])


def test_an_error_of_a_alone_moves_n_by_it_over_the_exponents() -> None:
    """N^(alpha + beta) is proportional to A: ln N scatters by kappa sd(ln A) / (alpha + beta), and D against it."""
    law = predictive(law_with({LOG_A: 0.1**2}, kappa=2.0))
    assert law is not None
    plan = plan_with_intervals(law, 1e22)
    deviation = 2.0 * 0.1 / (0.34 + 0.37)
    for one in (plan.params, plan.tokens):
        assert math.log(one.high_80 / one.low_80) == pytest.approx(2 * NORMAL_80 * deviation, rel=0.06)
        assert math.log(one.high_95 / one.low_95) == pytest.approx(2 * NORMAL_95 * deviation, rel=0.06)


def test_the_loss_of_the_plan_itself_is_by_the_rule() -> None:
    """sd^2 = kappa^2 (sigma^2 + (E / L)^2 var(ln E)) + (1% a decade)^2, times 1.3 and 2.2."""
    plan = planned(law_with({LOG_E: 0.01**2}, kappa=1.5, most=1e20))
    decades = math.log10(plan.used_flops / 1e20)
    share = 1.8 / plan.outcome.loss
    deviation = math.sqrt(1.5**2 * (0.004**2 + (share * 0.01) ** 2) + (0.01 * decades) ** 2)
    assert plan.intervals is not None
    assert plan.intervals.decades_beyond == pytest.approx(decades)
    assert plan.intervals.loss.value == pytest.approx(plan.outcome.loss)
    assert math.log(plan.intervals.loss.high_80 / plan.outcome.loss) == pytest.approx(1.3 * deviation)
    assert math.log(plan.outcome.loss / plan.intervals.loss.low_95) == pytest.approx(2.2 * deviation)


def test_a_law_without_error_has_the_optimum_of_exact_flops_at_both_ends() -> None:
    plan = planned(law_with({}))
    assert plan.intervals is not None
    assert plan.intervals.params is not None
    assert plan.intervals.tokens is not None
    for end in ("low_95", "low_80", "high_80", "high_95"):
        assert getattr(plan.intervals.params, end) == pytest.approx(plan.optimum.params, rel=1e-3)
        assert getattr(plan.intervals.tokens, end) == pytest.approx(plan.optimum.tokens, rel=1e-3)


@pytest.mark.parametrize("kind", ["dense", "moe"])
def test_an_interval_of_n_counts_all_parameters(kind: str) -> None:
    """Whatever the law counts: its optimum, times all parameters of the plan over those that it counts."""
    law = replace(law_with({}), n_means="non_embedding")
    plan = planned(law, family=replace(FAMILY, kind=kind))  # type: ignore[arg-type]  # one of the two
    assert plan.intervals is not None
    assert plan.intervals.params is not None
    assert plan.params.total > 1.02 * plan.outcome.candidate.params
    total = plan.optimum.params * plan.params.total / plan.outcome.candidate.params
    assert plan.intervals.params.low_80 == pytest.approx(total, rel=1e-3)


def test_what_the_data_decide_has_no_interval() -> None:
    law = law_with({LOG_A: 0.01})
    for data in (DataLimit(dataset_tokens=10**9), DataLimit(dataset_tokens=10**11, max_epochs=4)):
        plan = planned(law, data=data)
        assert plan.outcome.tokens > data.unique
        assert plan.intervals is not None
        assert plan.intervals.params is plan.intervals.tokens is None
        assert plan.intervals.loss.value == pytest.approx(plan.outcome.loss)


def test_far_beyond_the_runs_twenty_tokens_a_parameter_are_named() -> None:
    near, far = (planned(law_with({}, most=most)) for most in (1e22, 1e19))
    assert near.intervals is not None
    assert far.intervals is not None
    assert not near.intervals.too_far
    assert far.intervals.too_far
    params, tokens = far.intervals.chinchilla
    assert tokens == pytest.approx(20 * params)
    assert 1.0 < float(far.compute_flops) / (6 * params * tokens) < 1.2  # attention and the output head are the rest
    said = [each for each in far.warnings if "D = 20 N chooses better" in each]
    assert len(said) == 1
    assert f"N {params:.3g}, D {tokens:.3g}" in said[0]
    assert not [each for each in near.warnings if "20 N" in each]


def test_a_published_law_states_none() -> None:
    assert planned(replace(law_with({}), uncertainty=None)).intervals is None


def test_more_tokens_than_an_integer_of_numpy_holds() -> None:
    cheap = planned(replace(law_with({LOG_A: 0.01}), a=1e-9), usd=1e15)
    assert cheap.outcome.tokens > 2**63
    assert cheap.intervals is not None
    assert cheap.intervals.loss.low_95 < cheap.outcome.loss < cheap.intervals.loss.high_95
