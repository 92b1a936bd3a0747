"""Which law a family of architectures gets, and the architecture that a law of N and D alone finds best."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from analytic.errors import PlannerError
from analytic.hardware.table import load_hardware
from analytic.model.flops import training_flops
from analytic.model.params import parameter_counts
from analytic.performance.mfu import Assumed
from analytic.planning.architectures import Family, build, frontier
from analytic.planning.budget import DataLimit, Dollars
from analytic.planning.forward import Plan, make_plan
from analytic.planning.laws import allocated, is_compared, of_family
from analytic.planning.losses import objective
from analytic.planning.market import compare
from analytic.planning.request import Request
from analytic.scaling.law_file import load_all_laws, load_law
from analytic.scaling.laws import AllocationLaw, MoeLaw, ScalingLaw

LAWS = load_all_laws()
FAMILY = Family(kind="dense", vocab_size=128_000, seq_len=4096)
HARDWARE = load_hardware()


def allocation(name: str) -> AllocationLaw:
    law = LAWS[name]
    assert isinstance(law, AllocationLaw)
    return law


def planned(name: str, *, data: DataLimit | None = None, params: int | None = None) -> Plan:
    market = compare(HARDWARE, mfu=Assumed(value=0.4, by="given"), mfu_by_gpu={}, price_by_gpu={"h100-sxm": 2.5})
    request = Request(
        budget=Dollars(1e5),
        market=market,
        law=load_law("besiroglu"),
        allocation=allocation(name),
        family=FAMILY,
        data=data or DataLimit(),
        params=params,
    )
    return make_plan(request, ())


def test_the_number_of_experts_is_the_family_s() -> None:
    law = LAWS["ludziejewski"]
    assert isinstance(law, MoeLaw)
    assert of_family(law, "moe") == law.at(8)
    assert of_family(law, "dense") == law.at(1)
    assert of_family(LAWS["besiroglu"], "moe") is LAWS["besiroglu"]


def test_laws_with_experts_are_compared_for_such_models_alone() -> None:
    dense, moe = ({name for name, law in LAWS.items() if is_compared(law, kind)} for kind in ("dense", "moe"))
    assert moe - dense == {"ludziejewski"}
    assert "kaplan" not in moe
    assert {"deepseek", "llama-3", "besiroglu"} <= dense


def test_deepseek_s_m_has_neither_embedding_nor_head() -> None:
    """72 n_layer d^2 + 12 n_layer d s of a model of multi-head attention and 8 d^2 of feed-forward: here as counted."""
    compute = Fraction(10) ** 21
    goal = objective(load_law("besiroglu"), FAMILY, DataLimit())
    away = {}
    for each in frontier(goal.family):
        spec = build(goal.family, each.hidden_size, each.layer, each.depth)
        every = training_flops(spec, seq_len=4096, convention="full").training_per_token
        m = every - 6 * each.hidden_size * 128_000
        ratio = m / (0.1715 * (m * 1e21 / every) ** 0.5243)
        away[each] = max(ratio, 1 / ratio)
    found = allocated(allocation("deepseek"), goal, compute)
    assert found == min(away, key=lambda each: away[each])
    assert away[found] == pytest.approx(1, abs=0.01)


def test_llama_3_s_tokens_are_of_the_exact_flops() -> None:
    plan = planned("llama-3")
    assert plan.outcome.tokens == pytest.approx(0.299 * float(plan.compute_flops) ** 0.537, rel=0.01)
    assert plan.used_flops == pytest.approx(float(plan.compute_flops), rel=1e-9)
    assert [each.quantity for each in plan.extrapolations] == ["params", "flops"]
    assert any("beyond what llama-3 was fitted on" in each for each in plan.warnings)


def test_the_loss_is_another_law_s() -> None:
    plan = planned("deepseek")
    assert plan.outcome.loss == load_law("besiroglu").loss(plan.params.total, plan.outcome.tokens)
    assert plan.outcome.candidate == plan.request.search_goal(plan.option).fixed
    assert plan.intervals is None


def test_limited_data_end_a_plan_of_a_law_without_a_loss() -> None:
    plan = planned("deepseek", data=DataLimit(dataset_tokens=10**10, max_epochs=1))
    assert plan.dataset_limited
    assert plan.outcome.tokens == 10**10


def test_a_law_without_a_loss_decides_the_size_alone() -> None:
    with pytest.raises(PlannerError, match="deepseek gives N and D without a loss"):
        planned("deepseek", params=8_000_000_000)


def test_an_moe_law_sees_the_active_parameters() -> None:
    law = of_family(LAWS["ludziejewski"], "moe")
    assert isinstance(law, ScalingLaw)
    family = replace(FAMILY, kind="moe")
    goal = objective(law, family, DataLimit())
    chosen = goal.choose(Fraction(10) ** 21)
    counts = parameter_counts(build(goal.family, chosen.hidden_size, chosen.layer, chosen.depth))
    assert chosen.params == counts.active < counts.total
