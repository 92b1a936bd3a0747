"""The memory schedules against what was tracked: at every rise and fall of the live bytes, and at the peaks.

Two profiles agree if they turn at the same totals: all allocations between two frees are one rise, and all
frees between two allocations one fall, so that the order within an operator does not matter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, groupby, zip_longest

from analytic.huggingface.config import ModelConfig
from analytic.memory.implementation import Implementation, NotPredicted
from analytic.memory.layer import layer_memory, training_events, transient_events
from analytic.memory.schedule import schedule_of
from analytic.memory.step import StepMemory, step_events, step_memory
from analytic.memory.tensors import Event
from analytic.model.spec import LayerRun
from analytic.model.training import TrainingSetup
from empirical.models.programs import LayerProgram, StepProgram
from empirical.proof.check import Check
from empirical.witnesses.memory import MemoryMeasurement, Tracked
from empirical.witnesses.tracker import TrackedEvent

Change = tuple[str, int]  # what is allocated (positive bytes) or freed (negative)


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first rise or fall on which schedule and tracker disagree, and the tensors that make the difference.

    Attributes:
        moment: the last tensor that the schedule and the tracker allocate or free in that rise or fall.
        scheduled_bytes, tracked_bytes: live after it, above the base.
        scheduled_only, tracked_only: changes in it and the next one without a counterpart of the same
            size, in order.
    """

    moment: str
    scheduled_bytes: int
    tracked_bytes: int
    scheduled_only: tuple[Change, ...]
    tracked_only: tuple[Change, ...]

    def __str__(self) -> str:
        sides = (("schedule", self.scheduled_only), ("tracker", self.tracked_only))
        odd = [f"{side} alone {_described(change)}" for side, changes in sides for change in changes[:3]]
        return f"at {self.moment}: {'; '.join(odd)}"


def scheduled_changes(events: Iterable[Event]) -> Iterator[Change]:
    """A schedule's events, named."""
    return ((label.name, size_bytes) for label, size_bytes in events)


def tracked_changes(events: Iterable[TrackedEvent]) -> Iterator[Change]:
    """A tracker's events, named by operator and shape."""
    return ((str(tensor), size_bytes) for tensor, size_bytes in events)


def first_divergence(scheduled: Iterable[Change], tracked: Iterable[Change]) -> Divergence | None:
    """Where two profiles first part, or None if they turn at the same totals throughout."""
    ours, theirs = [*_runs(scheduled), []], [*_runs(tracked), []]
    scheduled_total = tracked_total = 0
    nothing: list[Change] = []
    for i, (mine, other) in enumerate(zip_longest(ours, theirs, fillvalue=nothing)):
        scheduled_total += sum(size_bytes for _, size_bytes in mine)
        tracked_total += sum(size_bytes for _, size_bytes in other)
        if scheduled_total != tracked_total:
            ends = " / ".join(run[-1][0] for run in (mine, other) if run)
            near = [list(chain(*runs[i : i + 2])) for runs in (ours, theirs)]  # one side may have turned early
            return Divergence(ends, scheduled_total, tracked_total, _unmatched(*near), _unmatched(*near[::-1]))
    return None


def _runs(changes: Iterable[Change]) -> Iterator[list[Change]]:
    for _, run in groupby((c for c in changes if c[1]), key=lambda change: change[1] > 0):
        yield list(run)


def _unmatched(changes: list[Change], others: list[Change]) -> tuple[Change, ...]:
    available = Counter(size_bytes for _, size_bytes in others)
    alone: list[Change] = []
    for name, size_bytes in changes:
        if available[size_bytes]:
            available[size_bytes] -= 1
        else:
            alone.append((name, size_bytes))
    return tuple(alone)


def _described(change: Change) -> str:
    name, size_bytes = change
    return f"{'allocates' if size_bytes > 0 else 'frees'} {name} ({abs(size_bytes)} bytes)"


def memory_checks(config: ModelConfig, setup: TrainingSetup) -> Iterator[Check]:
    """Every layer kind and the whole step, schedule against tracker; nothing where there is no schedule."""
    schedule = schedule_of(config, setup)
    if isinstance(schedule, NotPredicted):
        return
    for run in config.spec.kinds.values():
        yield from layer_checks(config, run, schedule.implementation, setup)
    yield from step_checks(config, schedule.implementation, setup)


