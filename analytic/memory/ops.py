"""The operators that a decoder model runs: what each allocates, saves for backward, and allocates there.

Each is named after the torch operator and follows `tools/autograd/derivatives.yaml` for what is saved and
`csrc/autograd/FunctionsManual.cpp` for what backward allocates. A view allocates nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from analytic.memory.tape import Tape
from analytic.memory.tensors import Flow, Node, Parameter, Shape, Tensor

FP32 = 4
INT64 = 8


def view(x: Tensor, node: Node | None, *, index: int = 0, shape: Shape | None = None) -> Tensor:
    """The same storage under another node."""
    rows, width = shape or (x.rows, x.width)
    return Tensor(x.storage, rows, width, x.itemsize, node, index)


def same(x: Tensor) -> Flow:
    """A gradient of x that is newly allocated."""
    return Flow(x, x.size_bytes)


def passed(x: Tensor, *, is_view: bool = False) -> Flow:
    """A gradient of x that is the incoming one."""
    return Flow(x, x.size_bytes, fresh=False, is_view=is_view)


def cast(t: Tape, x: Tensor, itemsize: int, name: str) -> Tensor:
    """`Tensor.to(dtype)`: nothing where the type is already that."""
    if x.itemsize == itemsize:
        return x
    node = t.record(name, [same(x)])
    return t.new(name, (x.rows, x.width), itemsize, node)


def pow2(t: Tape, x: Tensor, name: str) -> Tensor:
    """`x.pow(2)`: backward is grad * (2 * x.pow(1)), where both factors are allocated (`pow_backward`)."""
    size_bytes = x.size_bytes
    return t.like(x, name, t.record(name, [Flow(x, size_bytes, scratch=(size_bytes, size_bytes))], saves=[x]))


def mean(t: Tape, x: Tensor, name: str) -> Tensor:
    """`x.mean(-1, keepdim=True)`: backward divides an expanded view (`mean_backward`)."""
    return t.new(name, (x.rows, 1), x.itemsize, t.record(name, [same(x)]))


def add_constant(t: Tape, x: Tensor, name: str) -> Tensor:
    """x + c, with c a number or a mask."""
    return t.like(x, name, t.record(name, [passed(x)]))


def rsqrt(t: Tape, x: Tensor, name: str) -> Tensor:
    """Saves its result; backward is -0.5 * grad * result.pow(3)."""
    size_bytes = x.size_bytes
    node = t.record(name, [Flow(x, size_bytes, scratch=(size_bytes, size_bytes))])
    return saving_result(t, t.like(x, name, node), node)


def saving_result(t: Tape, out: Tensor, node: Node | None) -> Tensor:
    if node is not None:
        t.save(node, out)
    return out


def mul(t: Tape, a: Tensor, b: Tensor, name: str) -> Tensor:
    """a * b in the wider type, where b may have one element a row: gradients are products as large as a first."""
    shape, itemsize = (a.rows, a.width), max(a.itemsize, b.itemsize)
    flows = [_reduced(x, a.rows * a.width * itemsize) for x in (a, b)]
    return t.new(name, shape, itemsize, t.record(name, flows, saves=[a, b]))


def _reduced(x: Tensor, unreduced_bytes: int) -> Flow:
    """A gradient computed in as many bytes or more than x has, then summed or cast."""
    size_bytes = x.size_bytes
    return Flow(x, size_bytes, unreduced_bytes=0 if unreduced_bytes == size_bytes else unreduced_bytes)


def scale(t: Tape, weight: Parameter, x: Tensor, name: str) -> Tensor:
    """weight * x with one weight a column: its gradient is summed from a product as large as x."""
    size_bytes = x.size_bytes
    flows = [Flow(weight, weight.numel * x.itemsize, unreduced_bytes=size_bytes), Flow(x, size_bytes)]
    return t.like(x, name, t.record(name, flows, saves=[x]))


def mul_constant(t: Tape, x: Tensor, name: str, tables: Sequence[Tensor] = ()) -> Tensor:
    """x * c, with c a number, or a table without gradient, which is saved."""
    return t.like(x, name, t.record(name, [same(x)], saves=tables))


def add(t: Tape, a: Tensor, b: Tensor, name: str) -> Tensor:
    """Both summands get the incoming gradient itself."""
    return t.like(a, name, t.record(name, [passed(a), passed(b)]))


def sub(t: Tape, a: Tensor, b: Tensor, name: str) -> Tensor:
    return t.like(a, name, t.record(name, [passed(a), same(b)]))


def silu(t: Tape, x: Tensor, name: str) -> Tensor:
    return t.like(x, name, t.record(name, [same(x)], saves=[x]))


def neg(t: Tape, x: Tensor, name: str) -> Tensor:
    return t.like(x, name, t.record(name, [same(x)]))


def half(t: Tape, x: Tensor, name: str) -> Tensor:
    """Every other feature of x, or the first or last of them, a view: backward makes zeros as large as x.

    That is `slice_backward`.
    """
    return view(x, t.record(name, [same(x)]), shape=(x.rows, x.width // 2))


def split(t: Tape, x: Tensor, widths: Sequence[int], name: str) -> list[Tensor]:
    """Parts of x, views of one node: backward concatenates their gradients (`split_with_sizes_backward`)."""
    node = t.record(name, [same(x)], num_outputs=len(widths))
    return [view(x, node, index=index, shape=(x.rows, width)) for index, width in enumerate(widths)]


def cat(t: Tape, parts: Sequence[Tensor], name: str) -> Tensor:
    """Backward hands on parts of the incoming gradient."""
    node = t.record(name, [passed(part, is_view=True) for part in parts])
    return t.new(name, (parts[0].rows, sum(part.width for part in parts)), parts[0].itemsize, node)


def clone(t: Tape, x: Tensor, name: str) -> Tensor:
    """A copy in another memory layout."""
    return t.like(x, name, t.record(name, [passed(x)]))


def linear(
    t: Tape, x: Tensor, weight: Parameter, *, bias: Parameter | None = None, is_folded: bool = True, name: str = ""
) -> Tensor:
    """x W^T + b. `is_folded`: x has batch and sequence dimensions, seen by the product as rows of one matrix.

    Its gradient is then a view, as is that of the weight, which the product takes transposed.
    """
    name, shape = name or weight.name, (x.rows, weight.out)
    flows = [Flow(x, x.size_bytes, is_view=is_folded), Flow(weight, weight.numel * x.itemsize, is_view=True)]
    if bias is not None:  # `addmm`, which transposes the weight last, so that its gradient is done with first
        out_bytes = x.rows * weight.out * t.itemsize
        flows = [Flow(bias, bias.numel * t.itemsize, fresh=False, unreduced_bytes=out_bytes), *flows[::-1]]
    return t.new(name, shape, x.itemsize, t.record(name, flows, saves=[x]))


def mul_complex(t: Tape, x: Tensor, table_bytes: int, name: str, tables: Sequence[Tensor]) -> Tensor:
    """fp32 pairs as complex numbers, times a table: backward first makes the table's conjugate."""
    return t.like(x, name, t.record(name, [Flow(x, x.size_bytes, scratch=(table_bytes,))], saves=tables))


