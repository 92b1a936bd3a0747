"""Measured memory in the fit check: what matches, what only nearly does, and how the plan reports it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analytic.commands.plan import VERB as PLAN
from analytic.huggingface.config import ModelConfig
from analytic.memory.layer import layer_memory
from analytic.model.training import planned_setup
from analytic.performance.calibration import Reading
from analytic.performance.measured_memory import MeasuredMemory
from analytic.performance.regression import Stack
from analytic.planning.placement import Placement, place
from tests.calibration_cases import backward_file, calibration, case, explained, grid, llama, written
from tests.configurations import parsed
from tests.memory_cases import predicted

MODEL = llama(3072, 5)
SETUP = planned_setup(MODEL.spec, 4096, 2, "bf16")
STACK = Stack(built_by="transformers", precision="bf16", attention_kernel="flash", is_compiled=False, routing="none")
MEMORY_BYTES = 141 * 10**9


def scheduled(config: ModelConfig = MODEL) -> int:
    """Backward peak of the last layer, in bytes requested."""
    setup = replace(SETUP, rounding_bytes=1)
    memory = layer_memory(config.spec.layers[-1], config.spec.hidden_size, predicted(config), setup)
    return memory.backward_peak.total_bytes


def reading(peak_bytes: int | None, config: ModelConfig = MODEL, setup: Any = SETUP, **options: Any) -> Reading:
    return replace(explained(case(config, setup=setup, **options)), peak_bytes=peak_bytes)


def placed(*readings: Reading, config: ModelConfig = MODEL, stack: Stack = STACK) -> Placement:
    found = place(
        config,
        seq_len=4096,
        dtype="bf16",
        memory_bytes=MEMORY_BYTES,
        num_gpus=8,
        micro_batch=2,
        memory=MeasuredMemory(calibration(readings), stack),
    )
    assert isinstance(found, Placement)
    return found


def test_a_measured_peak_stands_in_for_the_predicted_one() -> None:
    plain, beyond = placed(), MEMORY_BYTES
    assert plain.measured == ()
    same = placed(reading(scheduled()))
    assert (same.peak_bytes, same.beyond_bytes, same.fits) == (plain.peak_bytes, 0, True)
    (layer,) = same.measured
    assert layer.source.startswith("measured (NVIDIA H200, 2026-01-02, model layer 4 forward+backward, 2 x 4096, bf16,")
    assert (layer.measured_bytes, layer.beyond_bytes) == (scheduled(), 0)
    more = placed(reading(scheduled() + beyond))
    assert (more.beyond_bytes, more.fits) == (beyond, False)


def test_what_is_measured_in_excess_is_kept_free() -> None:
    """To the byte: the peak, the allowance and the excess are what the GPU must have."""
    found = placed(reading(scheduled() + 5 * 10**9))
    assert found.fit is not None
    assert found.peak_bytes is not None
    assert found.fit.available_bytes == MEMORY_BYTES - found.reserve_bytes
    lines = sum(line.size_bytes for line in found.fit.allowance)
    assert found.reserve_bytes == lines + 5 * 10**9


def test_less_than_predicted_changes_nothing() -> None:
    """The peak may be elsewhere, in the loss or the optimizer's step, and a proven figure is not lowered."""
    assert placed(reading(0)).peak_bytes == placed().peak_bytes
    assert placed(reading(0)).beyond_bytes == 0


def test_the_most_of_several_is_taken() -> None:
    found = placed(reading(scheduled() + 5), reading(scheduled() + 7), reading(scheduled() + 6))
    assert [layer.beyond_bytes for layer in found.measured] == [7]


@pytest.mark.parametrize(
    "same",
    [{"has_master_weights": False}, {"optimizer": "none"}, {"rounding_bytes": 1}],
    ids=lambda same: next(iter(same)),
)
def test_what_a_layer_s_memory_does_not_hang_on_may_differ(same: Any) -> None:
    assert placed(reading(10**12, setup=replace(SETUP, **same))).measured != ()


OTHER_SETUPS = [
    {"seq_len": 4095},
    {"micro_batch": 1},
    {"precision": "fp16"},
    {"checkpointing": "none"},
    {"attention_kernel": "cudnn"},
    {"is_accumulating": False},
]


