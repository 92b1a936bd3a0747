"""The witnesses themselves: the tracker against torch's own and against the CPU allocator, and what they catch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed._tools.mem_tracker import MemTracker

from analytic.memory import ops
from analytic.memory.step import step_memory
from analytic.memory.tape import Tape
from analytic.memory.tensors import Tensor
from analytic.model.training import TrainingSetup
from empirical.measure.memory import measure_layer, measure_step, measured_memory
from empirical.models.programs import LayerProgram, StepProgram
from empirical.proof.memory import first_divergence, layer_checks
from empirical.witnesses.memory import CpuAllocator, CudaAllocator, MemoryMeasurement, Tracked
from empirical.witnesses.tracker import StorageTracker
from tests.configurations import parsed, shipped
from tests.memory_cases import (
    SMALL,
    SMALL_DEEPSEEK_V2,
    SMALL_DEEPSEEK_V3,
    SMALL_MIXTRAL,
    SMALL_QWEN3_MOE,
    predicted,
    scheduled,
)

# A Python number that a tensor is multiplied by is a tensor of 8 bytes on the CPU, whatever the device: under
# eager attention autograd saves one for each layer, and one more where a router scales its weights.
CPU_SLACK_BYTES = 32


@pytest.mark.parametrize("raw", [SMALL, SMALL_DEEPSEEK_V3], ids=lambda raw: raw["model_type"])
@pytest.mark.parametrize("checkpointing", ["none", "full"])
def test_the_tracker_equals_torch_mem_tracker(raw: dict[str, Any], checkpointing: Any) -> None:
    """Both as autograd runs under a dispatch mode: torch's tracker does not undo what that changes."""
    config = parsed(raw)
    setup = TrainingSetup(
        seq_len=48, micro_batch=2, checkpointing=checkpointing, optimizer="none", attention_kernel="cudnn"
    )
    ours = StepProgram.build(config, setup, "meta")
    tracker = StorageTracker(torch.device("meta"), is_in_place=False)
    for name, tensor in ours.base():
        tracker.register(name, tensor)
    with tracker:
        for _ in ours.phases():
            pass

    theirs = StepProgram.build(config, setup, "meta")
    reference = MemTracker()
    reference.track_external(theirs.model, *theirs.inputs.values())
    with reference:
        for _ in theirs.phases():
            pass
    (snapshot,) = reference.get_tracker_snapshot("peak").values()
    assert tracker.peak.peak_bytes == snapshot["Total"]


def test_the_tracker_follows_a_storage_to_its_end() -> None:
    tracker = StorageTracker(torch.device("meta"), rounding=512)
    with tracker:
        x = torch.empty(100, device="meta")  # 400 bytes: 512
        view = x.view(10, 10)[3:]
        del x
        assert tracker.current_bytes == 512
        y = view + 1  # 280 bytes: 512
        torch.empty(10_000)  # on another device
        del view
        assert tracker.current_bytes == 512
        del y
    assert tracker.current_bytes == 0
    assert tracker.peak.peak_bytes == 1024
    assert tracker.peak.moment == "aten.add.Tensor"
    assert [(tensor.source, tensor.shape) for tensor in tracker.peak.live] == [
        ("aten.empty.memory_format", (100,)),
        ("aten.add.Tensor", (7, 10)),
    ]


def test_a_full_size_layer_equals_the_cpu_allocator() -> None:
    """Llama-7B, bf16, 256 tokens; the two totals were published, the latter with output and gradient held."""
    config = shipped("llama_7b")
    setup = TrainingSetup(seq_len=256, checkpointing="full")
    forward, backward = measure_layer(config, config.spec.runs[0], scheduled(config, setup), CpuAllocator())
    assert forward.unexplained_bytes is not None
    assert backward.unexplained_bytes is not None
    assert abs(forward.unexplained_bytes) <= CPU_SLACK_BYTES
    assert abs(backward.unexplained_bytes) <= CPU_SLACK_BYTES
    boundary = setup.tokens * config.spec.hidden_size * setup.itemsize
    assert forward.predicted_bytes == 21_102_592
    assert backward.predicted_bytes is not None
    assert backward.predicted_bytes + 2 * boundary == 436_224_000


