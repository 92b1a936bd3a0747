"""What FSDP2 adds to a schedule, in program order: gathered parameters, casts, inputs and outputs of reductions.

The order is that of torch 2.15, `torch/distributed/fsdp/_fully_shard`: `_fsdp_param_group.py` (`unshard`,
`wait_for_unshard`, `post_backward`), `_fsdp_collectives.py` (`foreach_all_gather`, `foreach_reduce`), `_fsdp_state.py`
(the hooks). FSDP2 orders its streams by events and frees by dropping references, so that program order is the order
in which bytes are requested, whatever the device. What the allocator reserves for several streams is not in it.

Forward: a group is gathered as it begins; the output of its all-gather is kept until the next group is gathered. When
it ends, its parameters are freed, unless they are kept for backward. Backward: while a group runs, the one before it
is gathered already (prefetched). When it ends, its gradients are copied into the input of a reduce-scatter, which is
kept until the next reduction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from analytic.memory.model import BACKWARD, EMBEDDING, FORWARD, LOSS
from analytic.memory.rank_groups import GroupBytes
from analytic.memory.step import Segment
from analytic.memory.stretch import Piece, RankSegment, Stretch, stretch_of
from analytic.memory.tensors import Category, Event, Label
from analytic.parallelism.layout import Layout

_CAST = Label("FSDP: shards in the type computed in", Category.TEMPORARIES)
_GATHERED = Label("FSDP: all-gather output", Category.TEMPORARIES)
_UNSHARDED = Label("FSDP: unsharded parameters", Category.TEMPORARIES)
_REDUCING = Label("FSDP: reduce-scatter input", Category.TEMPORARIES)
_REDUCED = Label("FSDP: sharded gradients", Category.GRADIENTS)
_ROWS = Label("FSDP: gradient of the rank's rows", Category.TEMPORARIES)
_ADDED = Label("FSDP: sharded gradients to be added", Category.TEMPORARIES)

# autograd lets go of these after the callback in which FSDP2 ends backward
_HELD_TO_THE_END = ("gradient of the output", "loss")


@dataclass(frozen=True, slots=True)
class TapeSegment:
    """A segment of the single GPU's schedule, cut where FSDP2 acts within it.

    Attributes:
        before, after: what comes before that point, and after it. frees_gradients: those of whole parameters that the
            segment has made, given back.
    """

    segment: Segment
    before: Stretch
    after: Stretch
    frees_gradients: Stretch


def tape_segment(segment: Segment, last_module: str) -> TapeSegment:
    """Cut a segment.

    FSDP2's hook on the embedding's output comes before positions and rotary tables. In backward its hook on the
    output of `last_module`, the last one of the last group, comes when that output's gradient is there: when the
    module's own gradients begin.
    """
    events = segment.events
    match segment.phase, segment.region:
        case "forward", "embedding":
            cut = next(i for i, (label, _) in enumerate(events) if label.name == "arange")  # the first of positions
        case "backward", "loss":
            cut = next(i for i, (label, size) in enumerate(events) if size > 0 and label.name.startswith(last_module))
        case "backward", "embedding":
            cut = next(i for i, (label, _) in enumerate(events) if label.name in _HELD_TO_THE_END)
        case _:
            cut = len(events)
    made: dict[Label, int] = {}
    for label, size_bytes in events:
        if segment.phase == BACKWARD and label.category is Category.GRADIENTS:
            made[label] = made.get(label, 0) + size_bytes
    freed = [(label, -size_bytes) for label, size_bytes in made.items()]
    return TapeSegment(segment, stretch_of(events[:cut]), stretch_of(events[cut:]), stretch_of(freed))


def without_fsdp(tape: Sequence[TapeSegment]) -> Iterator[RankSegment]:
    """The schedule of a rank whose parameters and gradients are its own."""
    for part in tape:
        segment = part.segment
        yield RankSegment(segment.phase, segment.region, [part.before, part.after], segment.first, segment.count)


class Overlay:
    """FSDP2 around the segments of one forward and backward pass.

    Args:
        groups: by kind of layer, and by region for the first and the last.
        is_accumulating: sharded gradients exist already, and the new ones are added to them. Under HSDP they are held
            until the end of backward, as inputs of an all-reduce.
        rows_bytes: under tensor parallelism, the rank's rows of the embedding, which are copied out of the gradient of
            the whole table before they are reduced; otherwise 0.
    """

    def __init__(
        self, groups: Mapping[object, GroupBytes], layout: Layout, *, is_accumulating: bool, rows_bytes: int = 0
    ) -> None:
        self.groups = groups
        self.reshards = layout.reshard_after_forward
        self.is_accumulating = is_accumulating
        self.rows_bytes = rows_bytes
        self.is_replicated = layout.dp_replicate > 1
        self._gathered = 0
        self._reducing = 0
        self._all_reduced = 0

    def segments(self, tape: Sequence[TapeSegment]) -> Iterator[RankSegment]:
        """The schedule of the rank."""
        for i, part in enumerate(tape):
            segment = part.segment
            is_last = i == len(tape) - 1
            if segment.phase == FORWARD:
                pieces = self.forward(part)
            else:
                pieces = self.backward(part, None if is_last else self.group(tape[i + 1].segment))
            yield RankSegment(segment.phase, segment.region, pieces, segment.first, segment.count)

    def group(self, segment: Segment) -> GroupBytes:
        return self.groups[segment.layer or segment.region]

    def forward(self, part: TapeSegment) -> list[Piece]:
        segment, group = part.segment, self.group(part.segment)
        is_tail = segment.region == LOSS
        pieces: list[Piece] = [*self.gather(group), (_GATHERED, -self._gathered), (_UNSHARDED, group.unsharded_bytes)]
        pieces.append(part.before)
        if self.reshards and not is_tail:
            pieces.append((_UNSHARDED, -group.unsharded_bytes))
        pieces.append(part.after)
        self._gathered = group.gathered_bytes
        if is_tail:
            pieces.append((_GATHERED, -group.gathered_bytes))
        return pieces

    def backward(self, part: TapeSegment, following: GroupBytes | None) -> list[Piece]:
        """`following`: the group that backward comes to next."""
        segment, group = part.segment, self.group(part.segment)
        prefetched = [] if following is None else self.prefetch(following)
        if segment.region == LOSS:
            return [part.before, *prefetched, part.after, *self.reduce(group, [part.frees_gradients])]
        pieces: list[Piece] = [*self.unshard_again(group), *prefetched, part.before]
        if segment.region == EMBEDDING:
            return [*pieces, *self.reduce_table(group, [part.frees_gradients], []), *self.end(), part.after]
        return [*pieces, *self.reduce(group, [part.frees_gradients], segment.count)]

    def reduce_table(self, group: GroupBytes, frees_table: Sequence[Piece], frees_rest: Sequence[Piece]) -> list[Piece]:
        """The same for the group of the embedding, given what frees its gradient and the group's other ones."""
        if not self.rows_bytes:
            return self.reduce(group, [*frees_table, *frees_rest])
        rows: Piece = (_ROWS, -self.rows_bytes)
        return [(_ROWS, self.rows_bytes), *frees_table, *self.reduce(group, [*frees_rest, rows])]

    def end(self) -> list[Event]:
        """`_end_backward_iteration`"""
        return [(_ADDED, -self._all_reduced), (_REDUCING, -self._reducing)]

    def gather(self, group: GroupBytes) -> list[Event]:
        """`foreach_all_gather`"""
        return [(_CAST, group.cast_bytes), (_GATHERED, group.gathered_bytes), (_CAST, -group.cast_bytes)]

    def prefetch(self, group: GroupBytes) -> list[Event]:
        """`_backward_prefetch`"""
        return self.gather(group) if self.reshards else []

    def unshard_again(self, group: GroupBytes) -> list[Event]:
        """`wait_for_unshard` in backward, where the output of the all-gather goes at once."""
        return [(_UNSHARDED, group.unsharded_bytes), (_GATHERED, -group.gathered_bytes)] if self.reshards else []

    def reduce(self, group: GroupBytes, frees_gradients: Sequence[Piece], count: int = 1) -> list[Piece]:
        """`post_backward`, which happens `count` times alike."""
        pieces: list[Piece] = [
            (_UNSHARDED, -group.unsharded_bytes),
            (_REDUCING, -self._reducing),
            (_REDUCING, group.reducing_bytes),
            *frees_gradients,
        ]
        self._reducing = group.reducing_bytes
        if not self.is_accumulating:
            return [*pieces, (_REDUCED, group.reduced_bytes)]
        pieces.append((_ADDED, group.reduced_bytes))
        if self.is_replicated:
            self._all_reduced += group.reduced_bytes * count
        else:
            pieces.append((_ADDED, -group.reduced_bytes))
        return pieces


