"""What a plan takes from a calibration: its own step where that was timed, else a prediction; and whose GPU it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analytic.errors import FileError, PlannerError, UsageError
from analytic.hardware.table import load_hardware
from analytic.model.training import TrainingSetup
from analytic.performance.calibration import Calibration, Case, Reading
from analytic.performance.mfu import Measured, Predicted
from analytic.performance.predict import Calibrated, Shape
from analytic.planning.backward import plan_backward
from analytic.planning.backward_file import load_setup
from analytic.report.backward import backward_document
from analytic.report.text import document_text
from tests.calibration_cases import backward_file, calibration, case, explained, grid, llama, written
from tests.configurations import parsed
from tests.memory_cases import SMALL_DEEPSEEK_V3

PEAK = 989e12
PLANNED = TrainingSetup(seq_len=4096, checkpointing="full", has_master_weights=True)
MODEL = llama(3072, 5)
OWN = Shape(MODEL, 4096, 1, "bf16")


def step(depth: int, *, of: int = 5, seconds: float = 1.0, **options: Any) -> Reading:
    timed = case(llama(3072, depth), "step", PLANNED, of_layers=of, **options)
    return replace(explained(timed), seconds=(seconds,) * 3)


def from_readings(*more: Reading, device: str = "NVIDIA H200") -> Calibration:
    return calibration([*(explained(of) for of in grid()), *more], device)


def test_a_step_that_was_timed_is_measured() -> None:
    found = Calibrated(from_readings(step(5, seconds=3.0))).mfu(OWN, PEAK, "full")
    assert isinstance(found, Measured)
    flops = case(MODEL, "step", PLANNED).model_flops("full")
    assert found.value == pytest.approx(flops / 3.0 / PEAK)
    assert found.origin.startswith("measured (NVIDIA H200, 2026-01-02, 1 GPU, transformers, bf16, flash attention")


def test_the_fastest_stack_is_taken() -> None:
    both = from_readings(step(5, seconds=3.0), step(5, seconds=2.0, is_compiled=True))
    found = Calibrated(both).mfu(OWN, PEAK, "causal")
    assert found.value == pytest.approx(case(MODEL, "step", PLANNED).model_flops("causal") / 2.0 / PEAK)
    assert "compiled" in found.origin
    assert "causal attention" in found.origin


def test_two_depths_are_extrapolated_and_both_told() -> None:
    """Two layers in 1.0 s and four in 1.5 s are 0.25 s a layer, so five take 1.75 s."""
    found = Calibrated(from_readings(step(2), step(4, seconds=1.5))).mfu(OWN, PEAK, "full")
    assert isinstance(found, Measured)
    assert found.value == pytest.approx(case(MODEL, "step", PLANNED).model_flops() / 1.75 / PEAK)
    assert "extrapolated from 2 layers in 1.000000 s and 4 in 1.500000 s to 5" in found.origin


def test_two_depths_of_which_the_deeper_was_no_slower_tell_no_time_of_a_layer() -> None:
    """Four layers in less than two would make five take less than nothing."""
    readings = from_readings(step(2), step(4, seconds=0.3))
    assert isinstance(Calibrated(readings).mfu(OWN, PEAK, "full"), Predicted)


def test_what_is_measured_has_the_day_of_its_own_reading() -> None:
    later = replace(explained(case(llama(2048), "forward")), time_utc="2026-05-06T07:08:09+00:00")
    found = Calibrated(from_readings(step(5, seconds=3.0), later)).mfu(OWN, PEAK, "full")
    assert isinstance(found, Measured)
    assert found.date == "2026-01-02"


@pytest.mark.parametrize(
    "other",
    [
        step(2),  # a single depth
        step(5, of=6),
        replace(step(5), error="does not fit", seconds=()),
        replace(step(5), case=replace(step(5).case, setup=replace(PLANNED, seq_len=2048))),
        replace(step(5), case=replace(step(5).case, setup=replace(PLANNED, checkpointing="none"))),
        replace(step(5), case=replace(step(5).case, config=llama(3072, 5, vocab_size=32_001))),
    ],
    ids=["one depth", "other depth", "failed", "other length", "not checkpointed", "other vocabulary"],
)
def test_what_is_not_the_plan_s_own_step_only_predicts(other: Reading) -> None:
    found = Calibrated(from_readings(other)).mfu(OWN, PEAK, "full")
    assert isinstance(found, Predicted)
    assert found.origin.startswith("predicted from calibration.json (NVIDIA H200, 2026-01-02, 1 GPU,")


def test_a_prediction_is_the_work_over_the_seconds() -> None:
    found = Calibrated(from_readings()).mfu(OWN, PEAK, "full")
    timed: Case = case(MODEL, "step", PLANNED)
    assert found.value == pytest.approx(timed.model_flops() / explained(timed).median_seconds / PEAK, rel=1e-6)
    assert "nearest case model layer 1 forward, 1 x 4096, bf16, flash, transformers: x1.33 in" in found.origin


def test_sharing_the_optimizer_s_step_raises_the_mfu() -> None:
    source = Calibrated(from_readings())
    assert source.mfu(replace(OWN, optimizer_share=1 / 64), PEAK, "full").value > source.mfu(OWN, PEAK, "full").value


def test_what_was_never_timed_is_refused() -> None:
    with pytest.raises(UsageError, match="too few fp16 cases of dense layers"):
        Calibrated(from_readings()).mfu(replace(OWN, precision="fp16"), PEAK, "full")
    with pytest.raises(UsageError, match="times away in"):
        Calibrated(from_readings()).mfu(replace(OWN, seq_len=65536), PEAK, "full")


def test_a_stack_whose_kernel_does_not_take_the_heads_is_none_of_the_shape_s() -> None:
    latent = parsed(SMALL_DEEPSEEK_V3 | {"first_k_dense_replace": 4})
    with pytest.raises(UsageError, match="too few bf16 cases of dense layers for a fit"):
        Calibrated(from_readings()).mfu(Shape(latent, 4096, 1, "bf16"), PEAK, "full")


def test_a_backward_file_may_name_a_calibration(tmp_path: Path) -> None:
    hardware = load_hardware()
    written(tmp_path / "c.json", from_readings(step(5, seconds=1.0)))
    setup = load_setup(backward_file(tmp_path / "plan.json", MODEL, {"calibration": "c.json"}), hardware)
    assert isinstance(setup.mfu, Measured)
    made = plan_backward(setup, ())
    # a step of 4,096 tokens takes a second, and a day has 86,400
    assert made.tokens == pytest.approx(4096 * 86_400, rel=1e-9)
    assert "measured (NVIDIA H200, 2026-01-02, 1 GPU" in document_text(backward_document(made), is_verbose=False)


def test_a_device_that_the_table_lacks_is_known_by_its_name(tmp_path: Path) -> None:
    written(tmp_path / "c.json", from_readings(step(5), device="cpu"))
    gear = {"gpu_type": "cpu", "peak_flops_per_gpu": 1e15}
    setup = load_setup(backward_file(tmp_path / "plan.json", MODEL, {"calibration": "c.json"}, **gear), load_hardware())
    assert setup.mfu.value == pytest.approx(case(MODEL, "step", PLANNED).model_flops() / 1e15)


@pytest.mark.parametrize(
    ("device", "mfu", "said"),
    [
        ("NVIDIA A100-SXM4-80GB", {"calibration": "c.json"}, "measured on NVIDIA A100-SXM4-80GB: the plan is for h200"),
        ("cpu", {"calibration": "c.json"}, "measured on cpu: the plan is for h200"),
        ("NVIDIA H200", {"calibration": "none.json"}, "No such file"),
        ("NVIDIA H200", {"calibration": 3}, "calibration = 3: expected a string"),
        ("NVIDIA H200", {"calibrations": "c.json"}, "calibrations: no such key"),
        ("NVIDIA H200", {}, "missing calibration"),
        ("NVIDIA H200", [0.4], "expected_mfu = [0.4]: expected a positive number"),
    ],
)
def test_a_backward_file_of_another_gpu_is_refused(device: str, mfu: Any, said: str, tmp_path: Path) -> None:
    written(tmp_path / "c.json", from_readings(device=device))
    path = backward_file(tmp_path / "plan.json", MODEL, mfu)
    with pytest.raises(PlannerError) as refused:
        load_setup(path, load_hardware())
    assert str(refused.value).startswith(f"{path}: line 1: training_efficiency.")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert isinstance(refused.value, FileError | UsageError)