def reshape(t: Tape, x: Tensor, name: str, *, heads: int = 1, copies: bool = False) -> Tensor:
    """A view in another shape, such as each row as rows of `heads`.

    Its gradient is one, too, unless it `copies` one that comes in another layout.
    """
    node = t.record(name, [same(x) if copies else passed(x, is_view=True)])
    return view(x, node, shape=(x.rows * heads, x.width // heads))


def repeat_heads(t: Tape, x: Tensor, groups: int, name: str, *, is_single: bool) -> Tensor:
    """`repeat_kv`: every head `groups` times, a view where there is one; backward sums over them."""
    if groups == 1:
        return x
    node, shape = t.record(name, [same(x)]), (x.rows * groups, x.width)
    return view(x, node, shape=shape) if is_single else t.new(name, shape, x.itemsize, node)


def attention_kernel(
    t: Tape,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    shape: Shape,
    state_bytes: Sequence[int],
    inside_bytes: Sequence[int],
    name: str,
) -> Tensor:
    """One fused operator: its output, and the row statistics and random state that backward wants.

    `inside_bytes` are live in its backward together with all three gradients.
    """
    flows = [same(q), same(k), Flow(v, v.size_bytes, scratch=inside_bytes)]
    node = t.record(name, flows, saves=[q, k, v])
    out = t.new(f"{name}: output", shape, q.itemsize, node)
    state = [t.new(f"{name}: state", (1, size_bytes), 1) for size_bytes in state_bytes]
    if node is not None:
        for tensor in (out, *state):
            t.save(node, tensor)
    return out


def bmm(t: Tape, a: Tensor, b: Tensor, shape: Shape, name: str) -> Tensor:
    """Batched product; its gradients reach both factors through views."""
    flows = [Flow(x, x.size_bytes, is_view=True) for x in (a, b)]
    return t.new(name, shape, a.itemsize, t.record(name, flows, saves=[a, b]))


def softmax(t: Tape, x: Tensor, name: str, *, is_fused: bool = False) -> Tensor:
    """Softmax in fp32. `is_fused`: CUDA reads fp16 without making an fp32 copy first (`half_to_float`)."""
    x = x if is_fused else cast(t, x, FP32, f"{name}: fp32 copy")
    node = t.record(name, [same(x)])
    return saving_result(t, t.new(name, (x.rows, x.width), FP32, node), node)


def sigmoid(t: Tape, x: Tensor, name: str) -> Tensor:
    node = t.record(name, [same(x)])
    return saving_result(t, t.like(x, name, node), node)


def expand_heads(t: Tape, x: Tensor, heads: int, name: str) -> Tensor:
    """One head seen as many: backward sums over them."""
    flow = same(x) if heads > 1 else passed(x)
    return view(x, t.record(name, [flow]), shape=(x.rows * heads, x.width))


def write_parts(t: Tape, first: Tensor, second: Tensor, name: str) -> Tensor:
    """Two parts copied into an empty tensor (`CopySlices`, `csrc/autograd/functions/tensor.cpp`).

    Backward copies the whole gradient and the part written, for each part; for all but the first it
    also makes zeros in place of the part.
    """
    out = t.new(name, (first.rows, first.width + second.width), first.itemsize)
    flow = Flow(first, first.size_bytes, scratch=(out.size_bytes,))
    base = view(out, t.record(f"{name}: first part written", [flow]))
    flows = [same(base), Flow(second, second.size_bytes, scratch=(second.size_bytes,))]
    return view(out, t.record(f"{name}: second part written", flows))


def nll_loss(t: Tape, x: Tensor, labels: Tensor, name: str) -> Tensor:
    """The loss, a scalar; it saves its input, the labels and the number of tokens that count."""
    node = t.record(name, [same(x)], saves=[x, labels])
    loss = t.new(name, (1, 1), FP32, node)
    weight = t.new(f"{name}: total weight", (1, 1), FP32)
    if node is not None:
        t.save(node, weight)
    return loss
