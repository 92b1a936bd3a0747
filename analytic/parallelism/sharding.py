"""What a rank stores of parameters, gradients and optimizer states, as torch's `fully_shard` and DTensor lay them out.

FSDP cuts a tensor's first dimension into equal shards, the last ones shorter or empty. Parameters and gradients are
stored with every shard padded to the first one's size; moments have the shard's own size (`FSDPParam`,
torch 2.15). Tensor parallelism cuts before FSDP does, and expert parallelism in its place for experts.

Bytes are those requested, without the allocator's rounding. Buffers are not parameters and are not here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from analytic.model.breakdown import Breakdown
from analytic.model.optimizer import FP32_BYTES, cost_of
from analytic.model.training import TrainingSetup
from analytic.parallelism.layout import Layout
from analytic.parallelism.parameters import DistributedModel, Group, ParameterTensor


@dataclass(frozen=True, slots=True, kw_only=True)
class RankState:
    """Bytes that one rank holds between steps, by tensor; equal layers are summed.

    Attributes:
        parameters, gradients: padding included, so equal on all ranks of an FSDP group.
        optimizer: states of the rank's own shard, none of an empty one; and fp32 scalars of each tensor.
    """

    parameters: Breakdown
    gradients: Breakdown
    optimizer: Breakdown


class LocalShard(NamedTuple):
    """Elements of one tensor on one rank.

    Attributes:
        padded: stored there. own: without padding. gathered: all shards of the FSDP group, padding included.
    """

    padded: int
    own: int
    gathered: int


def stored_itemsize(setup: TrainingSetup, layout: Layout) -> int:
    """Bytes of one stored and reduced element."""
    return FP32_BYTES if layout.mixed_precision else setup.itemsize


def shards_with_fsdp(layout: Layout) -> bool:
    """Whether `fully_shard` wraps the model: with several data ranks, replicas alone included."""
    return layout.data_ranks > 1


def padded_shard(rows: int, ranks: int) -> int:
    """Rows of the first shard, and of every other with its padding.

    >>> padded_shard(10, 4)
    3
    """
    return -(-rows // ranks)


def own_shard(rows: int, ranks: int, coordinate: int) -> int:
    """Rows of one rank's shard, as `torch.chunk` cuts them.

    >>> [own_shard(10, 4, i) for i in range(4)], [own_shard(3, 4, i) for i in range(4)]
    ([3, 3, 3, 1], [1, 1, 1, 0])
    """
    padded = padded_shard(rows, ranks)
    return max(0, min(padded, rows - coordinate * padded))


def local_shard(tensor: ParameterTensor, layout: Layout, rank: int) -> LocalShard:
    """What one rank has of one tensor."""
    rows, width = tensor.rows, tensor.width
    if tensor.is_expert and layout.ep > 1:
        rows //= layout.ep
        ranks, coordinate = layout.efsdp, layout.coordinate(rank, "efsdp")
    else:
        ranks, coordinate = layout.dp_shard, layout.coordinate(rank, "dp_shard")
        if tensor.split == "rows":
            rows = own_shard(rows, layout.tp, layout.coordinate(rank, "tp"))
        elif tensor.split == "width":
            width //= layout.tp
    padded = padded_shard(rows, ranks) * width
    return LocalShard(padded, own_shard(rows, ranks, coordinate) * width, ranks * padded)


def rank_state(model: DistributedModel, setup: TrainingSetup, layout: Layout, rank: int) -> RankState:
    """What a rank holds, by tensor: `layers.0-31.self_attn.q_proj`.

    A tied table that two groups reduce has two gradients: the first becomes the parameter's, the second is added to
    it, yet stays as part of its group's flat output. Tensor parallelism alone makes the embedding's gradient whole on
    every rank: the parameter's is a view of it (`embedding_dense_backward` on a masked partial DTensor).
    """
    itemsize, optimizer = stored_itemsize(setup, layout), cost_of(setup.optimizer)
    parameters: dict[str, int] = {}
    gradients: dict[str, int] = {}
    states: dict[str, int] = {}
    for group in _groups(model, layout):
        for name, tensor in _named(group):
            shard = local_shard(tensor, layout, rank)
            size = shard.padded * itemsize * group.count
            gradients[name] = size
            if tensor.name == "embed_tokens" and _has_whole_gradient(model, layout):
                gradients[name] = tensor.numel * itemsize
            if not group.is_alias:
                parameters[name] = size
                of_one = optimizer.state_bytes(shard.own, itemsize)
                states |= {f"{name}.{state}": size * group.count for state, size in of_one.items()}
    return RankState(
        parameters=Breakdown("bytes", parameters),
        gradients=Breakdown("bytes", gradients),
        optimizer=Breakdown("bytes", states),
    )


def group_elements(group: Group, layout: Layout, rank: int) -> tuple[int, int]:
    """Padded elements of a group on one rank, and on all ranks that share it."""
    shards = [local_shard(tensor, layout, rank) for tensor in group.tensors]
    return sum(shard.padded for shard in shards), sum(shard.gathered for shard in shards)


def _groups(model: DistributedModel, layout: Layout) -> Iterator[Group]:
    """FSDP's groups; without FSDP a tied table has one gradient only."""
    for group in model.groups(experts_apart=layout.ep > 1):
        if shards_with_fsdp(layout) or not group.is_alias:
            yield group


def _has_whole_gradient(model: DistributedModel, layout: Layout) -> bool:
    """Whether the embedding's gradient is whole: without FSDP, whose reduction copies it, or a head that shares it."""
    return layout.tp > 1 and not shards_with_fsdp(layout) and not model.spec.tie_word_embeddings


def _named(group: Group) -> Iterator[tuple[str, ParameterTensor]]:
    for tensor in group.tensors:
        yield f"{group.prefix}.{tensor.name}" if group.prefix else tensor.name, tensor
