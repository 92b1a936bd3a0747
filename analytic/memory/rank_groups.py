"""The groups of parameters that FSDP2 gathers and reduces together: what each takes on a rank."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from analytic.model.training import TrainingSetup
from analytic.parallelism.parameters import ParameterTensor
from analytic.parallelism.sharding import padded_shard


@dataclass(frozen=True, slots=True)
class GroupBytes:
    """What one group of parameters takes, every size as the allocator rounds it.

    Attributes:
        stored_bytes: the rank's shards, padded to the size of the first. cast_bytes: the same in the type computed
            in, 0 where that is the stored one. gathered_bytes: the output of the all-gather.
        unsharded_bytes: the same, parameter by parameter. reducing_bytes: the input of the reduce-scatter.
        reduced_bytes: its output, which becomes the sharded gradients.
    """

    stored_bytes: int
    cast_bytes: int
    gathered_bytes: int
    unsharded_bytes: int
    reducing_bytes: int
    reduced_bytes: int


def group_bytes(tensors: Iterable[ParameterTensor], ranks: int, setup: TrainingSetup, stored: int) -> GroupBytes:
    """The sizes of a group over so many ranks.

    Args:
        stored: bytes of one stored and reduced element; it is computed with in the setup's type.
    """
    computed, rounded = setup.itemsize, setup.rounded
    shards = [padded_shard(tensor.rows, ranks) * tensor.width for tensor in tensors]
    flat = sum(shards)
    return GroupBytes(
        stored_bytes=sum(rounded(numel * stored) for numel in shards),
        cast_bytes=rounded(flat * computed) if stored != computed else 0,
        gathered_bytes=rounded(ranks * flat * computed),
        unsharded_bytes=sum(rounded(ranks * numel * computed) for numel in shards),
        reducing_bytes=rounded(ranks * flat * stored),
        reduced_bytes=rounded(flat * stored),
    )
