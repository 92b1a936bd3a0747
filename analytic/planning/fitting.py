"""Does a model train on one GPU: to the byte, by the schedule of its implementation."""

from __future__ import annotations

from dataclasses import dataclass, replace

from analytic.huggingface.config import ModelConfig
from analytic.limits import MAX_DIMENSION
from analytic.memory.capacity import Fit, fits
from analytic.memory.implementation import NotPredicted
from analytic.memory.peaks import Peak
from analytic.memory.schedule import schedule_of
from analytic.memory.static import least_states
from analytic.model.checkpointing import Checkpointing
from analytic.model.training import TrainingSetup
from analytic.planning.placement import Placement, place_setup

CHOICES: tuple[Checkpointing, ...] = ("none", "full")


@dataclass(frozen=True, slots=True, kw_only=True)
class OneGpu:
    """A training step on one GPU, by its schedule.

    Attributes:
        peaks: of the setup's micro-batch and length, by what is recomputed.
        largest: the largest micro-batch and the longest sequence, likewise.
    """

    implementation: str
    peaks: dict[Checkpointing, Peak]
    largest: tuple[Fit, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitting:
    """The answer.

    Attributes:
        gpu: a name, or the memory itself. recompute: what was asked for; None is the least that fits.
        placement: where it does not fit, the fewest GPUs that hold it with every layer recomputed.
        least_states: bytes of parameters, gradients and optimizer states.
    """

    config: ModelConfig
    setup: TrainingSetup
    gpu: str
    memory_bytes: int
    reserve_bytes: int
    recompute: Checkpointing | None
    one: OneGpu | NotPredicted
    placement: Placement | None
    least_states: int

    @property
    def available_bytes(self) -> int:
        return self.memory_bytes - self.reserve_bytes

    @property
    def missing(self) -> NotPredicted | None:
        """Why memory is not predicted."""
        return self.one if isinstance(self.one, NotPredicted) else None

    @property
    def chosen(self) -> Checkpointing:
        """What is recomputed: as asked, or nothing where that fits, or else every layer."""
        if self.recompute is not None:
            return self.recompute
        is_roomy = isinstance(self.one, OneGpu) and self.one.peaks["none"].total_bytes <= self.available_bytes
        return "none" if is_roomy else "full"

    @property
    def fits(self) -> bool | None:
        """None where it is not predicted and the states alone do not decide it."""
        if isinstance(self.one, OneGpu):
            return self.one.peaks[self.chosen].total_bytes <= self.available_bytes
        return False if self.least_states > self.available_bytes else None


def fit_on(
    config: ModelConfig,
    setup: TrainingSetup,
    *,
    gpu: str,
    memory_bytes: int,
    reserve_bytes: int,
    recompute: Checkpointing | None,
    node_gpus: int,
) -> Fitting:
    """Fit a training step into one GPU.

    Raises:
        UsageError: a reserve that leaves nothing of the memory.
    """
    one = _one(config, setup, memory_bytes, reserve_bytes)
    found = Fitting(
        config=config,
        setup=setup,
        gpu=gpu,
        memory_bytes=memory_bytes,
        reserve_bytes=reserve_bytes,
        recompute=recompute,
        one=one,
        placement=None,
        least_states=sum(least_states(config.spec, setup).values()),
    )
    if found.fits is not False or isinstance(one, NotPredicted):
        return found
    placement = place_setup(
        config,
        replace(setup, checkpointing=found.chosen),
        memory_bytes=memory_bytes,
        num_gpus=None,
        node_gpus=node_gpus,
        reserve_bytes=reserve_bytes,
    )
    return replace(found, placement=placement if isinstance(placement, Placement) else None)


def _one(config: ModelConfig, setup: TrainingSetup, memory_bytes: int, reserve_bytes: int) -> OneGpu | NotPredicted:
    schedule = schedule_of(config, setup)
    if isinstance(schedule, NotPredicted):
        return schedule
    peaks = {each: schedule.under(replace(setup, checkpointing=each)).step().step_peak for each in CHOICES}
    found = fits(schedule, memory_bytes=memory_bytes, reserve_bytes=reserve_bytes)
    longest = schedule_of(config, replace(setup, seq_len=MAX_DIMENSION))
    if isinstance(longest, NotPredicted):  # a window limits the length that is predicted
        found = tuple(replace(each, seq_len=min(each.seq_len, _window(config) - 1)) for each in found)
    return OneGpu(implementation=schedule.implementation.name, peaks=peaks, largest=found)


def _window(config: ModelConfig) -> int:
    windows = [layer.attention.sliding_window for layer in config.spec.kinds]
    return min(window for window in windows if window is not None)
