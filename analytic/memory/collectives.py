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


def sum_output(t: Tape, x: Tensor, name: str) -> Tensor:
    """The sum of what a row-wise product gives on each rank; backward hands on the gradient as it is."""
    return t.like(x, f"{name}: all-reduce", t.record(f"{name}: all-reduce", [ops.passed(x, is_view=True)]))


def gather_columns(t: Tape, x: Tensor, ranks: int, name: str) -> Tensor:
    """Every rank's columns side by side: gathered one below the other, then concatenated.

    Backward copies the rank's own columns out of the gradient.
    """
    node = t.record(f"{name}: gathered", [Flow(x, x.size_bytes, is_view=True)])
    gathered = t.new(f"{name}: all-gather", (x.rows * ranks, x.width), x.itemsize)
    out = t.new(f"{name}: gathered", (x.rows, x.width * ranks), x.itemsize, node)
    del gathered
    return out


def embedding(t: Tape, weight: Parameter, rows: int, ranks: int) -> Tensor:
    """Rows of a table that is cut by vocabulary: tokens of other ranks are masked, and the ranks' rows summed.

    The gradient is computed for the whole table; the rank's part of it is a view, which keeps all of it alive.
    """
    name = weight.name
    below, above = t.new(f"{name}: ids below", (rows, 1), 1), t.new(f"{name}: ids above", (rows, 1), 1)
    outside = t.new(f"{name}: ids of other ranks", (rows, 1), 1)
    del below, above
    shifted = t.new(f"{name}: shifted ids", (rows, 1), ops.INT64)
    ids = t.new(f"{name}: local ids", (rows, 1), ops.INT64)
    del shifted
    node = t.record(name, [Flow(weight, weight.numel * ranks * t.itemsize, is_view=True)])
    own = t.new(name, (rows, weight.width), t.itemsize, node)
    del ids, outside
    return sum_output(t, own, name)
