"""Will it fit: a training step against the memory of one GPU, and of many that share it ideally.

Ideal sharding, unmeasured: parameters, gradients and optimizer states shared evenly among the GPUs;
the weights and gradients of one layer gathered while it runs; the activations of one micro-batch under
full checkpointing on each. Communication buffers and uneven shards are not in it. Each GPU works on sequences
of its own, so that there can be no more GPUs than micro-batches.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from analytic.huggingface.config import ModelConfig
from analytic.memory.capacity import RESERVE_BYTES
from analytic.memory.implementation import NotPredicted
from analytic.memory.schedule import MemorySchedule, schedule_of
from analytic.model.training import TrainingState, planned_setup
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
        state: what a parameter takes of `need.state`. micro_batch: sequences a GPU takes at a time in `need`.
        most_sequences: those of one optimizer step, or of the run, that the GPUs share; None where that is open.
        least_gpus: that hold it and all have a micro-batch; None where no number does.
        num_gpus: as planned, or else those that the memory takes. fits: whether so many hold it and all work.
        most_micro_batch: the largest power of two that fits on `num_gpus`; 0 if none does.
        measured: the layers whose peak in `need` was measured; the others' is predicted.
    """

    implementation: str
    state: TrainingState
    micro_batch: int
    memory_bytes: int
    most_sequences: int | None
    need: Need
    least_gpus: int | None
    num_gpus: int | None
    fits: bool
    most_micro_batch: int
    measured: tuple[MeasuredLayer, ...] = ()

    @property
    def has_idle_gpus(self) -> bool:
        """Whether there are more GPUs than micro-batches."""
        return self.num_gpus is not None and _exceeds(self.num_gpus, self.micro_batch, self.most_sequences)


def place(
    config: ModelConfig,
    *,
    seq_len: int,
    dtype: str,
    memory_bytes: int,
    num_gpus: int | None,
    micro_batch: int = 1,
    most_sequences: int | None = None,
    memory: MeasuredMemory | None = None,
) -> Placement | NotPredicted:
    """Put a training step, as `planned_setup` trains, on GPUs.

    Args:
        most_sequences: sequences of the global batch, or of the whole run where no batch is fixed: more GPUs than
            these can feed with a micro-batch each do not fit. None leaves that open.
        memory: what was measured on such a GPU, in place of what is predicted of the same layer.
    """
    if dtype not in ("bf16", "fp16"):
        return NotPredicted(f"no memory schedule of training in {dtype}")
    setup = planned_setup(config.spec, seq_len, micro_batch, "bf16" if dtype == "bf16" else "fp16")
    schedule = schedule_of(config, setup)
    if isinstance(schedule, NotPredicted):
        return schedule
    available = memory_bytes - RESERVE_BYTES
    need, measured = _need(config, schedule, memory)
    least = need.least_gpus(available)
    chosen = num_gpus or least
    most = 0
    for batch in MICRO_BATCHES:
        if chosen is None or _exceeds(chosen, batch, most_sequences):
            break
        other, _ = _need(config, schedule.under(replace(setup, micro_batch=batch)), memory)
        if other.on_each(chosen) > available:
            break
        most = batch
    is_busy = chosen is not None and not _exceeds(chosen, micro_batch, most_sequences)
    return Placement(
        implementation=schedule.implementation.name,
        state=setup.state,
        micro_batch=micro_batch,
        memory_bytes=memory_bytes,
        most_sequences=most_sequences,
        need=need,
        least_gpus=None if least is None or _exceeds(least, micro_batch, most_sequences) else least,
        num_gpus=chosen,
        fits=chosen is not None and is_busy and need.on_each(chosen) <= available,
        most_micro_batch=most,
        measured=measured,
    )


def _exceeds(num_gpus: int, micro_batch: int, most_sequences: int | None) -> bool:
    """Whether a micro-batch on each takes more sequences than there are."""
    return most_sequences is not None and num_gpus * micro_batch > most_sequences


def _need(
    config: ModelConfig, schedule: MemorySchedule, memory: MeasuredMemory | None
) -> tuple[Need, tuple[MeasuredLayer, ...]]:
    """What a step takes, and the layers of which that is measured: each peak moves by what the schedule lacks."""
    step = schedule.step()
    state = step.base.total_bytes
    layers = [schedule.layer(layer).base.total for layer in config.spec.kinds]
    peaks, measured = dict(step.layer_peaks), []
    for layer in step.layer_peaks:
        found = None if memory is None else memory.of(layer, config, schedule.implementation, schedule.setup)
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