@pytest.mark.parametrize("raw", [SMALL, SMALL_DEEPSEEK_V3], ids=lambda raw: raw["model_type"])
def test_our_own_layers_are_tracked_and_measured_alike(raw: dict[str, Any]) -> None:
    config = parsed(raw)
    setup = TrainingSetup(seq_len=64, micro_batch=2, precision="fp32", attention_kernel="eager", checkpointing="full")
    run = config.spec.runs[0]
    tracked, real = (
        backend.measure(LayerProgram.build_ours(config, run, setup, backend.device))
        for backend in (Tracked(), CpuAllocator())
    )
    for phase in tracked.phases:
        assert_close(real[phase.name].peak_bytes, phase.peak_bytes)


def test_our_own_layers_take_flash_attention_on_meta() -> None:
    """The scores of all pairs alone would be 32 heads x 2,048 x 2,048 x 2 bytes."""
    config = shipped("llama_7b")
    setup = TrainingSetup(seq_len=2048, checkpointing="full")
    tracked = Tracked().measure(LayerProgram.build_ours(config, config.spec.runs[0], setup, "meta"))
    assert tracked["forward_transient"].peak_bytes < 32 * 2048 * 2048 * 2


STEPS = [
    (raw, setup)
    for raw in (SMALL, SMALL_MIXTRAL, SMALL_QWEN3_MOE, SMALL_DEEPSEEK_V2, SMALL_DEEPSEEK_V3)
    for setup in (
        {"checkpointing": "full", "optimizer": "adamw_fused"},
        {"checkpointing": "none", "optimizer": "adamw_foreach", "is_accumulating": True},
    )
]


@pytest.mark.parametrize(("raw", "options"), STEPS, ids=lambda value: value.get("model_type") or value["optimizer"])
def test_training_steps_equal_the_cpu_allocator(raw: dict[str, Any], options: dict[str, Any]) -> None:
    """Two layers, in fp32: in 16 bit the CPU's grouped products allocate inside the operator."""
    setup = TrainingSetup(seq_len=64, micro_batch=2, precision="fp32", attention_kernel="eager", **options)
    assert_close(*step_peaks(raw | {"num_hidden_layers": 2}, setup))


def test_a_16_bit_training_step_with_master_weights_equals_the_cpu_allocator() -> None:
    setup = TrainingSetup(
        seq_len=64, attention_kernel="eager", checkpointing="full", optimizer="adamw_foreach", has_master_weights=True
    )
    assert_close(*step_peaks(SMALL | {"num_hidden_layers": 2}, setup))


def step_peaks(raw: dict[str, Any], setup: TrainingSetup) -> tuple[int, int]:
    """The peak above the base: really allocated, and scheduled."""
    config = parsed(raw)
    real = CpuAllocator().measure(StepProgram.build(config, setup, "cpu"))
    scheduled = step_memory(config.spec, predicted(config), setup)
    return real.peak_bytes, scheduled.step_peak.total_bytes - scheduled.base.total_bytes


def assert_close(real: int, scheduled: int) -> None:
    assert abs(real - scheduled) <= CPU_SLACK_BYTES


def test_the_cuda_protocol_runs_on_another_device() -> None:
    config = parsed(SMALL)
    setup = TrainingSetup(seq_len=16, checkpointing="full")
    program = LayerProgram.build(config, config.spec.runs[0], setup, "cpu")
    measured = CudaAllocator(torch.device("cpu")).measure(program)
    assert [phase.name for phase in measured.phases] == ["forward_transient", "released", "saved", "backward_peak"]
    assert all(parameter.grad is None for parameter in program.layer.parameters())


def test_what_verify_measures_on_a_device_stands_beside_the_prediction() -> None:
    """In fp32: in 16 bit the CPU's products allocate inside the operator, and the remainder is not zero there."""
    config = parsed(SMALL)
    rows = list(measured_memory(config, 32, torch.device("cpu"), precisions=("fp32",)))
    real, layers = "transformers 5.23 LlamaForCausalLM", f"layer {config.spec.runs[-1].label}"
    assert [(row.implementation, row.subject, row.quantity) for row in rows] == [
        (real, layers, "forward_transient"),
        (real, layers, "backward_peak"),
        ("our layers", layers, "forward_transient"),
        ("our layers", layers, "backward_peak"),
        (real, "training step", "peak, in backward"),
    ]
    for row in rows:
        assert row.measured_bytes is not None
        assert row.measured_bytes > 0
        if row.implementation == real:
            assert row.unexplained_bytes is not None
            assert abs(row.unexplained_bytes) <= CPU_SLACK_BYTES
        else:
            assert row.unexplained_bytes is None