class TiedOverlay(Overlay):
    """The same where the head's table is the embedding's.

    transformers distributes the model before it ties the two (`from_pretrained`): the head's table is the only
    parameter of the root's group, which is the group of region `embedding` here. The embedding itself is in one group
    with the final norm. Both groups are gathered at the beginning, kept for backward, and reduced in the callback that
    ends it, the root's first. The schedule of the single GPU is that of two tables.
    """

    def forward(self, part: TapeSegment) -> list[Piece]:
        match part.segment.region:
            case "embedding":
                root, tail = self.groups[EMBEDDING], self.groups[LOSS]
                self._gathered = tail.gathered_bytes
                gathered = [*self.gather(root), (_UNSHARDED, root.unsharded_bytes), *self.gather(tail)]
                freed = [(_GATHERED, -root.gathered_bytes), (_UNSHARDED, tail.unsharded_bytes)]
                return [*gathered, *freed, part.before, part.after]
            case "loss":
                return [part.before, part.after, (_GATHERED, -self._gathered)]
            case _:
                return super().forward(part)

    def backward(self, part: TapeSegment, following: GroupBytes | None) -> list[Piece]:
        root, tail = self.groups[EMBEDDING], self.groups[LOSS]
        match part.segment.region:
            case "loss":
                assert following is not None
                self._frees = list(part.frees_gradients.events)
                return [part.before, *self.prefetch(following), part.after]
            case "embedding":
                frees = [*self._frees, *part.frees_gradients.events]
                of_head = [event for event in frees if event[0].name == "lm_head.grad"]
                of_table = [event for event in frees if event[0].name == "embed_tokens.grad"]
                of_norm = [event for event in frees if event[0].name == "norm.grad"]
                reduced = [*self.reduce(root, of_head), *self.reduce_table(tail, of_table, of_norm)]
                return [part.before, *reduced, *self.end(), part.after]
            case _:
                return super().backward(part, following)

    def prefetch(self, group: GroupBytes) -> list[Event]:
        """Nothing before the first layer: the root's group comes last in forward."""
        return [] if group is self.groups[EMBEDDING] else super().prefetch(group)
