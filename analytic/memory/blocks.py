"""Norms, rotary embeddings and dense feed-forward networks as `transformers` runs them."""

from __future__ import annotations

from typing import assert_never

from analytic.memory import collectives, ops
from analytic.memory.implementation import Context
from analytic.memory.tape import Tape
from analytic.memory.tensors import Tensor

Tables = tuple[Tensor, ...]


def linear(t: Tape, x: Tensor, name: str, out: int, *, has_bias: bool = False) -> Tensor:
    """`nn.Linear` of the module at hand, from the width of x to `out`."""
    bias = t.parameter(f"{name}.bias", out) if has_bias else None
    return ops.linear(t, x, t.parameter(name, out, x.width), bias=bias)


def column_linear(t: Tape, x: Tensor, name: str, out: int, *, ranks: int, has_bias: bool = False) -> Tensor:
    """`nn.Linear` of which each tensor-parallel rank has `out` columns."""
    if ranks > 1:
        x = collectives.sum_gradient(t, x, name)
    return linear(t, x, name, out, has_bias=has_bias)


def row_linear(t: Tape, x: Tensor, name: str, out: int, *, ranks: int, has_bias: bool = False) -> Tensor:
    """`nn.Linear` of which each tensor-parallel rank multiplies the columns of x that it has."""
    if ranks == 1:
        return linear(t, x, name, out, has_bias=has_bias)
    partial = linear(t, x, name, out, has_bias=has_bias)
    if has_bias:
        t.new(f"{name}: share of the bias", (out, 1), t.itemsize)
    return collectives.sum_output(t, partial, name)


def rms_norm(t: Tape, x: Tensor, name: str) -> Tensor:
    """`LlamaRMSNorm.forward`, and its copies in every family: in fp32, then scaled in the compute dtype."""
    x32 = ops.cast(t, x, ops.FP32, f"{name}: fp32 copy")
    variance = ops.mean(t, ops.pow2(t, x32, f"{name}: square"), f"{name}: variance")
    inverse = ops.rsqrt(t, ops.add_constant(t, variance, f"{name}: variance + eps"), f"{name}: rsqrt")
    normed = ops.mul(t, x32, inverse, f"{name}: normalized in fp32")
    del x32, inverse
    return ops.scale(t, t.parameter(name, x.width), ops.cast(t, normed, t.itemsize, f"{name}: normalized"), name)


def rotate(t: Tape, q: Tensor, k: Tensor, context: Context) -> tuple[Tensor, Tensor]:
    """The rotary part of q and k, as the implementation at hand turns it."""
    match context.implementation.rotary:
        case "halves":
            return rotate_halves(t, q, k, context.tables)
        case "pairs":
            return _rotate_pairs(t, q, k, context.tables)
        case "complex":
            return _rotate_complex(t, q, k, context)
        case _:
            assert_never(context.implementation.rotary)


def rotate_halves(t: Tape, q: Tensor, k: Tensor, tables: Tables) -> tuple[Tensor, Tensor]:
    """`apply_rotary_pos_emb` of Llama: x * cos + rotate_half(x) * sin."""
    turned = _turn_halves(t, q, tables, "q")
    return turned, _turn_halves(t, k, tables, "k")


def _turn_halves(t: Tape, x: Tensor, tables: Tables, name: str) -> Tensor:
    by_cos = ops.mul_constant(t, x, f"{name} * cos", tables[:1])
    by_sin = ops.mul_constant(t, _rotate_half(t, x, name), f"{name} * sin", tables[1:])
    return ops.add(t, by_cos, by_sin, f"{name}: rotated")


def _rotate_half(t: Tape, x: Tensor, name: str) -> Tensor:
    first, second = ops.half(t, x, f"{name}: first half"), ops.half(t, x, f"{name}: second half")
    return ops.cat(t, (ops.neg(t, second, f"{name}: -second half"), first), f"{name}: half-turned")


def _rotate_pairs(t: Tape, q: Tensor, k: Tensor, tables: Tables) -> tuple[Tensor, Tensor]:
    """`apply_rotary_pos_emb_interleave` of DeepSeek-V3: even and odd features apart."""
    q1, q2 = (ops.half(t, q, f"q: {part} features") for part in ("even", "odd"))
    k1, k2 = (ops.half(t, k, f"k: {part} features") for part in ("even", "odd"))
    turned = _turn_pairs(t, q1, q2, tables, "q")
    return turned, _turn_pairs(t, k1, k2, tables, "k")


def _turn_pairs(t: Tape, x1: Tensor, x2: Tensor, tables: Tables, name: str) -> Tensor:
    def products(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return ops.mul_constant(t, a, f"{name} * cos", tables[:1]), ops.mul_constant(t, b, f"{name} * sin", tables[1:])

    even = ops.sub(t, *products(x1, x2), f"{name}: even features turned")
    odd = ops.add(t, *products(x2, x1), f"{name}: odd features turned")
    return ops.cat(t, (even, odd), f"{name}: rotated")


def _rotate_complex(t: Tape, q: Tensor, k: Tensor, context: Context) -> tuple[Tensor, Tensor]:
    """`apply_rotary_emb` of DeepSeek-V2: pairs of features as complex numbers, times a table of angles."""
    table_bytes = context.setup.seq_len * k.width * ops.FP32
    q32 = ops.cast(t, q, ops.FP32, "q: fp32 copy")
    k32 = ops.cast(t, k, ops.FP32, "k: fp32 copy")
    q_product = ops.mul_complex(t, q32, table_bytes, "q * angles", context.tables)
    # the gradient of q is part of that of q and its unturned features, or from the efficient kernel token by token:
    # copied to be contiguous, if not cast
    is_by_token = context.setup.attention_kernel == "efficient" and q.rows > k.rows  # several heads
    q_product = ops.reshape(t, q_product, "q * angles", copies=t.itemsize == ops.FP32 or is_by_token)
    turned = ops.cast(t, q_product, t.itemsize, "q: rotated")
    del q_product
    return turned, ops.cast(
        t, ops.mul_complex(t, k32, table_bytes, "k * angles", context.tables), t.itemsize, "k: rotated"
    )


def gated_ffn(t: Tape, x: Tensor, intermediate_size: int, name: str, *, ranks: int, has_bias: bool = False) -> Tensor:
    """`LlamaMLP.forward`: down(silu(gate x) * up x)."""

    def column(part: str) -> Tensor:
        return column_linear(t, x, f"{name}.{part}", intermediate_size, ranks=ranks, has_bias=has_bias)

    return row_linear(
        t,
        ops.mul(t, ops.silu(t, column("gate_proj"), f"{name}.act_fn"), column("up_proj"), f"{name}: gated product"),
        f"{name}.down_proj",
        x.width,
        ranks=ranks,
        has_bias=has_bias,
    )
