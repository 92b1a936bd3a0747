"""The operators that only mixtures of experts run: choosing, sorting, grouped products."""

from __future__ import annotations

from analytic.memory import ops
from analytic.memory.tape import Tape
from analytic.memory.tensors import Flow, Parameter, Shape, Tensor


def select(t: Tape, x: Tensor, index: Tensor, shape: Shape, name: str) -> Tensor:
    """Entries of x by index: backward adds into zeros as large as x (`index_backward`, `gather_backward`)."""
    return t.new(name, shape, x.itemsize, t.record(name, [ops.same(x)], saves=[index]))


def topk(t: Tape, x: Tensor, k: int, name: str) -> tuple[Tensor, Tensor]:
    """The largest entries of each row and where they are."""
    node = t.record(name, [ops.same(x)])
    values = t.new(name, (x.rows, k), x.itemsize, node)
    indices = t.new(f"{name}: indices", (x.rows, k), ops.INT64)
    if node is not None:
        t.save(node, indices)
    return values, indices


def normalize_rows(t: Tape, x: Tensor, name: str, *, has_epsilon: bool) -> tuple[Tensor, Tensor]:
    """`x /= x.sum(-1, keepdim=True)`, and that sum: in place, so that autograd keeps a copy of x as it was."""
    node = t.record(f"{name}: sum", [ops.passed(x, is_view=True)])
    total = t.new(f"{name}: sum", (x.rows, 1), x.itemsize, node)
    if has_epsilon:
        total = ops.add_constant(t, total, f"{name}: sum + eps")
    if not t.is_recording:
        return x, total
    size_bytes = x.size_bytes
    summed_bytes = size_bytes if x.width > 1 else 0
    flows = [
        Flow(total, total.size_bytes, unreduced_bytes=summed_bytes, scratch=(size_bytes,) * 3),
        Flow(x, size_bytes),
    ]
    before = t.like(x, f"{name}: copy for backward")
    return ops.view(x, t.record(name, flows, saves=[before, total])), total


def grouped_mm(t: Tape, x: Tensor, weight: Parameter, offsets: Tensor, width: int) -> Tensor:
    """Rows sorted by expert, each times its expert's matrix, to rows of `width`."""
    flows = [Flow(weight, weight.numel * x.itemsize, is_view=True), ops.same(x)]
    return t.new(weight.name, (x.rows, width), x.itemsize, t.record(weight.name, flows, saves=[x, offsets]))


def sum_experts(t: Tape, x: Tensor, per_token: int, name: str) -> Tensor:
    """[T, k, H] summed over k: backward spreads the gradient over k copies."""
    spread = ops.reshape(t, x, name, copies=per_token > 1)
    node = t.record(name, [ops.passed(spread, is_view=True)])
    return t.new(name, (x.rows // per_token, x.width), x.itemsize, node)


def linear_in_fp32(t: Tape, x: Tensor, weight: Parameter) -> Tensor:
    """A product of fp32 copies of both factors; the weight's gradient is cast back."""
    x32 = ops.cast(t, x, ops.FP32, f"{weight.name}: fp32 copy of the input")
    if t.itemsize == ops.FP32:
        return ops.linear(t, x32, weight, is_folded=False)
    node = t.record(f"{weight.name}: fp32 copy", [Flow(weight, weight.numel * t.itemsize)])
    weight32 = t.new(f"{weight.name}: fp32 copy", (weight.out, weight.width), ops.FP32, node)
    flows = [Flow(x32, x32.size_bytes), Flow(weight32, weight32.size_bytes, is_view=True)]
    return t.new(weight.name, (x.rows, weight.out), ops.FP32, t.record(weight.name, flows, saves=[x32, weight32]))


def masked_fill(t: Tape, x: Tensor, mask: Tensor, name: str) -> Tensor:
    """Saves the mask; backward fills the gradient likewise."""
    return t.like(x, name, t.record(name, [ops.same(x)], saves=[mask]))
