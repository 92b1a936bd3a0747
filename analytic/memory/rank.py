"""Memory of one rank of `transformers` on FSDP2: its schedule of a training step, and the peak.

Proven for FSDP and HSDP against a rank of a simulated world, at every rise and fall of live bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from analytic.errors import UsageError
from analytic.memory import ops
from analytic.memory.fsdp_overlay import Overlay, TapeSegment, tape_segment
from analytic.memory.implementation import Implementation, NotPredicted
from analytic.memory.model import EMBEDDING, LOSS
from analytic.memory.rank_groups import Shape, embedding_shapes, group_bytes, layer_shapes, tail_shapes
from analytic.memory.rank_optimizer import copy_bytes, optimizer_segments, state_bytes
from analytic.memory.rank_peak import RankPeak
from analytic.memory.static import mask_bytes, model_buffers
from analytic.memory.step import _passes
from analytic.memory.stretch import RankSegment, Top, top_of
from analytic.memory.tensors import Category, Event
from analytic.model.optimizer import FP32_BYTES
from analytic.model.spec import ModelSpec
from analytic.model.training import TrainingSetup
from analytic.parallelism.layout import Layout


@dataclass(frozen=True, slots=True)
class RankMemory:
    """What a training step needs on one rank, in bytes.

    Attributes:
        peak: the highest moment of the step. phases: the highest total in each phase.
        stored: live before the step, by category.
    """

    peak: RankPeak
    phases: Mapping[str, int]
    stored: Mapping[Category, int]


@dataclass(frozen=True, slots=True)
class RankSchedule:
    """The schedule of one rank's step, after what is live before it.

    Attributes:
        base: bytes by category. segments: forward, backward and the optimizer's step, in program order.
    """

    base: Mapping[Category, int]
    segments: tuple[RankSegment, ...]

    def events(self) -> Iterator[Event]:
        """Every allocation and free, above the base."""
        for segment in self.segments:
            for _ in range(segment.count):
                yield from segment.events()

    def top(self) -> Top:
        return top_of(self.base, self.segments)


def rank_memory(
    spec: ModelSpec, implementation: Implementation, setup: TrainingSetup, layout: Layout, rank: int = 0
) -> RankMemory | NotPredicted:
    """The peak of one rank in a step after the first. Rank 0 has the highest: no shard is larger than the first."""
    schedule = rank_schedule(spec, implementation, setup, layout, rank)
    if isinstance(schedule, NotPredicted):
        return schedule
    top = schedule.top()
    live = top.live
    peak = RankPeak(
        stack="transformers-fsdp2",
        rank=rank,
        parameters_bytes=live[Category.PARAMETERS],
        gradients_bytes=live[Category.GRADIENTS],
        optimizer_bytes=live[Category.OPTIMIZER],
        activations_bytes=live[Category.ACTIVATIONS] + live[Category.INPUTS],
        temporaries_bytes=live[Category.TEMPORARIES],
        moment=top.moment,
        origin="proven",
    )
    return RankMemory(peak, top.phases, schedule.base)


def rank_schedule(
    spec: ModelSpec,
    implementation: Implementation,
    setup: TrainingSetup,
    layout: Layout,
    rank: int = 0,
    *,
    is_first_step: bool = False,
) -> RankSchedule | NotPredicted:
    """One micro-batch and the optimizer's step, in the first step or in a later one.

    Of several micro-batches it is the last: `setup.is_accumulating` says so, and gradients exist already.

    Raises:
        UsageError: a setup that this implementation does not have.
    """
    if reason := _why_not(layout):
        return NotPredicted(reason)
    _check(setup, layout)
    model = _model(spec, implementation, replace(setup, optimizer="none", is_accumulating=False))
    shards, index = layout.dp_shard, layout.coordinate(rank, "dp_shard")
    groups = {key: group_bytes(shapes, shards, setup, is_mixed=layout.mixed_precision) for key, shapes in model.shapes}
    stored = FP32_BYTES if layout.mixed_precision else setup.itemsize
    states = state_bytes(model.parameters, shards, index, setup, stored)
    copies = copy_bytes(model.parameters, shards, index, setup, stored)
    overlay = Overlay(
        groups,
        reshards=layout.reshard_after_forward,
        is_accumulating=setup.is_accumulating,
        is_replicated=layout.dp_replicate > 1,
    )
    segments = (
        *overlay.segments(model.tape),
        *optimizer_segments(states, copies, setup, is_first=is_first_step),
    )
    base: Counter[Category] = Counter()
    for key, count in model.counts:
        base[Category.PARAMETERS] += groups[key].stored_bytes * count
        if setup.is_accumulating:
            base[Category.GRADIENTS] += groups[key].reduced_bytes * count
    base[Category.PARAMETERS] += sum(setup.rounded(size) * n for _, size, n in model_buffers(spec, stored))
    base[Category.OPTIMIZER] = 0 if is_first_step else states
    base[Category.INPUTS] = 2 * setup.rounded(setup.tokens * ops.INT64)
    if setup.attention_kernel == "eager":
        base[Category.INPUTS] += mask_bytes(setup)
    return RankSchedule(base, segments)


@dataclass(frozen=True, slots=True)
class _Model:
    """What is the same in every layout.

    Attributes:
        tape: forward and backward on one GPU. shapes, counts: the groups of parameters, and how often each is there.
        parameters: all of them.
    """

    tape: tuple[TapeSegment, ...]
    shapes: tuple[tuple[object, tuple[Shape, ...]], ...]
    counts: tuple[tuple[object, int], ...]
    parameters: tuple[tuple[Shape, int], ...]


@lru_cache(maxsize=64)
def _model(spec: ModelSpec, implementation: Implementation, setup: TrainingSetup) -> _Model:
    tape = tuple(tape_segment(segment) for segment in _passes(spec, implementation, setup))
    shapes: dict[object, tuple[Shape, ...]] = {
        EMBEDDING: tuple(embedding_shapes(spec)),
        LOSS: tuple(tail_shapes(spec)),
    }
    counts: Counter[object] = Counter(shapes.keys())
    for run in spec.runs:
        shapes[run.layer] = tuple(layer_shapes(run.layer, spec.hidden_size))
        counts[run.layer] += run.count
    parameters: Counter[Shape] = Counter()
    for key, of_group in shapes.items():
        for shape in of_group:
            parameters[shape] += counts[key]
    return _Model(tape, tuple(shapes.items()), tuple(counts.items()), tuple(parameters.items()))


def _why_not(layout: Layout) -> str | None:
    for axis in ("pp", "cp", "tp", "ep", "etp"):
        if getattr(layout, axis) > 1:
            return f"no memory schedule of a rank with {axis} = {getattr(layout, axis)}"
    if layout.dp_shard == 1:
        return "no memory schedule of a rank without FSDP (dp_shard = 1)"
    return None


def _check(setup: TrainingSetup, layout: Layout) -> None:
    if layout.mixed_precision and setup.precision != "bf16":
        raise UsageError(f"mixed_precision in {setup.precision}: expected bf16, which transformers computes in")
    if setup.has_master_weights:
        raise UsageError("master weights: expected mixed_precision of the layout, which stores parameters in fp32")