@pytest.mark.parametrize("other", OTHER_SETUPS, ids=lambda other: next(iter(other)))
def test_another_setup_does_not_match(other: Any) -> None:
    assert placed(reading(10**12, setup=replace(SETUP, **other))).measured == ()


@pytest.mark.parametrize(
    "other",
    [
        reading(10**12, llama(3072, 5, intermediate_size=9224)),
        reading(10**12, llama(3072, 5, num_key_value_heads=4)),
        reading(10**12, llama(3072, 5, attention_bias=True)),
        reading(10**12, llama(3096, 5, head_dim=128, num_attention_heads=24, intermediate_size=9216)),
        reading(10**12, parsed({**MODEL.raw, "model_type": "mistral", "sliding_window": None})),
        reading(10**12, built_by="ours"),
        reading(10**12, is_compiled=True),
        reading(10**12, part="forward"),
        reading(10**12, part="step"),
        reading(None),
        replace(reading(10**12), error="does not fit"),
    ],
    ids=["feed-forward", "heads", "biases", "width", "class", "ours", "compiled", "forward", "step", "unread", "error"],
)
def test_another_case_does_not_match(other: Reading) -> None:
    assert placed(other).measured == ()


def test_the_width_alone_is_what_differs_in_that_case() -> None:
    wide = llama(3096, 5, head_dim=128, num_attention_heads=24, intermediate_size=9216)
    assert wide.spec.layers == MODEL.spec.layers
    mistral = parsed({**MODEL.raw, "model_type": "mistral", "sliding_window": None})
    assert mistral.spec == MODEL.spec


def test_a_compiled_plan_takes_compiled_cases_only() -> None:
    stack = replace(STACK, is_compiled=True)
    assert placed(reading(10**12), stack=stack).measured == ()
    assert placed(reading(10**12, is_compiled=True), stack=stack).measured != ()


def test_experts_match_by_their_routing_and_dense_layers_by_any() -> None:
    experts = {"model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2}
    moe = llama(1024, 3, **experts)
    for routing, count in (("balanced", 1), ("router", 0)):
        found = placed(reading(10**12, moe, routing=routing), config=moe, stack=replace(STACK, routing="balanced"))
        assert len(found.measured) == count
    assert placed(reading(10**12), stack=replace(STACK, routing="balanced")).measured != ()


def test_a_backward_plan_says_what_was_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = planned_setup(MODEL.spec, 4096, 1, "bf16")
    readings = [*(explained(of) for of in grid()), reading(10**12, setup=own)]
    written(tmp_path / "c.json", calibration(readings))
    path = backward_file(tmp_path / "plan.json", MODEL, {"calibration": "c.json"})
    assert PLAN.main(["--setup", str(path), "-v"]) == 0
    text = capsys.readouterr().out
    assert "931.32 GiB measured (NVIDIA H200, 2026-01-02, model layer 4" in text
    assert "no number of these GPUs could run it at micro-batch 1" in text
    assert PLAN.main(["--setup", str(path), "--json"]) == 0
    (layer,) = json.loads(capsys.readouterr().out)["fit"]["measured"]
    assert layer["measured_bytes"] == 10**12
    assert layer["source"].startswith("measured (NVIDIA H200, 2026-01-02, ")


def test_a_forward_plan_says_what_was_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The layer that the plan designs is read from a first plan, and then measured."""
    readings = [explained(of) for of in grid()]
    arguments = ["--budget", "20000", "--gpu", "h200", "--micro-batch", "2", "--json", "--calibration"]
    first = written(tmp_path / "first.json", calibration(readings))
    assert PLAN.main([*arguments, str(first)]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert plain["fit"]["measured"] == []
    assert plain["fit"]["micro_batch"] == 2
    designed = parsed(plain["architecture"])
    own = reading(10**12, designed, planned_setup(designed.spec, 4096, 2, "bf16"))
    second = written(tmp_path / "second.json", calibration([*readings, own]))
    assert PLAN.main([*arguments, str(second)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["architecture"] == plain["architecture"]  # the added case takes what the fit says already
    assert [layer["measured_bytes"] for layer in found["fit"]["measured"]] == [10**12]
