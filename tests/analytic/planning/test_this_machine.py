"""A plan for the machine that was calibrated: its step is the one that was predicted, and it fits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from analytic.errors import UsageError
from analytic.hardware.table import load_hardware
from analytic.performance.calibration import Calibration, Ceiling
from analytic.performance.mfu import Assumed, Predicted
from analytic.planning import search as tune
from analytic.planning.this_machine import CPU_FAMILY, CUDA_FAMILY, MachinePlan, machine_plan
from analytic.scaling.law_file import load_law
from tests.calibration_cases import calibration, explained, grid

HARDWARE, LAW = load_hardware(), load_law("besiroglu")
H200 = calibration([explained(of) for of in grid((256, 512, 1024))])


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune, "MOST_CANDIDATES", 30)


def planned(made: Calibration, minutes: float = 3) -> MachinePlan:
    return machine_plan(made, minutes, CUDA_FAMILY, LAW, HARDWARE)


def test_its_step_takes_what_the_fit_predicts_and_its_tokens_take_the_minutes() -> None:
    plan = planned(H200)
    assert isinstance(plan.mfu, Predicted)
    assert plan.why_assumed == ""
    setup = replace(plan.case.setup, is_accumulating=True, rounding_bytes=512)
    assert plan.step_seconds == pytest.approx(explained(replace(plan.case, setup=setup)).median_seconds, rel=1e-6)
    assert plan.plan.outcome.tokens / plan.tokens_per_s == pytest.approx(3 * 60, rel=1e-6)
    assert plan.peak_source == "published dense peak of h200"
    assert plan.energy_joules == 700 * 3 * 60  # the datasheet's 700 W
    assert plan.case.setup.has_master_weights
    assert plan.case.setup.checkpointing == "full"
    assert not plan.case.setup.is_accumulating  # the optimizer steps after every micro-batch
    assert plan.flat.option.mfu == Assumed(value=0.4, by="default")


def test_the_micro_batch_is_the_one_of_least_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    best = planned(H200)
    assert best.case.setup.micro_batch > 1  # layer passes of a fixed length: one sequence at a time is slow
    monkeypatch.setattr("analytic.planning.this_machine.MICRO_BATCHES", (1,))
    assert best.plan.outcome.loss < planned(H200).plan.outcome.loss


def test_a_larger_card_than_this_is_not_planned_for() -> None:
    small = replace(H200, machine=replace(H200.machine, memory_bytes=6 * 10**9))
    peak = planned(small).peak_bytes
    assert peak is not None
    assert peak <= 4 * 10**9  # 2e9 bytes are assumed taken
    assert planned(small).case.setup.micro_batch < planned(H200).case.setup.micro_batch
    with pytest.raises(UsageError, match=r"not even plan .* fits NVIDIA H200"):
        planned(replace(H200, machine=replace(H200.machine, memory_bytes=2_000_000_001)))


def test_what_the_calibration_cannot_tell_is_assumed_and_says_why() -> None:
    plan = planned(calibration([]))
    assert plan.mfu == Assumed(value=0.4, by="default")
    assert plan.why_assumed == "calibration.json: too few bf16 cases of dense layers for a fit"
    assert plan.tokens_per_s == pytest.approx(0.4 * 989e12 / plan.plan.outcome.candidate.flops_per_token)


def test_a_device_of_no_table_counts_by_its_own_matrix_product() -> None:
    cpu = calibration([], device="cpu")
    with pytest.raises(UsageError, match=r"calibration\.json: no bf16 matrix product was timed on cpu"):
        machine_plan(cpu, 1, CPU_FAMILY, LAW, HARDWARE)
    product = Ceiling(kind="matmul", precision="bf16", work=5 * 10**11, seconds=(1.0,))
    plan = machine_plan(replace(cpu, ceilings=(product,)), 1, CPU_FAMILY, LAW, HARDWARE)
    assert plan.plan.option.effective_flops_per_s == 2 * 10**11
    assert plan.peak_source == "best matrix product measured on cpu"
    assert plan.energy_joules is None
