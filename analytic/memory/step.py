"""Peak memory of a training step on one GPU, and the moment at which it falls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from analytic.memory import ops
from analytic.memory.implementation import Implementation
from analytic.memory.model import BACKWARD, FORWARD, forward_and_backward, scheduled_layers
from analytic.memory.peaks import Live, Peak, highest, live_after, peak
from analytic.memory.static import model_base, model_tensors
from analytic.memory.tape import Tape
from analytic.memory.tensors import Category, Event, Label
from analytic.model.optimizer import cost_of
from analytic.model.spec import LayerSpec, ModelSpec
from analytic.model.training import TrainingSetup

RUNNERS_UP = 4


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of the step; equal layers in a row are one, `count` times. `layer`: what they are, where they are."""

    phase: str
    region: str
    first: int
    count: int
    events: list[Event]
    layer: LayerSpec | None = None

    def moment(self, repetition: int, at: int) -> str:
        """In which repetition, and at the allocation of what."""
        region = self.region
        if self.count > 1:
            last = self.first + self.count - 1
            region = f"layers.{last - repetition if self.phase == BACKWARD else self.first + repetition}"
        where = f"{self.phase} of {region}" if region else self.phase
        return f"{where}, {self.events[at - 1][0].name}" if at else where


@dataclass(frozen=True, slots=True)
class Moment:
    """The highest total within one segment."""

    name: str
    total_bytes: int


@dataclass(frozen=True, slots=True)
class StepMemory:
    """What a training step needs, in bytes.

    Attributes:
        implementation: the code that this is the schedule of.
        base: what is live before the step. step_peak: the most that is live in it, with everything.
        forward_peak_bytes, backward_peak_bytes: the highest totals of the two passes.
        layer_peaks: by kind of layer, the highest total of their backward. elsewhere_peak_bytes: the highest
            total of the two passes outside of it. optimizer_peak_bytes: the highest after them.
        runners_up: the next highest moments, one a segment.
    """

    implementation: str
    base: Peak
    step_peak: Peak
    forward_peak_bytes: int
    backward_peak_bytes: int
    layer_peaks: Mapping[LayerSpec, int]
    elsewhere_peak_bytes: int
    optimizer_peak_bytes: int
    runners_up: tuple[Moment, ...]


def step_memory(spec: ModelSpec, implementation: Implementation, setup: TrainingSetup) -> StepMemory:
    """Schedule forward, backward and optimizer step, and find their peak."""
    base = model_base(spec, setup)
    segments = list(step_segments(spec, implementation, setup))
    total, live = base.total(), Live(base)
    best = base.total()
    moments: list[Moment] = []
    phases: Counter[str] = Counter()
    in_layers: Counter[LayerSpec] = Counter()
    elsewhere = after = 0
    at_peak = peak("before the step", base)
    for segment in segments:
        height, at = highest(segment.events)
        one = live_after(segment.events)
        net = one.total()
        repetition = segment.count - 1 if net > 0 else 0
        here = total + net * repetition + height
        name = segment.moment(repetition, at)
        moments.append(Moment(name, here))
        phases[segment.phase] = max(phases[segment.phase], here)
        if segment.phase == BACKWARD and segment.layer is not None:
            in_layers[segment.layer] = max(in_layers[segment.layer], here)
        elif segment.phase in (FORWARD, BACKWARD):
            elsewhere = max(elsewhere, here)
        else:
            after = max(after, here)
        if here > best:
            best = here
            at_peak = peak(name, _sum(live, one, repetition, live_after(segment.events[:at])))
        total += net * segment.count
        live = _sum(live, one, segment.count)
    ranked = sorted(moments, key=lambda moment: -moment.total_bytes)
    return StepMemory(
        implementation=implementation.name,
        base=peak("before the step", base),
        step_peak=at_peak,
        forward_peak_bytes=phases[FORWARD],
        backward_peak_bytes=phases[BACKWARD],
        layer_peaks=dict(in_layers),
        elsewhere_peak_bytes=elsewhere,
        optimizer_peak_bytes=max(after, total),
        runners_up=tuple(ranked[1 : 1 + RUNNERS_UP]),
    )


def step_segments(spec: ModelSpec, implementation: Implementation, setup: TrainingSetup) -> Iterator[Segment]:
    """Forward, backward and optimizer step in their order; above the base."""
    yield from passes_of(spec, implementation, setup)
    yield from optimizer_segments(list(model_tensors(spec)), setup)


def step_events(spec: ModelSpec, implementation: Implementation, setup: TrainingSetup) -> Iterator[Event]:
    """Forward and backward of every layer, in full; above the base."""
    for segment in passes_of(spec, implementation, setup):
        for _ in range(segment.count):
            yield from segment.events


def allocated_bytes(spec: ModelSpec, implementation: Implementation, setup: TrainingSetup) -> int:
    """The sum of all tensors that forward and backward allocate, one after the other."""
    segments = passes_of(spec, implementation, setup)
    return sum(s.count * sum(size_bytes for _, size_bytes in s.events if size_bytes > 0) for s in segments)


def _sum(live: Live, more: Live, times: int, rest: Live | None = None) -> Live:
    result = Live(live)
    for key, size_bytes in more.items():
        result[key] += size_bytes * times
    if rest is not None:
        result.update(rest)
    return result


def passes_of(spec: ModelSpec, implementation: Implementation, setup: TrainingSetup) -> Iterator[Segment]:
    t = Tape(setup.itemsize, rounding=setup.rounding_bytes, is_accumulating=setup.is_accumulating)
    forward_and_backward(t, spec, implementation, setup)
    layers = {scheduled.label: scheduled for scheduled in scheduled_layers(spec)}
    ends = [index for index, _, _ in t.marks[1:]] + [len(t.events)]
    for (start, phase, region), end in zip(t.marks, ends, strict=True):
        events = t.events[start:end]
        if (own := layers.get(region)) is not None:
            yield Segment(phase, region, own.first, own.count, events, own.layer)
        else:
            yield Segment(phase, region, 0, 1, events)


def optimizer_segments(tensors: list[tuple[str, int]], setup: TrainingSetup) -> Iterator[Segment]:
    """What the optimizer's step allocates next to its states, of these parameter tensors."""
    if setup.has_master_weights:
        yield Segment("gradients to fp32", "", 0, 1, _to_fp32(tensors, setup))
    if names := cost_of(setup.optimizer).copies:
        size_bytes = sum(setup.rounded(numel * setup.optimizer_itemsize) for _, numel in tensors)
        labels = [Label(name, Category.TEMPORARIES) for name in names]
        events = [(label, size) for size in (size_bytes, -size_bytes) for label in labels]
        yield Segment("optimizer step", "", 0, 1, events)


def _to_fp32(tensors: list[tuple[str, int]], setup: TrainingSetup) -> list[Event]:
    """Each gradient cast to fp32 in the order of the parameters, and freed."""
    events: list[Event] = []
    for name, numel in tensors:
        events.append((Label(f"{name}.grad in fp32", Category.GRADIENTS), setup.rounded(numel * ops.FP32)))
        events.append((Label(f"{name}.grad", Category.GRADIENTS), -setup.rounded(numel * setup.itemsize)))
    return events
