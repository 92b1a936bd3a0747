"""Peak memory on a real device, compared with its prediction: what nothing explains is shown, not hidden."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from analytic.huggingface.config import ModelConfig
from analytic.memory.implementation import NotPredicted
from analytic.memory.peaks import Peak
from analytic.memory.schedule import MemorySchedule, schedule_of
from analytic.model.spec import LayerRun
from analytic.model.training import AttentionKernel, Precision, TrainingSetup, fused_kernel
from analytic.performance.calibration_file import setup_to_json
from empirical.models.programs import LayerProgram, StepProgram
from empirical.witnesses.memory import Backend, CpuAllocator, CudaAllocator, MemoryMeasurement, is_out_of_memory

PRECISIONS: tuple[Precision, ...] = ("fp16", "bf16")
LARGEST_CPU_STEP_BYTES = 2**30  # 16-bit products on a CPU are slow: there, only small models take a whole step
OUR_LAYERS, TRAINING_STEP = "our layers", "training step"
FREE_SHARE = 0.9  # of the device's free memory that a whole step may be predicted to take


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredPeak:
    """A peak of a real allocator above the base, or why there is none.

    Attributes:
        implementation: whose layer or model. subject: which layers, or the training step.
        measured_bytes: None where there is an error.
        predicted_bytes: None where nothing is predicted, as for our own layers.
        inside_bytes: by how much the tensors that are known to be allocated inside an operator raise the peak.
        allocated_bytes, reserved_bytes: on CUDA, with rounding and cache.
        error: why nothing was measured, on one line; empty where something was.
    """

    implementation: str
    setup: TrainingSetup
    subject: str
    quantity: str
    measured_bytes: int | None
    predicted_bytes: int | None = None
    inside_bytes: int = 0
    allocated_bytes: int | None = None
    reserved_bytes: int | None = None
    error: str = ""

    @property
    def unexplained_bytes(self) -> int | None:
        """Neither predicted nor known inside operators; a cuBLAS workspace, if one is allocated, is part of it."""
        if self.measured_bytes is None or self.predicted_bytes is None:
            return None
        return self.measured_bytes - self.predicted_bytes - self.inside_bytes

    def as_json(self) -> dict[str, Any]:
        return {
            "implementation": self.implementation,
            "setup": setup_to_json(self.setup),
            "subject": self.subject,
            "quantity": self.quantity,
            "measured_bytes": self.measured_bytes,
            "predicted_bytes": self.predicted_bytes,
            "inside_bytes": self.inside_bytes,
            "unexplained_bytes": self.unexplained_bytes,
            "allocated_bytes": self.allocated_bytes,
            "reserved_bytes": self.reserved_bytes,
            "error": self.error,
        }


def measured_memory(
    config: ModelConfig, seq_len: int, device: torch.device, precisions: Sequence[Precision] = PRECISIONS
) -> Iterator[MeasuredPeak]:
    """The model's last kind of layer, real and ours, and a whole step where it fits; checkpointed.

    Nothing for a model without a memory schedule.
    """
    backend: Backend = CudaAllocator(device) if device.type == "cuda" else CpuAllocator()
    run = config.spec.runs[-1]
    for precision in precisions:
        setup = TrainingSetup(
            seq_len=seq_len, precision=precision, checkpointing="full", attention_kernel=_kernel(config, device)
        )
        if isinstance(schedule := schedule_of(config, setup), NotPredicted):
            return
        none = MeasuredPeak(
            implementation=schedule.implementation.name,
            setup=setup,
            subject=f"layer {run.label}",
            quantity="peak",
            measured_bytes=None,
        )
        yield from _tried(partial(measure_layer, config, run, schedule, backend), none)
        yield from _tried(
            partial(measure_our_layer, config, run, setup, backend), replace(none, implementation=OUR_LAYERS)
        )
        yield from _tried(partial(measure_step, config, schedule, backend), replace(none, subject=TRAINING_STEP))


def _tried(measure: Callable[[], Iterable[MeasuredPeak]], none: MeasuredPeak) -> list[MeasuredPeak]:
    """The measured peaks, or `none` with the error."""
    try:
        return list(measure())
    except Exception as error:  # whatever a library refuses, the next measurement follows
        return [replace(none, error=why(error))]


def why(error: Exception) -> str:
    """An error as a result, on one line."""
    verdict = "does not fit" if is_out_of_memory(error) else "cannot run"
    return f"{verdict}: {(str(error) or type(error).__name__).splitlines()[0]}"


def measure_layer(
    config: ModelConfig, run: LayerRun, schedule: MemorySchedule, backend: Backend
) -> tuple[MeasuredPeak, MeasuredPeak]:
    """Forward without gradients, and backward, of a layer with a schedule."""
    setup, memory = schedule.setup, schedule.layer(run.layer)
    measured = backend.measure(LayerProgram.build(config, run, setup, backend.device))
    inside = 0
    if backend.device.type == "cuda":
        with_kernels = schedule.under(replace(setup, counts_kernel_bytes=True)).layer(run.layer)
        inside = with_kernels.backward_peak.total_bytes - memory.backward_peak.total_bytes

    def row(quantity: str, predicted: Peak, inside_bytes: int) -> MeasuredPeak:
        return _row(
            schedule.implementation.name, setup, f"layer {run.label}", quantity, measured, predicted, inside_bytes
        )

    return row("forward_transient", memory.forward_transient, 0), row("backward_peak", memory.backward_peak, inside)


def measure_our_layer(
    config: ModelConfig, run: LayerRun, setup: TrainingSetup, backend: Backend
) -> Iterator[MeasuredPeak]:
    """The same of our own layer, for which nothing is predicted."""
    measured = backend.measure(LayerProgram.build_ours(config, run, setup, backend.device))
    for quantity in ("forward_transient", "backward_peak"):
        yield _row(OUR_LAYERS, setup, f"layer {run.label}", quantity, measured, None)


def measure_step(config: ModelConfig, schedule: MemorySchedule, backend: Backend) -> Iterator[MeasuredPeak]:
    """A whole training step, above what is live before it; nothing where it would not fit the device."""
    setup, memory = schedule.setup, schedule.step()
    if memory.step_peak.total_bytes > _available_bytes(backend.device):
        return
    measured = backend.measure(StepProgram.build(config, setup, backend.device))
    highest = max(measured.phases, key=lambda phase: phase.peak_bytes)
    yield MeasuredPeak(
        implementation=schedule.implementation.name,
        setup=setup,
        subject=TRAINING_STEP,
        quantity=f"peak, in {highest.name}",
        predicted_bytes=memory.step_peak.total_bytes - memory.base.total_bytes,
        measured_bytes=highest.peak_bytes,
        allocated_bytes=highest.allocated_bytes,
        reserved_bytes=highest.reserved_bytes,
    )


def _row(
    implementation: str,
    setup: TrainingSetup,
    subject: str,
    quantity: str,
    measured: MemoryMeasurement,
    predicted: Peak | None,
    inside_bytes: int = 0,
) -> MeasuredPeak:
    phase = measured[quantity]
    return MeasuredPeak(
        implementation=implementation,
        setup=setup,
        subject=subject,
        quantity=quantity,
        predicted_bytes=None if predicted is None else predicted.total_bytes,
        measured_bytes=phase.peak_bytes,
        inside_bytes=inside_bytes,
        allocated_bytes=phase.allocated_bytes,
        reserved_bytes=phase.reserved_bytes,
    )


def _kernel(config: ModelConfig, device: torch.device) -> AttentionKernel:
    """The fused kernel that CUDA has for the model; the CPU's own allocates inside the operator, eager does not."""
    return fused_kernel(config.spec) if device.type == "cuda" else "eager"


def _available_bytes(device: torch.device) -> int:
    """What a whole step may take. torch first returns what it caches of earlier measurements, or that would count."""
    if device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()
        free_bytes, _ = torch.cuda.mem_get_info(device)
        return int(FREE_SHARE * free_bytes)
    free_bytes = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(int(FREE_SHARE * free_bytes), LARGEST_CPU_STEP_BYTES)
