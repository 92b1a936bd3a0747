"""Mixture-of-experts blocks as `transformers` runs them with `experts_implementation="grouped_mm"`.

Rows are sorted by expert and multiplied in groups (`integrations/moe.py`, `grouped_mm_experts_forward`), so
that on one GPU no size depends on how evenly the router spreads them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from analytic.memory import expert_ops, ops
from analytic.memory.blocks import gated_ffn
from analytic.memory.implementation import Context, Router
from analytic.memory.tape import Tape
from analytic.memory.tensors import Parameter, Tensor
from analytic.model.spec import MoeFfn, Routing


@dataclass(frozen=True, slots=True)
class Routed:
    """What a router returns: the logits, which the block holds until it returns, weights and expert indices."""

    logits: Tensor
    weights: Tensor
    indices: Tensor


def moe_ffn(t: Tape, f: MoeFfn, x: Tensor, context: Context) -> Tensor:
    """`MixtralSparseMoeBlock.forward`, `DeepseekV3MoE.forward` and their like."""
    tokens, is_shared = context.setup.tokens, f.shared is not None
    rows = x if is_shared else ops.reshape(t, x, "mlp: rows")
    routed = _route(t, f, ops.reshape(t, rows, "mlp.gate: rows"), context)
    rows = ops.reshape(t, x, "mlp: rows") if is_shared else rows
    out = ops.reshape(t, _experts(t, f, rows, tokens, routed), "mlp: by sequence")
    if f.shared is None:
        return out
    shared = gated_ffn(t, x, tokens, f.shared.intermediate_size, "mlp.shared_experts")
    return ops.add(t, out, shared, "mlp: routed + shared")


def _route(t: Tape, f: MoeFfn, x: Tensor, context: Context) -> Routed:
    tokens, router = context.setup.tokens, context.implementation.router
    assert router is not None
    match router.kind:
        case "mixtral" | "qwen3_moe":
            return _softmax_router(t, f, x, tokens, router, is_fp16=context.setup.precision == "fp16")
        case "deepseek_v2":
            return _deepseek_v2_router(t, f, x, tokens, router.routing)
        case "deepseek_v3":
            return _deepseek_v3_router(t, f, x, tokens, router.routing)
        case _:
            assert_never(router.kind)


def _softmax_router(t: Tape, f: MoeFfn, x: Tensor, tokens: int, router: Router, *, is_fp16: bool) -> Routed:
    """`MixtralTopKRouter.forward`, `Qwen3MoeTopKRouter.forward`: logits in the compute dtype."""
    is_qwen = router.kind == "qwen3_moe"
    logits = ops.linear(t, x, Parameter("mlp.gate", x.numel // tokens * f.num_experts), tokens, is_folded=False)
    scores = ops.softmax(t, logits, "mlp.gate: scores", is_fused=is_qwen and is_fp16)
    weights, indices = expert_ops.topk(t, scores, tokens * f.num_experts_per_token, "mlp.gate: top-k")
    if router.routing.normalize or not is_qwen:
        weights = expert_ops.normalize_rows(t, weights, tokens, "mlp.gate: weights", has_epsilon=False)[0]
    if is_qwen:
        weights = ops.cast(t, weights, t.itemsize, "mlp.gate: weights in the compute dtype")
    return Routed(logits, weights, indices)


def _fp32_logits(t: Tape, f: MoeFfn, x: Tensor, tokens: int) -> Tensor:
    return expert_ops.linear_in_fp32(t, x, Parameter("mlp.gate", x.numel // tokens * f.num_experts), tokens)


def _deepseek_v2_router(t: Tape, f: MoeFfn, x: Tensor, tokens: int, routing: Routing) -> Routed:
    """`DeepseekV2TopkRouter.forward`; weights are not normalized."""
    logits = _fp32_logits(t, f, x, tokens)
    scores = ops.softmax(t, logits, "mlp.gate: scores")
    held: list[Tensor] = []
    if routing.num_groups > 1:
        group_scores = t.new("mlp.gate: group scores", tokens * routing.num_groups, ops.FP32)
        where = t.new("mlp.gate: best of each group", tokens * routing.num_groups, ops.INT64)
        held = [group_scores, *([where] if t.is_saving else [])]
        del where
        scores, masks = _limit_to_groups(t, f, scores, tokens, routing)
        held += masks
    weights, indices = expert_ops.topk(t, scores, tokens * f.num_experts_per_token, "mlp.gate: top-k")
    weights = ops.mul_constant(t, weights, "mlp.gate: scaled weights")
    return Routed(logits, weights, indices)


def _limit_to_groups(t: Tape, f: MoeFfn, scores: Tensor, tokens: int, routing: Routing) -> tuple[Tensor, list[Tensor]]:
    """Scores with those outside the best groups masked, and the tensors that the router holds meanwhile."""
    numel = tokens * f.num_experts
    best = t.new("mlp.gate: group top-k", tokens * routing.groups_per_token, ops.FP32)
    chosen = t.new("mlp.gate: chosen groups", tokens * routing.groups_per_token, ops.INT64)
    del best
    group_mask = t.new("mlp.gate: group mask", tokens * routing.num_groups, ops.FP32)
    held = [chosen, group_mask]
    if f.num_experts > routing.num_groups > 1:
        held.append(t.new("mlp.gate: score mask", numel, ops.FP32))
    as_bool = t.new("mlp.gate: score mask as bool", numel, 1)
    outside = t.new("mlp.gate: outside the groups", numel, 1)
    del as_bool
    masked = expert_ops.masked_fill(t, scores, outside, "mlp.gate: masked scores")
    if t.is_saving:
        held.append(outside)
    return masked, held


def _deepseek_v3_router(t: Tape, f: MoeFfn, x: Tensor, tokens: int, routing: Routing) -> Routed:
    """`DeepseekV3TopkRouter.forward`: experts are chosen by biased scores, and weighed by the plain ones."""
    per_token, groups = tokens * f.num_experts_per_token, tokens * routing.num_groups
    logits = _fp32_logits(t, f, x, tokens)
    scores = ops.sigmoid(t, logits, "mlp.gate: scores")
    for_choice = t.new("mlp.gate: biased scores", scores.numel, ops.FP32)
    two_best = t.new("mlp.gate: two best of each group", 2 * groups, ops.FP32)
    where = t.new("mlp.gate: two best of each group: indices", 2 * groups, ops.INT64)
    held = [where] if t.is_saving else []
    del where
    held.append(t.new("mlp.gate: group scores", groups, ops.FP32))
    del two_best
    for_choice, masks = _limit_to_groups(t, f, for_choice, tokens, routing)
    held += masks
    best = t.new("mlp.gate: top-k", per_token, ops.FP32)
    indices = t.new("mlp.gate: top-k: indices", per_token, ops.INT64)
    del best
    weights = expert_ops.select(t, scores, indices, per_token, "mlp.gate: weights")
    if routing.normalize:
        weights, total = expert_ops.normalize_rows(t, weights, tokens, "mlp.gate: weights", has_epsilon=True)
        held.append(total)
    weights = ops.mul_constant(t, weights, "mlp.gate: scaled weights")
    return Routed(logits, weights, indices)


def _experts(t: Tape, f: MoeFfn, x: Tensor, tokens: int, routed: Routed) -> Tensor:
    """`grouped_mm_experts_forward`"""
    hidden_size, width, rows = x.numel // tokens, f.expert_intermediate_size, tokens * f.num_experts_per_token
    name = "mlp.experts"
    sorted_ids = t.new(f"{name}: sorted ids", rows, ops.INT64)
    order = t.new(f"{name}: order", rows, ops.INT64)
    selected = expert_ops.select(
        t, x, t.new(f"{name}: token of each row", rows, ops.INT64), rows * hidden_size, f"{name}: rows"
    )
    weights = expert_ops.select(t, routed.weights, order, rows, f"{name}: weight of each row")
    ids = t.new(f"{name}: ids for the histogram", rows, 4)
    counts = t.new(f"{name}: rows of each expert", f.num_experts, 4)
    offsets = t.new(f"{name}: offsets", f.num_experts, 4)
    matrix = f.num_experts * hidden_size * width
    out = expert_ops.grouped_mm(t, selected, Parameter(f"{name}.gate_up_proj", 2 * matrix), offsets, 2 * rows * width)
    out = _gate(t, out, f"{name}.act_fn")
    out = expert_ops.grouped_mm(t, out, Parameter(f"{name}.down_proj", matrix), offsets, rows * hidden_size)
    weighted = ops.mul(t, out, weights, f"{name}: weighted")
    inverse = t.new(f"{name}: inverse order", rows, ops.INT64)
    t.new(f"{name}: row numbers", rows, ops.INT64)
    weighted = expert_ops.select(t, weighted, inverse, rows * hidden_size, f"{name}: weighted, by token")
    total = expert_ops.sum_experts(t, weighted, f.num_experts_per_token, f"{name}: sum")
    result = ops.cast(t, total, x.itemsize, name)
    del sorted_ids, ids, counts  # unused, but local variables of the original
    return result


def _gate(t: Tape, x: Tensor, name: str) -> Tensor:
    gate, up = ops.split(t, x, (x.numel // 2, x.numel // 2), f"{name}: gate and up")
    return ops.mul(t, ops.silu(t, gate, name), up, f"{name}: gated product")