def layer_checks(
    config: ModelConfig, run: LayerRun, implementation: Implementation, setup: TrainingSetup
) -> Iterator[Check]:
    """One layer's figures, above its base; `saved` as without checkpointing."""
    memory = layer_memory(run.layer, config.spec.hidden_size, implementation, setup)
    plain = replace(setup, checkpointing="none")
    tracked = {
        s: Tracked(setup.rounding_bytes).measure(LayerProgram.build(config, run, s, "meta")) for s in (plain, setup)
    }
    forward = tracked[setup]["forward_transient"]
    figures = {
        "base": (memory.base.total, tracked[setup].base_bytes or 0),
        "forward_transient": (memory.forward_transient.total_bytes, forward.peak_bytes),
        "boundary": (memory.boundary.total, forward.end_bytes),
        "saved": (memory.saved.total, tracked[plain]["saved"].end_bytes),
        "backward_peak": (memory.backward_peak.total_bytes, tracked[setup]["backward_peak"].peak_bytes),
    }
    for name, (ours, theirs) in figures.items():
        yield _check(config, f"{name} bytes, layer {run.label}", ours, theirs)
    divergence = layer_divergence(config, run, implementation, setup, tracked[setup])
    yield _profile_check(config, f"layer {run.label}", figures["backward_peak"], divergence)


def layer_divergence(
    config: ModelConfig,
    run: LayerRun,
    implementation: Implementation,
    setup: TrainingSetup,
    tracked: MemoryMeasurement,
) -> Divergence | None:
    """Where a layer's schedule and its tracked profile part: forward alone, then forward and backward."""
    forward = transient_events(run.layer, config.spec.hidden_size, implementation, setup)
    training, _ = training_events(run.layer, config.spec.hidden_size, implementation, setup)
    kept = chain(tracked["saved"].events, tracked["backward_peak"].events)
    return first_divergence(
        scheduled_changes(forward), tracked_changes(tracked["forward_transient"].events)
    ) or first_divergence(scheduled_changes(training), tracked_changes(kept))


def step_checks(config: ModelConfig, implementation: Implementation, setup: TrainingSetup) -> Iterator[Check]:
    """A whole training step: base, the peaks of its passes and of the step.

    The fused optimizer does not run on meta: there the step is tracked without it.
    """
    if setup.optimizer == "adamw_fused":
        setup = replace(setup, optimizer="none")
    memory = step_memory(config.spec, implementation, setup)
    tracked = Tracked(setup.rounding_bytes).measure(StepProgram.build(config, setup, "meta"))
    figures = _step_figures(memory, tracked)
    for name, (ours, theirs) in figures.items():
        yield _check(config, f"{name} bytes, training step", ours, theirs)
    divergence = step_divergence(config, implementation, setup, tracked)
    yield _profile_check(config, "training step", figures["backward peak"], divergence)


def step_divergence(
    config: ModelConfig, implementation: Implementation, setup: TrainingSetup, tracked: MemoryMeasurement
) -> Divergence | None:
    """Where the schedule of forward and backward and their tracked profile part."""
    passes = chain(tracked["forward"].events, tracked["backward"].events)
    return first_divergence(scheduled_changes(step_events(config.spec, implementation, setup)), tracked_changes(passes))


def _step_figures(memory: StepMemory, tracked: MemoryMeasurement) -> dict[str, tuple[int, int]]:
    base = tracked.base_bytes or 0
    return {
        "base": (memory.base.total_bytes, base),
        "forward peak": (memory.forward_peak_bytes, base + tracked["forward"].peak_bytes),
        "backward peak": (memory.backward_peak_bytes, base + tracked["backward"].peak_bytes),
        "peak": (memory.step_peak.total_bytes, base + tracked.peak_bytes),
    }


def _check(config: ModelConfig, quantity: str, analytic: int, measured: int | None) -> Check:
    return Check(model=config.name, quantity=quantity, witness="tracked on meta", analytic=analytic, measured=measured)


def _profile_check(config: ModelConfig, subject: str, peaks: tuple[int, int], divergence: Divergence | None) -> Check:
    """The live bytes where the profiles part, with the tensors that part them; where they do not, the peaks."""
    check = _check(config, f"every rise and fall of live bytes, {subject}", *peaks)
    if divergence is None:
        return check
    ours, theirs = divergence.scheduled_bytes, divergence.tracked_bytes
    return replace(check, analytic=ours, measured=theirs, terms={str(divergence): (ours, theirs)})
