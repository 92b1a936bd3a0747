"""AdamW on the shards of a rank: its states, and what its step allocates.

`torch.optim` makes the states of a parameter when it first meets it, from the part that the rank really has, without
the padding that FSDP2 stores (`torch/optim/adam.py`, `_init_group`, `_multi_tensor_adam`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from analytic.memory.stretch import Piece, RankSegment
from analytic.memory.tensors import Category, Label
from analytic.model.optimizer import cost_of
from analytic.model.training import TrainingSetup
from analytic.parallelism.parameters import ParameterTensor
from analytic.parallelism.sharding import own_shard

OPTIMIZER = "optimizer step"

Parameters = Sequence[tuple[ParameterTensor, int]]  # each with how often the model has it


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


def by_mesh(parameters: Parameters, tp: int) -> Iterator[Parameters]:
    """The groups that AdamW steps one after the other: weights that are split with their biases, then the others.

    With `foreach` it takes DTensors of one mesh at once (torch 2.15, `torch/optim/adam.py`).
    """
    names = {tensor.name for tensor, _ in parameters if tp > 1 and tensor.split is not None}
    is_split = [tensor.name.removesuffix(".bias") in names for tensor, _ in parameters]
    for wanted in (True, False):
        group = tuple(entry for entry, split in zip(parameters, is_split, strict=True) if split is wanted)
        if group:
            yield group


def optimizer_segments(
    states: Iterable[int], copies: Iterable[int], setup: TrainingSetup, *, is_first: bool, rows_bytes: int = 0
) -> Iterator[RankSegment]:
    """The step, group by group: in the first one states are made; temporaries are freed with a group's step.

    Args:
        rows_bytes: of the rank's rows of a table whose gradient is that of the whole table, so that DTensor copies
            them out for each use: one in `_foreach_lerp_`, two in `_foreach_addcmul_`. 0 where there is none.
    """
    names = [Label(name, Category.TEMPORARIES) for name in cost_of(setup.optimizer).copies]
    rows = Label("gradient of the rank's rows", Category.TEMPORARIES)
    uses = (rows_bytes, -rows_bytes, 2 * rows_bytes, -2 * rows_bytes) if names and rows_bytes else ()
    pieces: list[Piece] = []
    for state, copy in zip(states, copies, strict=True):
        if is_first:
            pieces.append((Label("optimizer states", Category.OPTIMIZER), state))
        pieces += [(rows, size) for size in uses]
        pieces += [(label, size) for size in (copy, -copy) for label in names]
        uses = ()
    if pieces:
        yield RankSegment(OPTIMIZER, "", pieces)
