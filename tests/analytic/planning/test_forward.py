"""Budgets to plans: properties that hold whatever the budget, and the figures of the exercise."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytic.errors import PlannerError
from analytic.exercise.budget import (
    get_optimal_N_D_from_cost,
)
from analytic.hardware.prices import Price, given_price
from analytic.hardware.table import load_hardware
from analytic.huggingface.write import to_config
from analytic.performance.mfu import Assumed, Measured, Mfu, Published, without_communication
from analytic.planning.architectures import Family
from analytic.planning.backward import plan_backward
from analytic.planning.backward_file import load_setup
from analytic.planning.budget import DataLimit, Dollars, MachineTime, compute_from_hours, tokens_from_compute
from analytic.planning.forward import Plan, make_plan
from analytic.planning.market import Market, compare, compute_of, single
from analytic.planning.request import Request
from analytic.scaling.law_file import load_laws
from analytic.units import exact

HARDWARE = load_hardware()
LAWS = load_laws()
DENSE = Family(kind="dense", vocab_size=32_000, seq_len=4096)
MEASURED = Measured(value=0.5, gpu="H200", date="2026-01-01", num_gpus=1, kernel="flash", convention="full")


def market(*, price: float = 4.0, mfu: Mfu | None = None) -> Market:
    return compare(HARDWARE, mfu=mfu or Assumed(value=0.4, by="test"), mfu_by_gpu={}, price_by_gpu={"a100-80": price})


def plan_of(budget: float, *, law: str = "besiroglu", data: DataLimit | None = None, **more: object) -> Plan:
    request = Request(
        budget=Dollars(budget),
        market=market(),
        law=LAWS[law],
        family=DENSE,
        data=data or DataLimit(),
        **more,  # type: ignore[arg-type]
    )
    return make_plan(request, LAWS.values())


budgets = st.floats(1e3, 1e9).map(lambda usd: round(usd, 2))
law_names = st.sampled_from(sorted(LAWS))
# Kaplan's law wants models that the family does not have.
within_the_family = st.sampled_from(sorted(LAWS.keys() - {"kaplan"}))


@pytest.mark.parametrize("budget", [0, -1, float("nan"), float("inf"), 1e16])
def test_an_impossible_budget_is_refused(budget: float) -> None:
    with pytest.raises(PlannerError, match="budget"):
        get_optimal_N_D_from_cost(budget)


@settings(deadline=None, max_examples=25)
@given(budget=budgets, more=st.floats(1.0001, 1e3), law=law_names)
def test_more_budget_is_never_worse(budget: float, more: float, law: str) -> None:
    less, richer = plan_of(budget, law=law), plan_of(budget * more, law=law)
    assert richer.optimum.loss <= less.optimum.loss
    assert richer.sensitivity.best_of_family.loss <= less.sensitivity.best_of_family.loss


@settings(deadline=None, max_examples=40)
@given(budget=budgets, law=law_names)
def test_the_design_is_near_the_optimum_in_size_and_loss(budget: float, law: str) -> None:
    plan = plan_of(budget, law=law)
    best = plan.sensitivity.best_of_family
    assert plan.within_tolerance or plan.outcome == best
    # the tolerance of N costs no more than 0.1% of the compute does, at an elasticity of the loss below 1/3
    assert best.loss <= plan.outcome.loss <= best.loss * 1.0004


@settings(deadline=None, max_examples=25)
@given(
    budget=budgets,
    law=law_names,
    dataset=st.integers(10**8, 10**14),
    epochs=st.floats(0.1, 100).map(lambda e: round(e, 3)),
)
def test_tokens_never_exceed_the_data(budget: float, law: str, dataset: int, epochs: float) -> None:
    plan = plan_of(budget, law=law, data=DataLimit(dataset_tokens=dataset, max_epochs=epochs))
    assert plan.outcome.tokens <= dataset * exact(epochs)
    assert plan.epochs == plan.outcome.tokens / dataset
    # Spent to half a token's worth, unless the data ran out.
    unspent = plan.compute_flops - plan.used_flops
    assert plan.dataset_limited == (2 * unspent > plan.outcome.candidate.flops_per_token)
    assert plan.schedule.usd is not None
    assert plan.schedule.usd <= exact(budget) * (1 + Fraction(1, 10**6))


@settings(deadline=None)
@given(budget=budgets, price=st.integers(1, 10**4).map(lambda cents: cents / 100))
def test_a_price_that_doubles_halves_the_compute(budget: float, price: float) -> None:
    once, twice = (compute_of(Dollars(budget), market(price=each).best) for each in (price, 2 * price))
    assert once == 2 * twice


@settings(deadline=None, max_examples=15)
@given(gpus=st.integers(1, 4096), hours=st.integers(1, 5000), price=st.integers(1, 20), law=law_names)
def test_forward_then_backward_is_the_same_training(
    gpus: int, hours: int, price: int, law: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    request = Request(
        budget=Dollars(gpus * hours * price), market=market(price=price), law=LAWS[law], family=DENSE, num_gpus=gpus
    )
    forward = make_plan(request, ())
    assert forward.schedule.days is not None
    setup = {
        "architecture": {
            key: value
            for key, value in to_config(forward.spec, DENSE.seq_len).items()
            if key not in ("architectures", "torch_dtype", "max_position_embeddings")
        },
        "training_gear": {"gpu_type": "A100", "num_gpus": gpus, "available_hours": hours, "dtype": "bf16"},
        "training_efficiency": {"expected_mfu": 0.4, "batch_size": 1, "gradient_accumulation_steps": 1},
        "dataset_constraints": {"dataset_size": 10**17, "max_epochs": 1, "sequence_length": DENSE.seq_len},
        "scaling_law": {"base": law},
        "output_options": {},
    }
    path = tmp_path_factory.mktemp("setup") / "setup.json"
    path.write_text(json.dumps(setup))
    backward = plan_backward(load_setup(path, HARDWARE), ())
    assert backward.tokens == forward.outcome.tokens
    assert backward.params == forward.params
    assert backward.compute_flops == forward.compute_flops


@settings(deadline=None, max_examples=10)
@given(budget=st.integers(10, 10**7).map(lambda usd: usd * 1100), law=within_the_family)
def test_sensitivity(budget: int, law: str) -> None:
    plan = plan_of(budget, law=law)
    assert plan.sensitivity.lower_mfu == plan_of(budget * 9 / 10, law=law).optimum
    assert plan.sensitivity.higher_price == plan_of(budget * 10 / 11, law=law).optimum
    assert {each.name: found for each, found in plan.sensitivity.laws}[law] == plan.optimum
    assert plan.sensitivity.band is not None
    least, most = plan.sensitivity.band
    assert least < plan.optimum.params < most


def test_days_and_gpus_fix_each_other() -> None:
    by_gpus = plan_of(5e6, num_gpus=1000).schedule
    assert by_gpus.days == by_gpus.gpu_hours / 24_000
    by_days = plan_of(5e6, days=52.0).schedule
    assert by_days.num_gpus == 1002  # 1,250,000 GPU-hours / (52 x 24 h) = 1001.6
    assert by_days.days is not None
    assert by_days.days <= 52
    with pytest.raises(PlannerError, match="fixes one by the other"):
        plan_of(5e6, num_gpus=1000, days=52.0)


def test_energy_is_that_of_the_boards() -> None:
    schedule = plan_of(4e6).schedule  # 1e6 GPU-hours at 400 W
    assert schedule.energy_kwh is not None
    assert float(schedule.energy_kwh) == pytest.approx(400_000, rel=1e-9)


def test_moe_is_counted_by_its_active_parameters() -> None:
    request = Request(budget=Dollars(5e6), market=market(), law=LAWS["besiroglu"], family=replace(DENSE, kind="moe"))
    plan = make_plan(request, ())
    assert plan.outcome.candidate.params == plan.params.active < plan.params.total
    assert plan.six_nd_flops == 6 * plan.params.active * plan.outcome.tokens


def test_a_law_of_non_embedding_parameters_sees_those() -> None:
    law = replace(LAWS["besiroglu"], name="other", n_means="non_embedding")
    plan = make_plan(Request(budget=Dollars(1e5), market=market(), law=law, family=DENSE), [*LAWS.values(), law])
    assert plan.outcome.candidate.params == plan.params.non_embedding
    assert plan.optimum == plan.sensitivity.laws[-1][1]


def test_the_best_gpu_is_the_cheapest_flop() -> None:
    half, full = Assumed(value=0.25, by="test"), Assumed(value=0.5, by="test")
    prices = {"h100-sxm": 2.0, "a100-80": 2.0}
    ranked = compare(HARDWARE, mfu=full, mfu_by_gpu={}, price_by_gpu=prices)
    assert [option.gpu.key for option in ranked.options] == ["h100-sxm", "a100-80"]
    handicapped = compare(
        HARDWARE, mfu=full, mfu_by_gpu={"h100-sxm": Assumed(value=0.1, by="test")}, price_by_gpu=prices
    )
    assert handicapped.best.gpu.key == "a100-80"
    assert handicapped.best.mfu == full
    assert compare(HARDWARE, mfu=half, mfu_by_gpu={}, price_by_gpu={}).rejected


@pytest.mark.parametrize(
    ("mfu", "num_gpus", "bound"),
    [
        (MEASURED, None, True),
        (MEASURED, 8, True),
        (MEASURED, 1, False),
        (replace(MEASURED, num_gpus=8), 64, False),
        (Assumed(value=0.4, by="default"), 64, False),
        (Published(value=0.4, source="a paper", convention="causal"), 64, False),
    ],
)
def test_one_gpu_s_mfu_on_many_is_an_upper_bound(mfu: Mfu, num_gpus: int | None, bound: bool) -> None:
    assert without_communication(mfu, num_gpus) == bound


def test_an_mfu_prints_as_what_it_is() -> None:
    assert MEASURED.origin == "measured (H200, 2026-01-01, 1 GPU, flash, full attention)"
    assert Published(value=0.4, source="a paper", convention="half").origin == "published (a paper, half attention)"
    assert Assumed(value=0.4, by="default").origin == "assumed (default)"


@pytest.mark.parametrize("value", [0, -0.1, 1.01, float("nan"), float("inf")])
def test_an_impossible_mfu_is_refused(value: float) -> None:
    with pytest.raises(PlannerError, match="MFU"):
        Assumed(value=value, by="test")


def test_tokens_are_to_the_nearest() -> None:
    assert tokens_from_compute(Fraction(29), 10) == 3
    assert tokens_from_compute(Fraction(24), 10) == 2
    assert compute_from_hours(989 * 10**12, 0.45, 8, 720) == 92285568 * 10**14


def test_a_figure_is_the_one_that_was_typed() -> None:
    assert exact(0.1) + exact(0.2) == exact(0.3)


def test_a_budget_for_less_than_a_token_is_refused() -> None:
    with pytest.raises(PlannerError, match="does not pay"):
        make_plan(Request(budget=Dollars(1e-12), market=market(), law=LAWS["besiroglu"], family=DENSE), ())


def machine_of(num_gpus: int, hours: float, price: Price | None = None) -> Plan:
    gpu = HARDWARE.find("h100")
    request = Request(
        budget=MachineTime(num_gpus, hours),
        market=single(gpu, "bf16", Assumed(value=0.4, by="test"), price),
        law=LAWS["besiroglu"],
        family=DENSE,
    )
    return make_plan(request, LAWS.values())


def test_a_machine_to_a_model() -> None:
    """64 H100 of 989 TFLOP/s at 40% for 504 hours."""
    plan = machine_of(64, 504)
    assert plan.compute_flops == 64 * 989 * 10**12 * Fraction(2, 5) * 504 * 3600
    assert abs(plan.used_flops - plan.compute_flops) <= plan.outcome.candidate.flops_per_token
    assert (plan.schedule.num_gpus, plan.schedule.usd, plan.unspent_usd) == (64, None, None)
    assert float(plan.schedule.days or 0) == pytest.approx(21, rel=1e-9)
    assert float(plan.schedule.energy_kwh or 0) == pytest.approx(64 * 504 * 0.7, rel=1e-9)
    assert plan.sensitivity.higher_price is None


def test_a_machine_is_worth_its_hours_at_the_price() -> None:
    """64 x 504 GPU-hours at 2.50 USD are 80,640 USD, and plan the same model."""
    price = given_price(2.5)
    by_hours = machine_of(64, 504, price)
    market = single(HARDWARE.find("h100"), "bf16", Assumed(value=0.4, by="test"), price)
    request = Request(budget=Dollars(80_640), market=market, law=LAWS["besiroglu"], family=DENSE, num_gpus=64)
    by_usd = make_plan(request, LAWS.values())
    assert by_hours.outcome == by_usd.outcome
    assert by_hours.schedule == by_usd.schedule


@pytest.mark.parametrize(("num_gpus", "hours"), [(0, 1), (10**10, 1), (1, 0), (1, float("nan")), (1, 1e8)])
def test_an_impossible_machine_is_refused(num_gpus: int, hours: float) -> None:
    with pytest.raises(PlannerError, match="expected"):
        MachineTime(num_gpus, hours)


@pytest.mark.parametrize(("num_gpus", "days"), [(8, None), (None, 3.0)])
def test_a_machine_has_its_gpus_and_its_days(num_gpus: int | None, days: float | None) -> None:
    request = machine_of(8, 1).request
    with pytest.raises(PlannerError, match="a machine has its GPUs"):
        replace(request, num_gpus=num_gpus, days=days)


def test_hours_too_few_for_a_token_are_refused() -> None:
    with pytest.raises(PlannerError, match="the hours are too few"):
        machine_of(1, 1e-12)


def test_a_loss_above_guessing_is_refused() -> None:
    """A millionth of an hour: ln 32,000 = 10.37 nats is what guessing costs."""
    with pytest.raises(PlannerError, match=r"guessing among 32000 tokens gives 10\.37: expected a larger budget"):
        machine_of(1, 1e-6)


def test_money_that_the_data_do_not_need_is_left() -> None:
    plan = plan_of(1e6, data=DataLimit(dataset_tokens=10**9, max_epochs=4))
    assert plan.dataset_limited
    assert plan.schedule.usd is not None
    assert plan.unspent_usd is not None
    assert plan.schedule.usd + plan.unspent_usd == 10**6
    assert plan.unspent_usd > 999_000
    assert plan.rest_of_budget is not None
    assert plan.rest_of_budget.loss < plan.outcome.loss
    assert any("the data end first" in warning for warning in plan.warnings)
    assert not any("below 5" in warning for warning in plan.warnings)
    assert "tokens per parameter, where no law holds" in plan.warnings[0]
    enough = plan_of(1e5, data=DataLimit(dataset_tokens=95 * 10**9, max_epochs=1))
    assert "the rest of the budget would lower the loss by 0.00" in enough.warnings[0]
    assert plan_of(1e6).rest_of_budget is None
    assert plan_of(1e6).unspent_usd == 0


def test_a_gpu_that_cannot_run_the_plan_is_passed_over() -> None:
    """T4s at a hundredth of a cent buy a model that eight of them do not hold."""
    prices = {"t4": 1e-4, "h100-sxm": 3.0}
    offered = compare(HARDWARE, mfu=Assumed(value=0.4, by="test"), mfu_by_gpu={}, price_by_gpu=prices, dtype="fp16")
    request = Request(budget=Dollars(1000), market=offered, law=LAWS["besiroglu"], family=DENSE, num_gpus=8)
    assert offered.best.gpu.key == "t4"
    plan = make_plan(request, ())
    assert plan.option.gpu.key == "h100-sxm"
    (skipped,) = plan.skipped
    assert (skipped.option.gpu.key, skipped.reason) == ("t4", "it does not fit 8 of these GPUs")
    none_can = make_plan(replace(request, num_gpus=1, budget=Dollars(1e7)), ())
    assert none_can.option.gpu.key == "t4"
    assert [each.option.gpu.key for each in none_can.skipped] == ["h100-sxm"]
    assert "it cannot run: it does not fit 1 of these GPUs" in none_can.warnings


def test_a_step_of_more_tokens_than_the_run_cannot_run() -> None:
    """In a tenth of a second 1,000 USD take more GPUs than the run has sequences."""
    plan = plan_of(1000, days=1e-6)
    assert plan.schedule.num_gpus is not None
    assert plan.schedule.num_gpus * 4096 > plan.outcome.tokens
    assert any(warning.startswith("it cannot run: one step of") for warning in plan.warnings)


def test_the_range_of_a_law_is_judged_by_the_flops_used() -> None:
    """C is 5.6e20 FLOP for 5,000 USD; 1e8 tokens use some 1e17 of it."""
    law = replace(LAWS["besiroglu"], fitted={"flops": (1e15, 1e19)})
    request = Request(
        budget=Dollars(5000),
        market=market(),
        law=law,
        family=DENSE,
        data=DataLimit(dataset_tokens=10**8, max_epochs=1),
    )
    plan = make_plan(request, ())
    assert plan.used_flops < 1e19 < plan.compute_flops
    assert plan.extrapolations == ()
