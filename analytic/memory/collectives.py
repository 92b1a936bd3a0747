"""What tensor parallelism adds to the operators of one rank (`transformers.distributed.tensor_parallel`, DTensor).

A functional collective writes its result into a new tensor and lets go of its input once it is waited for.
"""

from __future__ import annotations

from analytic.memory import ops
from analytic.memory.tape import Tape
from analytic.memory.tensors import Flow, Parameter, Tensor


def sum_gradient(t: Tape, x: Tensor, name: str) -> Tensor:
    """x as every rank has it, for a column-wise product: backward adds up what the ranks have of its gradient."""
    return ops.view(x, t.record(f"{name}: all-reduce", [ops.same(x)]))


def sum_gradient_in_place(t: Tape, x: Tensor, name: str, *, copies: bool = False) -> Tensor:
    """The same where the plan writes the sum into the gradient (`_AllReduceBackward`).

    It `copies` one that is part of another's memory first.
    """
    return ops.view(x, t.record(f"{name}: all-reduce", [ops.same(x) if copies else ops.passed(x)]))


def sum_output(t: Tape, x: Tensor, name: str) -> Tensor:
    """The sum of what a row-wise product gives on each rank; backward hands on the gradient as it is."""
    return t.like(x, f"{name}: all-reduce", t.record(f"{name}: all-reduce", [ops.passed(x, is_view=True)]))


def gather_columns(t: Tape, x: Tensor, ranks: int, width: int, name: str) -> Tensor:
    """`width` columns in all: padded to equal parts, gathered one below the other, concatenated, and cut to `width`.

    A single row is in order once it is gathered. Backward copies the rank's own columns out of the gradient.
    """
    node = t.record(f"{name}: gathered", [ops.same(x)])
    part = -(-width // ranks)
    padded = x if x.width == part else t.new(f"{name}: padded", (x.rows, part), x.itemsize)
    gathered = t.new(f"{name}: all-gather", (x.rows * ranks, part), x.itemsize)
    if x.rows > 1:
        gathered = t.new(f"{name}: all columns", (x.rows, part * ranks), x.itemsize)
        if part * ranks > width:
            gathered = t.new(f"{name}: cut to size", (x.rows, width), x.itemsize)
    del padded
    return ops.view(gathered, node, shape=(x.rows, width))


def embedding(t: Tape, weight: Parameter, tokens: int, vocab_size: int) -> Tensor:
    """Rows of a table of which each rank has a part: tokens of other ranks are masked, and the ranks' rows summed.

    The gradient is computed for the whole table; the rank's part of it is a view, which keeps all of it alive.
    """
    name, column = weight.name, (tokens, 1)
    below, above = t.new(f"{name}: ids below", column, 1), t.new(f"{name}: ids above", column, 1)
    outside = t.new(f"{name}: ids of other ranks", column, 1)
    del below, above
    copied = t.new(f"{name}: copy of the ids", column, ops.INT64)
    ids = t.new(f"{name}: ids in this part", column, ops.INT64)
    del copied
    node = t.record(name, [Flow(weight, vocab_size * weight.width * t.itemsize, is_view=True)])
    own = t.new(name, (tokens, weight.width), t.itemsize, node)
    del ids, outside
    return sum_output(t, own, name)
