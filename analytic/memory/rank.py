"""Memory of one rank of `transformers` on FSDP2: its schedule of a training step, and the peak.

Proven for FSDP, HSDP and tensor parallelism against a rank of a simulated world, at every rise and fall of live bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from analytic.errors import UsageError
from analytic.memory import ops
from analytic.memory.fsdp_overlay import Overlay, TiedOverlay, without_fsdp
from analytic.memory.implementation import Implementation, NotPredicted
from analytic.memory.local import on_tp_rank
from analytic.memory.model import EMBEDDING
from analytic.memory.rank_groups import GroupBytes, group_bytes
from analytic.memory.rank_model import GroupKey, RankModel, family_of, rank_model
from analytic.memory.rank_optimizer import by_mesh, copy_bytes, optimizer_segments, state_bytes
from analytic.memory.rank_peak import RankPeak
from analytic.memory.static import mask_bytes, model_buffers
from analytic.memory.stretch import Categories, RankSegment, Top, top_of
from analytic.memory.tensors import Category, Event
from analytic.model.spec import ModelSpec
from analytic.model.training import TrainingSetup
from analytic.parallelism.layout import Layout
from analytic.parallelism.parameters import DistributedModel
from analytic.parallelism.sharding import own_shard, padded_shard, shards_with_fsdp, stored_itemsize
from analytic.parallelism.transformers_fsdp2 import check


@dataclass(frozen=True, slots=True)
class RankMemory:
    """What a training step needs on one rank, in bytes.

    Attributes:
        peak: the highest moment of the step. phases: the highest total in each phase.
        base: live before the step, by category.
    """

    peak: RankPeak
    phases: Mapping[str, int]
    base: Categories


@dataclass(frozen=True, slots=True)
class RankSchedule:
    """The schedule of one rank's step.

    Attributes:
        base: live before it, by category.
        first, later: forward and backward of the first micro-batch, and of each of the `repeats` after it.
        optimizer: its step.
    """

    base: Categories
    first: tuple[RankSegment, ...]
    later: tuple[RankSegment, ...]
    repeats: int
    optimizer: tuple[RankSegment, ...]

    def events(self) -> Iterator[Event]:
        """Every allocation and free, above the base, in program order."""
        for segments in (self.first, *[self.later] * self.repeats, self.optimizer):
            for segment in segments:
                for _ in range(segment.count):
                    yield from segment.events()

    def top(self) -> Top:
        """The highest moment. Later micro-batches are alike."""
        return top_of(self.base, (*self.first, *(self.later if self.repeats else ()), *self.optimizer))


def rank_memory(
    spec: ModelSpec, implementation: Implementation, setup: TrainingSetup, layout: Layout, rank: int | None = None
) -> RankMemory | NotPredicted:
    """The peak of one rank, or of the one with the highest, in a step after the first.

    Raises:
        UsageError: a layout or a setup that this implementation does not have, or a rank outside the world.
    """
    if rank is None:
        ranks = _candidates(spec, layout)
        memories = [rank_memory(spec, implementation, setup, layout, one) for one in ranks]
        known = [memory for memory in memories if isinstance(memory, RankMemory)]
        return max(known, key=lambda memory: memory.peak.peak_bytes, default=memories[0])
    schedule = rank_schedule(spec, implementation, setup, layout, rank)
    if isinstance(schedule, NotPredicted):
        return schedule
    top = schedule.top()
    live = top.live
    peak = RankPeak(
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
    rank: int,
    *,
    is_first_step: bool = False,
) -> RankSchedule | NotPredicted:
    """A training step, after FSDP2 has initialized itself; in the first one the optimizer makes its states.

    Raises:
        UsageError: a layout or a setup that this implementation does not have, or a rank outside the world.
    """
    check(DistributedModel(spec, family_of(implementation)), setup, layout)
    if setup.is_accumulating:
        raise UsageError("gradients from before the step: expected micro_batches of the layout to accumulate them")
    if reason := _why_not(layout):
        return NotPredicted(reason)
    if layout.tp > 1:
        spec, implementation = on_tp_rank(spec, implementation, layout.tp, layout.coordinate(rank, "tp"))
    is_sharded, is_mixed, once = shards_with_fsdp(layout), layout.mixed_precision, replace(setup, optimizer="none")
    model = rank_model(spec, implementation, once, is_sharded=is_sharded, is_mixed=is_mixed)
    shards, index = layout.dp_shard, layout.coordinate(rank, "dp_shard")
    stored = stored_itemsize(setup, layout)
    groups = {key: group_bytes(tensors, shards, setup, stored) for key, tensors, _ in model.groups}
    meshes = tuple(by_mesh(model.parameters, layout.tp))
    states = [state_bytes(parameters, shards, index, setup, stored) for parameters in meshes]
    copies = [copy_bytes(parameters, shards, index, setup, stored) for parameters in meshes]
    base = _base(spec, setup, model, groups, stored)
    if is_sharded and _has_second_table(spec, shards, index):
        base[Category.PARAMETERS] += groups[EMBEDDING].stored_bytes
    if not is_first_step:
        base[Category.OPTIMIZER] = sum(states)
    rows_bytes = setup.rounded(spec.vocab_size * spec.hidden_size * setup.itemsize) if layout.tp > 1 else 0

    def passes(is_accumulating: bool) -> tuple[RankSegment, ...]:
        if not is_sharded:
            plain = replace(once, is_accumulating=is_accumulating)
            return tuple(without_fsdp(rank_model(spec, implementation, plain, is_sharded=False, is_mixed=False).tape))
        kind = TiedOverlay if spec.tie_word_embeddings else Overlay
        overlay = kind(groups, layout, is_accumulating=is_accumulating, rows_bytes=rows_bytes)
        return tuple(overlay.segments(model.tape))

    return RankSchedule(
        base=base,
        first=passes(False),
        later=passes(True) if layout.micro_batches > 1 else (),
        repeats=layout.micro_batches - 1,
        optimizer=tuple(
            optimizer_segments(
                states,
                copies,
                setup,
                is_first=is_first_step,
                rows_bytes=0 if is_sharded or spec.tie_word_embeddings else rows_bytes,
            )
        ),
    )


def _base(
    spec: ModelSpec, setup: TrainingSetup, model: RankModel, groups: Mapping[GroupKey, GroupBytes], stored: int
) -> Counter[Category]:
    """What is live before a step, without the optimizer's states."""
    base: Counter[Category] = Counter()
    for key, _, count in model.groups:
        if not (key == EMBEDDING and spec.tie_word_embeddings):
            base[Category.PARAMETERS] += groups[key].stored_bytes * count
    base[Category.INPUTS] = 2 * setup.rounded(setup.tokens * ops.INT64)
    base[Category.INPUTS] += sum(setup.rounded(size) * count for _, size, count in model_buffers(spec, stored))
    if setup.attention_kernel == "eager":
        base[Category.INPUTS] += mask_bytes(setup)
    return base