def test_a_step_that_does_not_fit_is_not_tried() -> None:
    config = shipped("llama_7b")
    setup = TrainingSetup(seq_len=2048, checkpointing="full")
    assert list(measure_step(config, scheduled(config, setup), CpuAllocator())) == []


def test_nothing_is_measured_where_nothing_is_predicted() -> None:
    assert list(measured_memory(shipped("gpt2"), 32, torch.device("cpu"))) == []


@pytest.mark.gpu
@pytest.mark.parametrize("checkpointing", ["none", "full"])
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_a_layer_on_cuda_is_within_one_percent(precision: Any, checkpointing: Any) -> None:
    config = shipped("llama_7b")
    setup = TrainingSetup(seq_len=2048, precision=precision, checkpointing=checkpointing)
    backend = CudaAllocator(torch.device("cuda"))
    for peak in measure_layer(config, config.spec.runs[0], scheduled(config, setup), backend):
        assert peak.measured_bytes is not None
        assert peak.unexplained_bytes is not None
        assert abs(peak.unexplained_bytes) <= 0.01 * peak.measured_bytes


# Schedules made wrong on purpose: the check must fail, and name the moment and the tensor.


def forget_the_fp32_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    def cast(t: Tape, x: Tensor, itemsize: int, name: str) -> Tensor:
        return x if name == "post_attention_layernorm: fp32 copy" else right(t, x, itemsize, name)

    right = ops.cast
    monkeypatch.setattr(ops, "cast", cast)


def free_the_gate_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if silu did not save its input."""

    def silu(t: Tape, x: Tensor, name: str) -> Tensor:
        return ops.neg(t, x, name)

    monkeypatch.setattr(ops, "silu", silu)


@pytest.mark.parametrize(
    ("break_it", "named"),
    [
        (forget_the_fp32_copy, "tracker alone allocates aten._to_copy.default [2, 48, 96] float32 (36864 bytes)"),
        (free_the_gate_too_early, "schedule alone frees mlp.gate_proj (30720 bytes)"),
    ],
)
def test_a_wrong_schedule_is_caught_and_the_tensor_named(
    break_it: Callable[[pytest.MonkeyPatch], None], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = parsed(SMALL)
    setup = TrainingSetup(seq_len=48, micro_batch=2)
    arguments = config, config.spec.runs[0], predicted(config), setup
    assert all(check.status == "pass" for check in layer_checks(*arguments))
    break_it(monkeypatch)
    failed = {check.quantity: check for check in layer_checks(*arguments) if check.status == "fail"}
    assert failed
    (told,) = failed["every rise and fall of live bytes, layer 0-3"].terms
    assert named in told
    assert told.startswith("at ")


def test_profiles_part_where_their_totals_do() -> None:
    one = [("a", 4), ("b", 4), ("b", -4), ("c", 8)]
    assert first_divergence(one, [("b", 4), ("a", 4), ("a", -4), ("c", 8)]) is None
    divergence = first_divergence(one, [("x", 4), ("y", 4), ("y", -4), ("z", 8), ("w", 2)])
    assert divergence is not None
    assert (divergence.moment, divergence.scheduled_only, divergence.tracked_only) == ("c / w", (), (("w", 2),))
    assert str(divergence) == "at c / w: tracker alone allocates w (2 bytes)"


def test_phases_are_told_by_name() -> None:
    config = parsed(SMALL)
    setup = TrainingSetup(seq_len=8, optimizer="none")
    measured: MemoryMeasurement = Tracked().measure(StepProgram.build(config, setup, "meta"))
    assert measured.peak_bytes == max(measured["forward"].peak_bytes, measured["backward"].peak_bytes)
    assert measured["optimizer"].end_bytes == measured["backward"].end_bytes


def test_a_module_is_left_as_it_was() -> None:
    before = nn.functional.softmax
    config = parsed(SMALL)
    Tracked().measure(LayerProgram.build(config, config.spec.runs[0], TrainingSetup(seq_len=8), "meta"))
    assert nn.functional.softmax is before
