"""Attention as `transformers` runs it: what is live while one layer attends, and what it leaves for backward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from analytic.memory import collectives, ops
from analytic.memory.blocks import column_linear, linear, rms_norm, rotate, rotate_halves, row_linear
from analytic.memory.cuda import Heads, flash_backward_bytes, heads_of
from analytic.memory.implementation import Context
from analytic.memory.tape import Tape
from analytic.memory.tensors import Shape, Tensor
from analytic.model.spec import Attention, GroupedQueryAttention, LatentAttention
from analytic.model.training import TrainingSetup


@dataclass(frozen=True, slots=True)
class Attended:
    """What attention returns. `weights`: under eager attention the layer holds them until it returns."""

    output: Tensor
    weights: Tensor | None


def attend(t: Tape, a: Attention, x: Tensor, context: Context) -> Attended:
    """`self_attn.forward`, from the normalized hidden states to the output projection."""
    match a:
        case GroupedQueryAttention():
            return _grouped_query(t, a, x, context)
        case LatentAttention():
            return _latent(t, a, x, context)
        case _:
            assert_never(a)


def _grouped_query(t: Tape, a: GroupedQueryAttention, x: Tensor, context: Context) -> Attended:
    """`LlamaAttention.forward`; with norms on q and k `Qwen3Attention.forward`."""
    setup, ranks = context.setup, context.implementation.attention_ranks
    repeats = setup.attention_kernel == "efficient" and a.num_heads > a.num_kv_heads
    copies_values = setup.attention_kernel == "eager" or repeats

    def project(part: str, heads: int, *, norm: bool, copies: bool) -> Tensor:
        name = f"self_attn.{part}_proj"
        out = column_linear(t, x, name, heads * a.head_dim, ranks=ranks, has_bias=a.qkv_bias)
        out = ops.reshape(t, out, name, heads=heads, copies=copies and heads > 1 and setup.seq_len > 1)
        return rms_norm(t, out, f"self_attn.{part}_norm") if norm else out

    q = project("q", a.num_heads, norm=a.qk_norm is not None, copies=True)
    k = project("k", a.num_kv_heads, norm=a.qk_norm is not None, copies=True)
    v = project("v", a.num_kv_heads, norm=False, copies=copies_values)
    q, k = rotate_halves(t, q, k, context.tables)
    out, weights = _kernel(t, heads_of(a), q, k, v, setup)
    return Attended(row_linear(t, out, "self_attn.o_proj", x.width, ranks=ranks, has_bias=a.output_bias), weights)


def _latent(t: Tape, a: LatentAttention, x: Tensor, context: Context) -> Attended:
    """`DeepseekV3Attention.forward` and `DeepseekV2Attention.forward`."""
    setup = context.setup
    copies, ranks = a.num_heads > 1 and setup.seq_len > 1, context.implementation.attention_ranks
    q = ops.reshape(t, _latent_queries(t, a, x, ranks), "self_attn.q_proj", heads=a.num_heads, copies=copies)
    q_pass, q_rot = ops.split(t, q, (a.qk_nope_head_dim, a.qk_rope_head_dim), "q: parts")

    widths = a.kv_lora_rank, a.qk_rope_head_dim
    compressed = _compress(t, x, widths, ranks, has_bias=a.bias)
    latent, k_rot = ops.split(t, compressed, widths, "kv_a: parts")
    latent = rms_norm(t, latent, "self_attn.kv_a_layernorm")
    q_rot, k_rot = rotate(t, q_rot, k_rot, context)
    query = ops.cat(t, (q_pass, q_rot), "query")
    key, v = _expand_latent(t, a, latent, k_rot, ranks, copies=copies)
    out, weights = _kernel(t, heads_of(a), query, key, v, setup)
    return Attended(row_linear(t, out, "self_attn.o_proj", x.width, ranks=ranks, has_bias=a.bias), weights)


def _latent_queries(t: Tape, a: LatentAttention, x: Tensor, ranks: int) -> Tensor:
    width = a.num_heads * a.qk_head_dim
    if a.q_lora_rank is None:
        return column_linear(t, x, "self_attn.q_proj", width, ranks=ranks)
    down = linear(t, x, "self_attn.q_a_proj", a.q_lora_rank, has_bias=a.bias)
    normed = rms_norm(t, down, "self_attn.q_a_layernorm")
    del down
    return column_linear(t, normed, "self_attn.q_b_proj", width, ranks=ranks)


def _compress(t: Tape, x: Tensor, widths: tuple[int, int], ranks: int, *, has_bias: bool) -> Tensor:
    """`kv_a_proj_with_mqa`, whole on every rank; the gradient of its rotary part is summed (`MlaKvAProjParallel`)."""
    name = "self_attn.kv_a_proj_with_mqa"
    compressed = linear(t, x, name, sum(widths), has_bias=has_bias)
    if ranks == 1:
        return compressed
    latent, rotary = ops.split(t, compressed, widths, f"{name}: parts")
    return ops.cat(t, (latent, collectives.sum_gradient_in_place(t, rotary, name, copies=x.rows > 1)), name)


def _expand_latent(
    t: Tape, a: LatentAttention, latent: Tensor, k_rot: Tensor, ranks: int, *, copies: bool
) -> tuple[Tensor, Tensor]:
    """`expand_kv`: keys are written part by part into a new tensor, values stay a view."""
    name, widths = "self_attn.kv_b_proj", (a.qk_nope_head_dim, a.v_head_dim)
    kv = column_linear(t, latent, name, a.num_heads * sum(widths), ranks=ranks)
    kv = ops.reshape(t, kv, name, heads=a.num_heads, copies=copies)
    k_pass, v = ops.split(t, kv, widths, "kv_b: parts")
    k_rot = ops.expand_heads(t, k_rot, a.num_heads, "k: shared rotary part")
    return ops.write_parts(t, k_pass, k_rot, "key"), v


def _kernel(
    t: Tape, heads: Heads, q: Tensor, k: Tensor, v: Tensor, setup: TrainingSetup
) -> tuple[Tensor, Tensor | None]:
    """The attention function: its output, a row a token, and the weights it returns."""
    inside: tuple[int, ...] = ()
    shape = setup.tokens, heads.num * heads.v_dim
    statistics_bytes = setup.tokens * heads.num * ops.FP32
    match setup.attention_kernel:
        case "eager":
            return _eager(t, heads, q, k, v, setup, shape)
        case "flash":
            state = (statistics_bytes, 16, 8)
            if setup.counts_kernel_bytes:
                inside = flash_backward_bytes(heads, setup)
        case "efficient":
            return _efficient(t, heads, q, k, v, setup, shape), None
        case "cudnn":
            state = (statistics_bytes, 8, 8)
        case _:
            assert_never(setup.attention_kernel)
    out = ops.attention_kernel(t, q, k, v, shape=shape, state_bytes=state, inside_bytes=inside, name="attention")
    return _to_rows(t, out, heads.num > 1 and setup.seq_len > 1 and not heads.is_row_major), None


def _efficient(t: Tape, heads: Heads, q: Tensor, k: Tensor, v: Tensor, setup: TrainingSetup, shape: Shape) -> Tensor:
    """Keys and values once for every query head; the output lies token by token.

    Row statistics, padded to 32 tokens, are for backward only (`attention_backward.cu`, `kAlignLSE`).
    """
    groups, is_single = heads.num // heads.num_kv, heads.num_kv == 1
    k = ops.repeat_heads(t, k, groups, "repeated keys", is_single=is_single)
    v = ops.repeat_heads(t, v, groups, "repeated values", is_single=is_single)
    padded_rows = setup.micro_batch * heads.num * -(-setup.seq_len // 32) * 32
    statistics_bytes = padded_rows * ops.FP32 if t.is_recording else 0
    return ops.attention_kernel(
        t, q, k, v, shape=shape, state_bytes=(statistics_bytes, 8, 8), inside_bytes=(), name="attention"
    )


def _to_rows(t: Tape, out: Tensor, copies: bool) -> Tensor:
    """`transpose(1, 2).contiguous()`"""
    return ops.clone(t, out, "attention: output by token") if copies else out


def _eager(
    t: Tape, heads: Heads, q: Tensor, k: Tensor, v: Tensor, setup: TrainingSetup, shape: Shape
) -> tuple[Tensor, Tensor | None]:
    """`eager_attention_forward`: the scores of all pairs, softmax in fp32."""
    is_fused = setup.precision == "fp16"
    groups = heads.num // heads.num_kv
    is_batched = setup.micro_batch > 1 and heads.num > 1 and setup.seq_len > 1
    copies_q = is_batched and heads.is_row_major
    is_single = heads.num_kv == 1
    copies_repeated = is_single and groups > 1 and setup.micro_batch > 1
    copies_k = copies_repeated or (copies_q and groups == 1)
    copies_v = copies_repeated or (is_batched and groups == 1)
    k = ops.repeat_heads(t, k, groups, "repeated keys", is_single=is_single)
    v = ops.repeat_heads(t, v, groups, "repeated values", is_single=is_single)
    weights = ops.mul_constant(
        t,
        ops.bmm(
            t,
            ops.clone(t, q, "q by head") if copies_q else q,
            ops.clone(t, k, "k by head") if copies_k else k,
            (q.rows, setup.seq_len),
            "scores",
        ),
        "scores * scaling",
    )
    weights = ops.add_constant(t, weights, "scores + mask")
    weights = ops.cast(t, ops.softmax(t, weights, "softmax", is_fused=is_fused), t.itemsize, "attention weights")
    out = ops.bmm(t, weights, ops.clone(t, v, "v by head") if copies_v else v, shape, "attention output by head")
    out = ops.reshape(t, out, "attention output by head", copies=is_batched)
    return _to_rows(t, out, heads.num > 1 and setup.seq_len > 1), weights
