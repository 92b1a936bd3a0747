"""Mixture-of-experts blocks as `transformers` runs them with `experts_implementation="grouped_mm"`.

Rows are sorted by expert and multiplied in groups (`integrations/moe.py`, `grouped_mm_experts_forward`), so
that on one GPU no size depends on how evenly the router spreads them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from analytic.memory import collectives, expert_ops, ops
from analytic.memory.blocks import gated_ffn
from analytic.memory.implementation import Context, Router
from analytic.memory.tape import Tape
from analytic.memory.tensors import Tensor
from analytic.model.spec import MoeFfn, Routing


@dataclass(frozen=True, slots=True)
class Routed:
    """What a router returns: the logits, which the block holds until it returns, weights and expert indices."""

    logits: Tensor
    weights: Tensor
    indices: Tensor


def moe_ffn(t: Tape, f: MoeFfn, x: Tensor, context: Context) -> Tensor:
    """`MixtralSparseMoeBlock.forward`, `DeepseekV3MoE.forward` and their like."""
    is_shared = f.shared is not None
    rows = x if is_shared else ops.reshape(t, x, "mlp: rows")
    routed = _route(t, f, ops.reshape(t, rows, "mlp.gate: rows"), context)
    rows = ops.reshape(t, x, "mlp: rows") if is_shared else rows
    out = ops.reshape(t, _shared_out_experts(t, f, rows, routed, context.implementation.tp), "mlp: by sequence")
    if f.shared is None:
        return out
    shared = gated_ffn(t, x, f.shared.intermediate_size, "mlp.shared_experts", ranks=context.implementation.tp)
    return ops.add(t, out, shared, "mlp: routed + shared")


def _route(t: Tape, f: MoeFfn, x: Tensor, context: Context) -> Routed:
    router = context.implementation.router
    assert router is not None
    match router.kind:
        case "mixtral" | "qwen3_moe":
            return _softmax_router(t, f, x, router, is_fp16=context.setup.precision == "fp16")
        case "deepseek_v2":
            return _deepseek_v2_router(t, f, x, router.routing)
        case "deepseek_v3":
            return _deepseek_v3_router(t, f, x, router.routing)
        case _:
            assert_never(router.kind)


def _softmax_router(t: Tape, f: MoeFfn, x: Tensor, router: Router, *, is_fp16: bool) -> Routed:
    """`MixtralTopKRouter.forward`, `Qwen3MoeTopKRouter.forward`: logits in the compute dtype."""
    is_qwen = router.kind == "qwen3_moe"
    logits = ops.linear(t, x, t.parameter("mlp.gate", f.num_experts, x.width), is_folded=False)
    scores = ops.softmax(t, logits, "mlp.gate: scores", is_fused=is_qwen and is_fp16)
    weights, indices = expert_ops.topk(t, scores, f.num_experts_per_token, "mlp.gate: top-k")
    if router.routing.normalize or not is_qwen:
        weights = expert_ops.normalize_rows(t, weights, "mlp.gate: weights", has_epsilon=False)[0]
    if is_qwen:
        weights = ops.cast(t, weights, t.itemsize, "mlp.gate: weights in the compute dtype")
    return Routed(logits, weights, indices)


def _fp32_logits(t: Tape, f: MoeFfn, x: Tensor) -> Tensor:
    return expert_ops.linear_in_fp32(t, x, t.parameter("mlp.gate", f.num_experts, x.width))


def _deepseek_v2_router(t: Tape, f: MoeFfn, x: Tensor, routing: Routing) -> Routed:
    """`DeepseekV2TopkRouter.forward`; weights are not normalized."""
    logits = _fp32_logits(t, f, x)
    scores = ops.softmax(t, logits, "mlp.gate: scores")
    held: list[Tensor] = []
    if routing.num_groups > 1:
        group_scores = t.new("mlp.gate: group scores", (x.rows, routing.num_groups), ops.FP32)
        where = t.new("mlp.gate: best of each group", (x.rows, routing.num_groups), ops.INT64)
        held = [group_scores, *([where] if t.is_saving else [])]
        del where
        scores, masks = _limit_to_groups(t, f, scores, routing)
        held += masks
    weights, indices = expert_ops.topk(t, scores, f.num_experts_per_token, "mlp.gate: top-k")
    weights = ops.mul_constant(t, weights, "mlp.gate: scaled weights")
    return Routed(logits, weights, indices)


def _limit_to_groups(t: Tape, f: MoeFfn, scores: Tensor, routing: Routing) -> tuple[Tensor, list[Tensor]]:
    """Scores with those outside the best groups masked, and the tensors that the router holds meanwhile."""
    tokens = scores.rows
    best = t.new("mlp.gate: group top-k", (tokens, routing.groups_per_token), ops.FP32)
    chosen = t.new("mlp.gate: chosen groups", (tokens, routing.groups_per_token), ops.INT64)
    del best
    group_mask = t.new("mlp.gate: group mask", (tokens, routing.num_groups), ops.FP32)
    held = [chosen, group_mask]
    if f.num_experts > routing.num_groups > 1:
        held.append(t.new("mlp.gate: score mask", (tokens, f.num_experts), ops.FP32))
    as_bool = t.new("mlp.gate: score mask as bool", (tokens, f.num_experts), 1)
    outside = t.new("mlp.gate: outside the groups", (tokens, f.num_experts), 1)
    del as_bool
    masked = expert_ops.masked_fill(t, scores, outside, "mlp.gate: masked scores")
    if t.is_saving:
        held.append(outside)
    return masked, held


def _deepseek_v3_router(t: Tape, f: MoeFfn, x: Tensor, routing: Routing) -> Routed:
    """`DeepseekV3TopkRouter.forward`: experts are chosen by biased scores, and weighed by the plain ones."""
    chosen, groups = (x.rows, f.num_experts_per_token), (x.rows, routing.num_groups)
    logits = _fp32_logits(t, f, x)
    scores = ops.sigmoid(t, logits, "mlp.gate: scores")
    for_choice = t.like(scores, "mlp.gate: biased scores")
    two_best = t.new("mlp.gate: two best of each group", (x.rows, 2 * routing.num_groups), ops.FP32)
    where = t.new("mlp.gate: two best of each group: indices", (x.rows, 2 * routing.num_groups), ops.INT64)
    held = [where] if t.is_saving else []
    del where
    held.append(t.new("mlp.gate: group scores", groups, ops.FP32))
    del two_best
    for_choice, masks = _limit_to_groups(t, f, for_choice, routing)
    held += masks
    best = t.new("mlp.gate: top-k", chosen, ops.FP32)
    indices = t.new("mlp.gate: top-k: indices", chosen, ops.INT64)
    del best
    weights = expert_ops.select(t, scores, indices, chosen, "mlp.gate: weights")
    if routing.normalize:
        weights, total = expert_ops.normalize_rows(t, weights, "mlp.gate: weights", has_epsilon=True)
        held.append(total)
    weights = ops.mul_constant(t, weights, "mlp.gate: scaled weights")
    return Routed(logits, weights, indices)


def _shared_out_experts(t: Tape, f: MoeFfn, x: Tensor, routed: Routed, ranks: int) -> Tensor:
    """Every expert's matrices, each shared by the tensor-parallel ranks (`MoeExpertsParallel`)."""
    if ranks == 1:
        return _experts(t, f, x, routed)
    x = collectives.sum_gradient_in_place(t, x, "mlp.experts")
    weights = collectives.sum_gradient_in_place(t, routed.weights, "mlp.experts: weights")
    return _experts(t, f, x, Routed(routed.logits, weights, routed.indices))


