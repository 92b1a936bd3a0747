"""The operators that only mixtures of experts run: choosing, sorting, grouped products."""

from __future__ import annotations

from analytic.memory import ops
from analytic.memory.tape import Tape
from analytic.memory.tensors import Flow, Parameter, Tensor


def select(t: Tape, x: Tensor, index: Tensor, numel: int, name: str) -> Tensor:
    """Entries of x by index: backward adds into zeros as large as x (`index_backward`, `gather_backward`)."""
    return t.new(name, numel, x.itemsize, t.record(name, [ops.same(x)], saves=[index]))


def topk(t: Tape, x: Tensor, numel: int, name: str) -> tuple[Tensor, Tensor]:
    """The largest entries of each row and where they are."""
    node = t.record(name, [ops.same(x)])
    values = t.new(name, numel, x.itemsize, node)
    indices = t.new(f"{name}: indices", numel, ops.INT64)
    if node is not None:
        t.save(node, indices)
    return values, indices


def normalize_rows(t: Tape, x: Tensor, rows: int, name: str, *, has_epsilon: bool) -> tuple[Tensor, Tensor]:
    """`x /= x.sum(-1, keepdim=True)`, and that sum: in place, so that autograd keeps a copy of x as it was."""
    total = t.new(f"{name}: sum", rows, x.itemsize, t.record(f"{name}: sum", [ops.passed(x, is_view=True)]))
    if has_epsilon:
        total = ops.add_constant(t, total, f"{name}: sum + eps")
    if not t.is_recording:
        return x, total
    size_bytes = x.numel * x.itemsize
    summed_bytes = size_bytes if x.numel > rows else 0
    flows = [
        Flow(total, rows * x.itemsize, unreduced_bytes=summed_bytes, scratch=(size_bytes,) * 3),
        Flow(x, size_bytes),
    ]
    before = t.new(f"{name}: copy for backward", x.numel, x.itemsize)
    return ops.view(x, t.record(name, flows, saves=[before, total])), total


def grouped_mm(t: Tape, x: Tensor, weight: Parameter, offsets: Tensor, numel: int) -> Tensor:
    """Rows sorted by expert, each times its expert's matrix."""
    flows = [Flow(weight, weight.numel * x.itemsize, is_view=True), ops.same(x)]
    return t.new(weight.name, numel, x.itemsize, t.record(weight.name, flows, saves=[x, offsets]))


def sum_experts(t: Tape, x: Tensor, per_token: int, name: str) -> Tensor:
    """[T, k, H] summed over k: backward spreads the gradient over k copies."""
    spread = ops.reshape(t, x, name, copies=per_token > 1)
    node = t.record(name, [ops.passed(spread, is_view=True)])
    return t.new(name, x.numel // per_token, x.itemsize, node)


def linear_in_fp32(t: Tape, x: Tensor, weight: Parameter, rows: int) -> Tensor:
    """A product of fp32 copies of both factors; the weight's gradient is cast back."""
    x32 = ops.cast(t, x, ops.FP32, f"{weight.name}: fp32 copy of the input")
    if t.itemsize == ops.FP32:
        return ops.linear(t, x32, weight, rows, is_folded=False)
    node = t.record(f"{weight.name}: fp32 copy", [Flow(weight, weight.numel * t.itemsize)])
    weight32 = t.new(f"{weight.name}: fp32 copy", weight.numel, ops.FP32, node)
    flows = [Flow(x32, x32.numel * ops.FP32), Flow(weight32, weight.numel * ops.FP32, is_view=True)]
    numel = rows * (weight.numel * rows // x.numel)
    return t.new(weight.name, numel, ops.FP32, t.record(weight.name, flows, saves=[x32, weight32]))


def masked_fill(t: Tape, x: Tensor, mask: Tensor, name: str) -> Tensor:
    """Saves the mask; backward fills the gradient likewise."""
    return t.new(name, x.numel, x.itemsize, t.record(name, [ops.same(x)], saves=[mask]))
