"""A size that is asked for, and a budget that serves the model, too."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from analytic.errors import PlannerError
from analytic.hardware.prices import given_price
from analytic.hardware.table import load_hardware
from analytic.performance.mfu import Assumed
from analytic.planning.architectures import Family, candidates, frontier
from analytic.planning.budget import Dollars, MachineTime
from analytic.planning.forward import Plan, make_plan
from analytic.planning.market import compare
from analytic.planning.request import Request
from analytic.planning.serving import Serving
from analytic.scaling.law_file import load_law

HARDWARE, LAW = load_hardware(), load_law("besiroglu")
FAMILY = Family(kind="dense", vocab_size=32_000, seq_len=4096)
BUDGET = Dollars(1e6)
FORTY, TENTH = Assumed(value=0.4, by="given"), Assumed(value=0.1, by="given")
H100, H200 = HARDWARE.gpus["h100-sxm"], HARDWARE.gpus["h200"]
H100_FLOPS, H200_FLOPS = 989 * 10**12, 989 * 10**12  # dense bf16


def planned(serving: Serving | None = None, params: int | None = None, kind: str = "dense") -> Plan:
    market = compare(HARDWARE, mfu=FORTY, mfu_by_gpu={}, price_by_gpu={"h100-sxm": 2.5})
    family = replace(FAMILY, kind=kind)  # type: ignore[arg-type]  # one of the two
    return make_plan(
        Request(budget=BUDGET, market=market, law=LAW, family=family, serving=serving, params=params), [LAW]
    )


def test_training_and_serving_are_the_budget() -> None:
    """A served token costs a third of the FLOPs of a training token, at 10% of the peak for 3 dollars an hour."""
    plan = planned(Serving(tokens=10**12, mfu=TENTH, gpu=H200, price=given_price(3.0)))
    assert plan.served is not None
    forward = Fraction(plan.outcome.candidate.flops_per_token, 3)
    assert plan.served.usd == 10**12 * forward / Fraction(H200_FLOPS, 10) / 3600 * 3
    assert plan.schedule.usd is not None
    training = plan.used_flops / (H100_FLOPS * Fraction(4, 10)) / 3600 * Fraction(5, 2)
    assert plan.schedule.usd == pytest.approx(training)
    assert float(plan.schedule.usd + plan.served.usd) == pytest.approx(1e6, rel=1e-9)
    assert plan.served.share == pytest.approx(float(plan.served.usd) / 1e6)


def test_it_is_served_where_it_is_trained_unless_another_gpu_is_named() -> None:
    own, named = (
        planned(Serving(tokens=10**12, mfu=TENTH, gpu=gpu, price=price))
        for gpu, price in ((None, None), (H100, given_price(2.5)))
    )
    assert own.outcome == named.outcome
    assert own.served is not None
    assert named.served is not None
    assert own.served.usd == named.served.usd


@pytest.mark.parametrize("kind", ["dense", "moe"])
def test_no_architecture_of_the_family_serves_to_a_lower_loss(kind: str) -> None:
    plan = planned(Serving(tokens=10**13, mfu=TENTH), kind=kind)
    losses = {}
    for candidate in frontier(plan.family):
        usd_per_token = candidate.flops_per_token / (0.4 * 989e12) / 3600 * 2.5
        usd_served = 1e13 * candidate.flops_per_token / 3 / (0.1 * 989e12) / 3600 * 2.5
        tokens = (1e6 - usd_served) / usd_per_token
        if tokens > 0:
            losses[candidate] = LAW.loss(candidate.params, tokens)
    best = plan.sensitivity.best_of_family
    assert best.candidate == min(losses, key=lambda each: losses[each])
    assert best.loss == pytest.approx(min(losses.values()), rel=1e-9)
    assert plan.outcome.loss <= best.loss + 5e-4  # a size near the smooth optimum is preferred


def test_more_serving_is_a_smaller_model_trained_longer() -> None:
    plans = [planned(), *(planned(Serving(tokens=tokens, mfu=TENTH)) for tokens in (10**11, 10**12, 10**13))]
    params = [plan.optimum.params for plan in plans]
    ratios = [plan.optimum.tokens / plan.optimum.params for plan in plans]
    losses = [plan.optimum.loss for plan in plans]
    assert params == sorted(params, reverse=True)
    assert ratios == sorted(ratios)
    assert losses == sorted(losses)


def test_a_model_chosen_without_serving_costs_more_for_the_same_loss() -> None:
    """C and the FLOPs that serve it, as training FLOPs: four times as dear at a quarter of the MFU."""
    plan = planned(Serving(tokens=10**13, mfu=TENTH))
    assert plan.served is not None
    alone = plan.served.trained_alone
    assert alone.loss == pytest.approx(plan.optimum.loss, rel=1e-9)
    per_token = plan.request.goal(plan.option).cost.flops_per_token
    whole = per_token(alone.params) * (alone.tokens + 4 * 1e13 / 3)
    assert plan.served.more_usd == pytest.approx(whole / float(plan.compute_flops) - 1, rel=1e-6)
    assert plan.served.more_usd > 0.1


def test_the_same_money_at_other_sizes() -> None:
    plan = planned(Serving(tokens=10**13, mfu=TENTH))
    per_token = plan.request.goal(plan.option).cost.flops_per_token
    least = min(size.loss for size in plan.sizes)
    assert least == pytest.approx(plan.optimum.loss, rel=1e-12)
    assert len(plan.sizes) < len(planned().sizes) == 9  # the largest cannot be served
    for size in plan.sizes:
        spent = per_token(size.params) * size.tokens / float(plan.compute_flops)
        assert spent + size.served_share == pytest.approx(1, rel=1e-9)
        assert size.loss == pytest.approx(LAW.loss(size.params, size.tokens))


def test_a_size_that_is_asked_for() -> None:
    plan = planned(params=8_000_000_000)
    every = candidates(replace(FAMILY, params="total"))
    assert abs(plan.params.total - 8e9) == min(abs(each.params - 8e9) for each in every) < 8e7
    assert plan.outcome.tokens == round(plan.compute_flops / plan.outcome.candidate.flops_per_token)
    assert plan.outcome.loss == LAW.loss(plan.params.total, plan.outcome.tokens)
    assert plan.sensitivity.best_of_family == planned().sensitivity.best_of_family
    assert not [each for each in plan.warnings if "no architecture" in each]


def test_a_size_of_a_model_with_experts_is_all_of_it() -> None:
    plan = planned(params=47_000_000_000, kind="moe")
    assert plan.params.total == pytest.approx(47e9, rel=0.01)
    assert plan.outcome.candidate.params == plan.params.active < 15e9


def test_a_size_that_there_is_none_of_is_the_nearest_and_says_so() -> None:
    plan = planned(params=1_000_000)
    assert plan.params.total == min(c.params for c in frontier(replace(FAMILY, tied=True)))
    assert [each for each in plan.warnings if "no architecture within 1% of 1e+06 parameters" in each]


def test_a_size_on_a_machine() -> None:
    market = compare(HARDWARE, mfu=FORTY, mfu_by_gpu={}, price_by_gpu={"h100-sxm": 2.5})
    request = Request(
        budget=MachineTime(num_gpus=64, hours=504), market=market, law=LAW, family=FAMILY, params=8_000_000_000
    )
    plan = make_plan(request, ())
    flops = 64 * 504 * 3600 * H100_FLOPS * Fraction(4, 10)
    assert plan.outcome.tokens == round(flops / plan.outcome.candidate.flops_per_token)
    with pytest.raises(PlannerError, match="pays for training alone"):
        replace(request, serving=Serving(tokens=1, mfu=TENTH))