def _experts(t: Tape, f: MoeFfn, x: Tensor, routed: Routed) -> Tensor:
    """`grouped_mm_experts_forward`"""
    name, experts, width = "mlp.experts", f.num_experts, f.expert_intermediate_size
    column = x.rows * f.num_experts_per_token, 1  # an entry for each token and each of its experts
    rows = column[0], x.width
    sorted_ids = t.new(f"{name}: sorted ids", column, ops.INT64)
    order = t.new(f"{name}: order", column, ops.INT64)
    selected = expert_ops.select(t, x, t.new(f"{name}: token of each row", column, ops.INT64), rows, f"{name}: rows")
    weights = expert_ops.select(t, routed.weights, order, column, f"{name}: weight of each row")
    ids = t.new(f"{name}: ids for the histogram", column, 4)
    counts = t.new(f"{name}: rows of each expert", (experts, 1), 4)
    offsets = t.new(f"{name}: offsets", (experts, 1), 4)
    gate_up = t.parameter(f"{name}.gate_up_proj", experts * 2 * width, x.width)
    down = t.parameter(f"{name}.down_proj", experts * x.width, width)
    out = expert_ops.grouped_mm(t, selected, gate_up, offsets, 2 * width)
    out = _gate(t, out, f"{name}.act_fn")
    out = expert_ops.grouped_mm(t, out, down, offsets, x.width)
    weighted = ops.mul(t, out, weights, f"{name}: weighted")
    inverse = t.new(f"{name}: inverse order", column, ops.INT64)
    t.new(f"{name}: row numbers", column, ops.INT64)
    weighted = expert_ops.select(t, weighted, inverse, rows, f"{name}: weighted, by token")
    total = expert_ops.sum_experts(t, weighted, f.num_experts_per_token, f"{name}: sum")
    result = ops.cast(t, total, x.itemsize, name)
    del sorted_ids, ids, counts  # unused, but local variables of the original
    return result


def _gate(t: Tape, x: Tensor, name: str) -> Tensor:
    gate, up = ops.split(t, x, (x.width // 2, x.width // 2), f"{name}: gate and up")
    return ops.mul(t, ops.silu(t, gate, name), up, f"{name}: gated product")
