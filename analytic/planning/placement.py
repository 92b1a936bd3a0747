"""Will it fit: a training step against the memory of one GPU, and of many that share it ideally.

Ideal sharding, unmeasured: parameters, gradients and optimizer states shared evenly among the GPUs;
the weights and gradients of one layer gathered while it runs; the activations of one micro-batch under
full checkpointing on each. Communication buffers and uneven shards are not in it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from analytic.huggingface.config import ModelConfig
from analytic.memory.capacity import RESERVE_BYTES
from analytic.memory.implementation import Implementation, NotPredicted, implementation_of
from analytic.memory.layer import layer_memory
from analytic.memory.step import step_memory
from analytic.model.training import TrainingSetup, planned_setup
from analytic.performance.measured_memory import MeasuredLayer, MeasuredMemory

MICRO_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What a step takes, in bytes.

    Attributes:
        state: parameters, gradients, optimizer states: what sharding shares.
        activations: the most that the two passes add to it. gathered: one layer's weights and gradients.
        optimizer_peak: the most of the optimizer's own step, state included, shared likewise.
    """

    state: int
    activations: int
    gathered: int
    optimizer_peak: int

    def on_each(self, num_gpus: int) -> int:
        """Bytes on each of so many GPUs."""
        passes = -(-self.state // num_gpus) + self.activations + (self.gathered if num_gpus > 1 else 0)
        return max(passes, -(-self.optimizer_peak // num_gpus))

    def least_gpus(self, available: int) -> int | None:
        """The fewest GPUs of `available` bytes that hold it; None where no number does."""
        if self.on_each(1) <= available:
            return 1
        room = available - self.activations - self.gathered
        return None if room <= 0 else max(2, -(-self.state // room), -(-self.optimizer_peak // available))


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """How a model sits on GPUs.

    Attributes:
        micro_batch: sequences a GPU takes at a time in `need`.
        least_gpus: that hold it; None where no number does.
        num_gpus: as planned, or else the least. fits: whether so many hold it.
        most_micro_batch: the largest power of two that fits on `num_gpus`; 0 if none does.
        measured: the layers whose peak in `need` was measured; the others' is predicted.
    """

    implementation: str
    micro_batch: int
    memory_bytes: int
    need: Need
    least_gpus: int | None
    num_gpus: int | None
    fits: bool
    most_micro_batch: int
    measured: tuple[MeasuredLayer, ...] = ()


def place(
    config: ModelConfig,
    *,
    seq_len: int,
    dtype: str,
    memory_bytes: int,
    num_gpus: int | None,
    micro_batch: int = 1,
    memory: MeasuredMemory | None = None,
) -> Placement | NotPredicted:
    """Put a training step on GPUs: 16-bit parameters, fp32 master weights, AdamW, accumulated gradients.

    Args:
        memory: what was measured on such a GPU, to stand in for what is predicted where it is of the same layer.
    """
    if dtype not in ("bf16", "fp16"):
        return NotPredicted(f"no memory schedule of training in {dtype}")
    implementation = implementation_of(config, seq_len)
    if isinstance(implementation, NotPredicted):
        return implementation
    setup = planned_setup(config.spec, seq_len, micro_batch, "bf16" if dtype == "bf16" else "fp16")
    available = memory_bytes - RESERVE_BYTES
    need, measured = _need(config, implementation, setup, memory)
    least = need.least_gpus(available)
    chosen = num_gpus or least
    most = 0
    for batch in MICRO_BATCHES:
        if chosen is None:
            break
        other, _ = _need(config, implementation, replace(setup, micro_batch=batch), memory)
        if other.on_each(chosen) > available:
            break
        most = batch
    return Placement(
        implementation=implementation.name,
        micro_batch=micro_batch,
        memory_bytes=memory_bytes,
        need=need,
        least_gpus=least,
        num_gpus=chosen,
        fits=chosen is not None and need.on_each(chosen) <= available,
        most_micro_batch=most,
        measured=measured,
    )


def _need(
    config: ModelConfig, implementation: Implementation, setup: TrainingSetup, memory: MeasuredMemory | None
) -> tuple[Need, tuple[MeasuredLayer, ...]]:
    """What a step takes, and the layers of which that is measured: each peak moves by what the schedule lacks."""
    spec = config.spec
    step = step_memory(spec, implementation, setup)
    state = step.base.total_bytes
    layers = [layer_memory(run.layer, spec.hidden_size, implementation, setup).base.total for run in spec.runs]
    peaks, measured = dict(step.layer_peaks), []
    for layer in step.layer_peaks:
        found = None if memory is None else memory.of(layer, config, implementation, setup)
        if found is not None:
            peaks[layer] += found.beyond_bytes
            measured.append(found)
    need = Need(
        state=state,
        activations=max(step.elsewhere_peak_bytes, *peaks.values()) - state,
        gathered=max(layers),
        optimizer_peak=step.optimizer_peak_bytes,
    )
    return need, tuple(measured)