def _has_second_table(spec: ModelSpec, shards: int, index: int) -> bool:
    """Whether a rank stores a tied table twice.

    FSDP2 pads the tied parameter anew for each of the two groups that it is in, where the rank's shard is smaller than
    the first (torch 2.15, `FSDPParam.reset_sharded_param`). The head's copy is then never updated.
    """
    return spec.tie_word_embeddings and own_shard(spec.vocab_size, shards, index) < padded_shard(
        spec.vocab_size, shards
    )


def _candidates(spec: ModelSpec, layout: Layout) -> Iterator[int]:
    """Ranks that one of is the highest: the first, whose shards are the largest, and the first with a second table.

    Of the parts of the vocabulary that tensor parallelism makes, the last one alone may be smaller.
    """
    yield 0
    if not spec.tie_word_embeddings:
        return
    for coordinate in {0, layout.tp - 1}:
        vocab_size = own_shard(spec.vocab_size, layout.tp, coordinate)
        shorter = vocab_size // padded_shard(vocab_size, layout.dp_shard) if vocab_size else layout.dp_shard
        if shorter < layout.dp_shard:
            yield shorter * layout.tp + coordinate


def _why_not(layout: Layout) -> str | None:
    if layout.ep > 1:
        return f"no memory schedule of a rank with ep = {layout.ep}"
    if layout.dp_shard == 1 and (layout.tp == 1 or shards_with_fsdp(layout)):
        return "no memory schedule of a rank with dp_shard = 1"
    return None
