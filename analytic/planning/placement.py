"""Will it fit: a training step against the memory of one GPU, or of several in the layout that suits them.

One GPU is the model's own schedule. Several are FSDP over all of them on `transformers` where that fits, and else the
best layout of any stack. Each data rank works on sequences of its own, so that there can be no more of them than
micro-batches.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from analytic.defaults import NODE_GPUS, RESERVE_BYTES
from analytic.errors import UsageError
from analytic.huggingface.config import ModelConfig
from analytic.memory.implementation import NotPredicted
from analytic.memory.schedule import MemorySchedule, schedule_of
from analytic.model.checkpointing import Checkpointing
from analytic.model.training import TrainingSetup, planned_setup
from analytic.parallelism.layout import MOST_RANKS, Layout
from analytic.parallelism.stacks import Stack
from analytic.performance.measured_memory import MeasuredLayer, MeasuredMemory
from analytic.planning.layouts import Space, is_mixed
from analytic.planning.many_gpus import STACKS
from analytic.planning.rank_fit import Question, RankFit, enumerate_fits, fewest_gpus, rank_setup

MICRO_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
_DATA_ALONE: Stack = "transformers-fsdp2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """How a model sits on GPUs.

    Attributes:
        implementation: the code that the peak is predicted for. origin: how sure that is.
        fit: the layout of several GPUs; None on one. moment: at which the peak is.
        peak_bytes: of the fullest GPU. beyond_bytes: of them, what was measured in excess of the schedule.
        recompute: what the backward pass recomputes. reserve_bytes: of `memory_bytes`, what is kept free.
        most_sequences: those of one optimizer step, or of the run, that the GPUs share; None where that is open.
        least_gpus: that hold it and all have a micro-batch; None where no number that was tried does.
        num_gpus: as planned, or else those that the memory takes. fits: whether so many hold it and all work.
        most_micro_batch: the largest power of two that fits on `num_gpus`; 0 if none does.
        measured: the layers of which the peak was measured.
    """

    implementation: str
    origin: str
    fit: RankFit | None
    peak_bytes: int | None
    moment: str
    beyond_bytes: int
    micro_batch: int
    recompute: Checkpointing
    memory_bytes: int
    reserve_bytes: int
    most_sequences: int | None
    least_gpus: int | None
    num_gpus: int | None
    fits: bool
    most_micro_batch: int
    measured: tuple[MeasuredLayer, ...] = ()

    @property
    def has_idle_gpus(self) -> bool:
        """Whether there are more data ranks than micro-batches."""
        return self.num_gpus is not None and _exceeds(self.data_ranks, self.micro_batch, self.most_sequences)

    @property
    def data_ranks(self) -> int:
        """GPUs that each take sequences of their own."""
        return (self.num_gpus or 1) if self.fit is None else self.fit.layout.data_ranks


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """What one number of GPUs holds, with which peak, in whose code. `fit` is None on one GPU."""

    fit: RankFit | None
    peak_bytes: int
    moment: str
    implementation: str
    origin: str

    @property
    def num_gpus(self) -> int:
        return 1 if self.fit is None else self.fit.layout.num_gpus

    @property
    def data_ranks(self) -> int:
        return (self.num_gpus or 1) if self.fit is None else self.fit.layout.data_ranks


def place(
    config: ModelConfig,
    *,
    seq_len: int,
    dtype: str,
    memory_bytes: int,
    num_gpus: int | None,
    node_gpus: int = NODE_GPUS,
    micro_batch: int = 1,
    most_sequences: int | None = None,
    memory: MeasuredMemory | None = None,
) -> Placement | NotPredicted:
    """Put a training step, as `planned_setup` trains, on GPUs; see `place_setup`."""
    if dtype not in ("bf16", "fp16"):
        return NotPredicted(f"no memory schedule of training in {dtype}")
    setup = planned_setup(config.spec, seq_len, micro_batch, "bf16" if dtype == "bf16" else "fp16")
    return place_setup(
        config,
        setup,
        memory_bytes=memory_bytes,
        num_gpus=num_gpus,
        node_gpus=node_gpus,
        most_sequences=most_sequences,
        memory=memory,
    )


def place_setup(
    config: ModelConfig,
    setup: TrainingSetup,
    *,
    memory_bytes: int,
    num_gpus: int | None,
    node_gpus: int = NODE_GPUS,
    most_sequences: int | None = None,
    memory: MeasuredMemory | None = None,
    reserve_bytes: int | None = None,
) -> Placement | NotPredicted:
    """Put a training step on GPUs.

    Args:
        node_gpus: that a fast link joins.
        most_sequences: sequences of the global batch, or of the whole run where no batch is fixed: more data ranks
            than these can feed with a micro-batch each do not fit. None leaves that open.
        memory: what was measured on such a GPU, in excess of what is predicted of the same layer.
        reserve_bytes: what is kept free; None is the default of one GPU, and the allowance of a layout of several.
    """
    schedule = schedule_of(config, setup)
    if isinstance(schedule, NotPredicted):
        return schedule
    measured = _measured(schedule, config, memory)
    step = _Step(
        schedule=schedule,
        question=Question(
            config=config,
            setup=rank_setup(setup),
            recompute=setup.checkpointing,
            memory_bytes=memory_bytes,
            reserve_bytes=reserve_bytes,
            beyond_bytes=max((0, *(layer.beyond_bytes for layer in measured))),
        ),
        node_gpus=node_gpus,
        most_sequences=most_sequences,
    )
    least = step.least_gpus()
    chosen = num_gpus or (None if least is None else least.num_gpus)
    held = None if chosen is None else step.on(chosen)
    return Placement(
        implementation=schedule.implementation.name if held is None else held.implementation,
        origin="" if held is None else held.origin,
        fit=None if held is None else held.fit,
        peak_bytes=None if held is None else held.peak_bytes,
        moment="" if held is None else held.moment,
        beyond_bytes=step.question.beyond_bytes,
        micro_batch=setup.micro_batch,
        recompute=setup.checkpointing,
        memory_bytes=memory_bytes,
        reserve_bytes=step.reserve_on_one if held is None or held.fit is None else held.fit.allowance_bytes,
        most_sequences=most_sequences,
        least_gpus=None if least is None or not step.feeds(least) else least.num_gpus,
        num_gpus=chosen,
        fits=held is not None and step.fits(held),
        most_micro_batch=0 if held is None else step.most_micro_batch(held),
        measured=measured,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """One training step, asked on different numbers of GPUs."""

    schedule: MemorySchedule
    question: Question
    node_gpus: int
    most_sequences: int | None

    @property
    def reserve_on_one(self) -> int:
        """What is kept free of a single GPU."""
        given = self.question.reserve_bytes
        return RESERVE_BYTES if given is None else given

    @property
    def _room_on_one(self) -> int:
        return self.question.memory_bytes - self.reserve_on_one - self.question.beyond_bytes

    def on(self, num_gpus: int) -> _Held | None:
        """FSDP over so many GPUs where that fits, or else the best layout; None: none is predicted."""
        if num_gpus == 1:
            return self._on_one(self.schedule.setup.micro_batch)
        if num_gpus > MOST_RANKS:
            return None
        sharded = self._sharded(num_gpus)
        if sharded is not None and sharded.fits:
            return _held(sharded)
        found = enumerate_fits(self.question, Space(num_gpus=num_gpus, node_gpus=self.node_gpus), STACKS)
        nearest = found.fitting[0] if found.fitting else sharded or found.closest
        return None if nearest is None else _held(nearest)

    def least_gpus(self) -> _Held | None:
        """On the fewest GPUs: one, FSDP over a few, or whole nodes in any layout."""
        one = self._on_one(self.schedule.setup.micro_batch)
        if one.peak_bytes <= self._room_on_one:
            return one
        fits, high = None, 1
        while fits is None and high < MOST_RANKS:
            low, high = high, min(2 * high, MOST_RANKS)
            fits = self._that_fits(high)
        if fits is None:
            space = Space(num_gpus=self.node_gpus, node_gpus=self.node_gpus)
            found = fewest_gpus(self.question, space, STACKS)
            return None if found is None else _held(found)
        while high - low > 1:
            middle = (low + high) // 2
            between = self._that_fits(middle)
            low, high, fits = (middle, high, fits) if between is None else (low, middle, between)
        return _held(fits)

    def most_micro_batch(self, held: _Held) -> int:
        """The largest power of two that fits in its layout, and that there are sequences for."""
        most = 0
        for batch in MICRO_BATCHES:
            if _exceeds(held.data_ranks, batch, self.most_sequences) or not self._takes(held, batch):
                break
            most = batch
        return most

    def _takes(self, held: _Held, micro_batch: int) -> bool:
        if held.fit is None:
            return self._on_one(micro_batch).peak_bytes <= self._room_on_one
        return held.fit.takes(micro_batch)

    def fits(self, held: _Held) -> bool:
        has_room = held.peak_bytes <= self._room_on_one if held.fit is None else held.fit.fits
        return self.feeds(held) and has_room

    def feeds(self, held: _Held) -> bool:
        """Whether every data rank has a micro-batch."""
        return not _exceeds(held.data_ranks, self.schedule.setup.micro_batch, self.most_sequences)

    def _that_fits(self, num_gpus: int) -> RankFit | None:
        sharded = self._sharded(num_gpus)
        return sharded if sharded is not None and sharded.fits else None

    def _sharded(self, num_gpus: int) -> RankFit | None:
        is_both = is_mixed(self.question.setup)
        try:
            found = self.question.fit(Layout(dp_shard=num_gpus, mixed_precision=is_both), _DATA_ALONE)
        except UsageError:
            return None
        return None if isinstance(found, NotPredicted) else found

    def _on_one(self, micro_batch: int) -> _Held:
        peak = self.schedule.under(replace(self.schedule.setup, micro_batch=micro_batch)).step().step_peak
        return _Held(
            fit=None,
            peak_bytes=peak.total_bytes,
            moment=peak.moment,
            implementation=self.schedule.implementation.name,
            origin="proven",
        )


def _held(fit: RankFit) -> _Held:
    return _Held(
        fit=fit,
        peak_bytes=fit.peak.peak_bytes,
        moment=fit.peak.moment,
        implementation=fit.stack,
        origin=fit.peak.origin,
    )


def _measured(
    schedule: MemorySchedule, config: ModelConfig, memory: MeasuredMemory | None
) -> tuple[MeasuredLayer, ...]:
    """The kinds of layer of which a peak was measured."""
    if memory is None:
        return ()
    found = (memory.of(layer, config, schedule.implementation, schedule.setup) for layer in config.spec.kinds)
    return tuple(layer for layer in found if layer is not None)


def _exceeds(data_ranks: int, micro_batch: int, most_sequences: int | None) -> bool:
    """Whether a micro-batch on each takes more sequences than there are."""
    return most_sequences is not None and data_ranks * micro_batch > most_sequences
