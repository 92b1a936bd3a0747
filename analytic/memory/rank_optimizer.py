"""AdamW on the shards of a rank: its states, and what its step allocates.

`torch.optim` makes the states of a parameter when it first meets it, from the part that the rank really has, without
the padding that FSDP2 stores (`torch/optim/adam.py`, `_init_group`, `_multi_tensor_adam`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from analytic.memory.stretch import Piece, RankSegment
from analytic.memory.tensors import Category, Label
from analytic.model.optimizer import cost_of
from analytic.model.training import TrainingSetup
from analytic.parallelism.parameters import ParameterTensor
from analytic.parallelism.sharding import own_shard

OPTIMIZER = "optimizer step"

Parameters = Iterable[tuple[ParameterTensor, int]]  # each with how often the model has it


def state_bytes(parameters: Parameters, ranks: int, index: int, setup: TrainingSetup, itemsize: int) -> int:
    """What AdamW keeps on the device, from its first step on."""
    cost, total = cost_of(setup.optimizer), 0
    for tensor, count in parameters:
        numel = own_shard(tensor.rows, ranks, index) * tensor.width
        total += count * sum(setup.rounded(size) for size in cost.state_bytes(numel, itemsize).values())
    return total


def copy_bytes(parameters: Parameters, ranks: int, index: int, setup: TrainingSetup, itemsize: int) -> int:
    """One temporary of the step, of all parameters at once."""
    sizes = ((own_shard(tensor.rows, ranks, index) * tensor.width * itemsize, count) for tensor, count in parameters)
    return sum(setup.rounded(size) * count for size, count in sizes)


def optimizer_segments(states: int, copies: int, setup: TrainingSetup, *, is_first: bool) -> Iterator[RankSegment]:
    """The step: in the first one its states are made; its temporaries are freed when it returns."""
    pieces: list[Piece] = [(Label("optimizer states", Category.OPTIMIZER), states)] if is_first else []
    names = [Label(name, Category.TEMPORARIES) for name in cost_of(setup.optimizer).copies]
    pieces += [(label, size) for size in (copies, -copies) for label in names]
    if pieces:
        yield RankSegment(OPTIMIZER, "", pieces)
