"""How many parameters, by name.

The terms are the parameter paths of the `transformers` Llama and DeepSeek classes with the base
prefix and `.weight` removed and `.bias` kept. Layers are counted by runs of equal ones
(`layers.3-60.mlp.gate`), so that two errors in different layers cannot cancel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from analytic.model.breakdown import Breakdown
from analytic.model.spec import (
    Attention,
    DenseFfn,
    FeedForward,
    GroupedQueryAttention,
    LatentAttention,
    LayerSpec,
    ModelSpec,
    MoeFfn,
    Norm,
    QkNorm,
)

Terms = dict[str, int]
SCORE_CORRECTION = "gate.e_score_correction_bias"


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterCounts:
    """What is printed of a model's parameters.

    Attributes:
        total: every parameter once (a tied head once); buffers apart.
        active: those that one token visits: the total less the routed experts it does not.
        embedding: token and position tables. head: an untied output head, and any head's bias.
        non_embedding: the rest.
        buffers: persistent tensors that are not parameters (DeepSeek-V3's router bias).
        mtp: multi-token-prediction layers, whether or not they are in the total.
    """

    total: int
    active: int
    embedding: int
    head: int
    non_embedding: int
    buffers: int
    mtp: int


def parameter_counts(spec: ModelSpec, *, mtp: bool = False) -> ParameterCounts:
    """The printed figures of a model, from its terms; with `mtp`, multi-token prediction is in the total."""
    terms = model_params(spec, mtp=mtp)
    embedding = terms["embed_tokens"] + terms["embed_positions"]
    head = terms["lm_head"] + terms.terms.get("lm_head.bias", 0)
    return ParameterCounts(
        total=terms.total,
        active=model_params(spec, active_only=True, mtp=mtp).total,
        embedding=embedding,
        head=head,
        non_embedding=terms.total - embedding - head,
        buffers=model_buffers(spec).total,
        mtp=mtp_params(spec).total,
    )


def attention_matrices(a: Attention, hidden_size: int) -> Terms:
    """Weights of one layer's attention that are factors of a matrix product.

    >>> attention_matrices(GroupedQueryAttention(num_heads=8, num_kv_heads=2, head_dim=32), 256)
    {'q_proj': 65536, 'k_proj': 16384, 'v_proj': 16384, 'o_proj': 65536}
    """
    h = hidden_size
    match a:
        case GroupedQueryAttention(num_heads=heads, num_kv_heads=kv_heads, head_dim=d):
            return {
                "q_proj": h * heads * d,
                "k_proj": h * kv_heads * d,
                "v_proj": h * kv_heads * d,
                "o_proj": heads * d * h,
            }
        case LatentAttention(num_heads=heads, q_lora_rank=q_rank, kv_lora_rank=kv_rank):
            q_width = heads * a.qk_head_dim
            query = (
                {"q_proj": h * q_width} if q_rank is None else {"q_a_proj": h * q_rank, "q_b_proj": q_rank * q_width}
            )
            return query | {
                "kv_a_proj_with_mqa": h * (kv_rank + a.qk_rope_head_dim),
                "kv_b_proj": kv_rank * heads * (a.qk_nope_head_dim + a.v_head_dim),
                "o_proj": heads * a.v_head_dim * h,
            }
        case _:
            assert_never(a)


def attention_vectors(a: Attention, hidden_size: int) -> Terms:
    """Biases and norm weights of one layer's attention."""
    match a:
        case GroupedQueryAttention(num_heads=heads, num_kv_heads=kv_heads, head_dim=d):
            biases = {"q_proj.bias": heads * d, "k_proj.bias": kv_heads * d, "v_proj.bias": kv_heads * d}
            return (
                (biases if a.qkv_bias else {})
                | ({"o_proj.bias": hidden_size} if a.output_bias else {})
                | (_qk_norms(a.qk_norm, a) if a.qk_norm else {})
                | ({"sinks": heads} if a.sinks else {})
            )
        case LatentAttention(q_lora_rank=q_rank, kv_lora_rank=kv_rank):
            terms = {"kv_a_layernorm": kv_rank}
            if q_rank is not None:
                terms["q_a_layernorm"] = q_rank
            if a.bias:
                terms |= {"kv_a_proj_with_mqa.bias": kv_rank + a.qk_rope_head_dim, "o_proj.bias": hidden_size}
                if q_rank is not None:
                    terms["q_a_proj.bias"] = q_rank
            return terms
        case _:
            assert_never(a)


def dense_matrices(f: DenseFfn, hidden_size: int) -> Terms:
    """Weights of one dense feed-forward network that are factors of a matrix product."""
    matrix = hidden_size * f.intermediate_size
    return ({"gate_proj": matrix} if f.gated else {}) | {"up_proj": matrix, "down_proj": matrix}


def expert_matrices(f: MoeFfn, hidden_size: int, num_experts: int) -> Terms:
    """Weights of `num_experts` routed experts: gate and up projections are one merged tensor [E, 2F, H]."""
    matrix = hidden_size * f.expert_intermediate_size
    return {"gate_up_proj": num_experts * 2 * matrix, "down_proj": num_experts * matrix}


def expert_params(f: MoeFfn, hidden_size: int, num_experts: int) -> Terms:
    """Parameters of `num_experts` routed experts: the matrices, and the biases where there are any."""
    terms = expert_matrices(f, hidden_size, num_experts)
    if f.expert_bias:
        terms["gate_up_proj_bias"] = num_experts * 2 * f.expert_intermediate_size
        terms["down_proj_bias"] = num_experts * hidden_size
    return terms


def ffn_params(f: FeedForward, hidden_size: int, *, active_only: bool = False) -> Breakdown:
    """Parameters of one layer's feed-forward network; with `active_only`, of the experts one token visits."""
    match f:
        case DenseFfn():
            terms = dense_matrices(f, hidden_size)
            if f.bias:
                biases = {"gate_proj.bias": f.intermediate_size} if f.gated else {}
                terms |= biases | {"up_proj.bias": f.intermediate_size, "down_proj.bias": hidden_size}
            return Breakdown("params", terms)
        case MoeFfn():
            count = f.num_experts_per_token if active_only else f.num_experts
            terms = {"gate": hidden_size * f.num_experts}
            if f.router_bias:
                terms["gate.bias"] = f.num_experts
            if f.score_correction == "parameter":
                terms[SCORE_CORRECTION] = f.num_experts
            if f.shared_gate:
                terms["shared_expert_gate"] = hidden_size
            result = Breakdown("params", terms)
            result += Breakdown("params", expert_params(f, hidden_size, count)).under("experts")
            if f.shared is not None:
                result += ffn_params(f.shared, hidden_size).under("shared_experts")
            return result
        case _:
            assert_never(f)


def layer_params(layer: LayerSpec, hidden_size: int, *, active_only: bool = False) -> Breakdown:
    """Parameters of one decoder layer, by canonical name below the layer."""
    attention = attention_matrices(layer.attention, hidden_size) | attention_vectors(layer.attention, hidden_size)
    return (
        Breakdown("params", attention).under("self_attn")
        + ffn_params(layer.ffn, hidden_size, active_only=active_only).under("mlp")
        + Breakdown("params", _norms({slot.value: layer.norm for slot in layer.norm_slots}, hidden_size))
    )


def model_params(spec: ModelSpec, *, active_only: bool = False, mtp: bool = False) -> Breakdown:
    """Parameters of the whole model, by run of equal layers; multi-token prediction only with `mtp`.

    `embed_positions` is the learned position table: zero, and there, under rotary embeddings.
    `lm_head` is zero where the head is tied to `embed_tokens`.
    """
    h, table = spec.hidden_size, spec.vocab_size * spec.embedding_width
    positions = (spec.num_positions + spec.unused_positions) * h
    total = Breakdown("params", {"embed_tokens": table, "embed_positions": positions} | embedding_matrices(spec))
    for run in spec.runs:
        one = layer_params(run.layer, h, active_only=active_only)
        total += one.times(run.count).under(f"layers.{run.label}")
    norms = {"embedding_norm": spec.embedding_norm, "norm": spec.final_norm}
    head = {"lm_head": 0 if spec.tie_word_embeddings else table}
    if spec.head_bias:
        head["lm_head.bias"] = spec.vocab_size
    total += Breakdown("params", _norms({name: norm for name, norm in norms.items() if norm}, h) | head)
    return total + mtp_params(spec, active_only=active_only) if mtp else total


def model_buffers(spec: ModelSpec) -> Breakdown:
    """Persistent buffers, in elements, by run of equal layers."""
    terms = {
        f"layers.{run.label}.mlp.{SCORE_CORRECTION}": run.layer.ffn.num_experts * run.count
        for run in spec.runs
        if isinstance(run.layer.ffn, MoeFfn) and run.layer.ffn.score_correction == "buffer"
    }
    return Breakdown("params", terms)


def mtp_params(spec: ModelSpec, *, active_only: bool = False) -> Breakdown:
    """Parameters of the multi-token-prediction layers; embedding and head are the main model's.

    Each joins the previous hidden state with the next token's embedding, both normalized, by one
    projection [H, 2H], and runs one decoder layer and a norm (arXiv:2412.19437, section 2.2, eq. 21).
    """
    h = spec.hidden_size
    total = Breakdown("params", {})
    for i, layer in enumerate(spec.mtp_layers):
        around = Breakdown("params", {"enorm": h, "hnorm": h, "eh_proj": 2 * h * h, "post_norm": h})
        total += (around + layer_params(layer, h, active_only=active_only).under("mtp_block")).under(f"mtp.{i}")
    return total


def embedding_matrices(spec: ModelSpec) -> Terms:
    """The matrices between an embedding narrower than the hidden state and that state, there and back."""
    if spec.embedding_size is None:
        return {}
    matrix = spec.embedding_size * spec.hidden_size
    return {"project_in": matrix, "project_out": matrix}


def _qk_norms(qk_norm: QkNorm, a: GroupedQueryAttention) -> Terms:
    q_heads, k_heads = (1, 1) if qk_norm.span == "head" else (a.num_heads, a.num_kv_heads)
    queries = _norms({"q_norm": qk_norm.norm}, q_heads * a.head_dim)
    return queries | _norms({"k_norm": qk_norm.norm}, k_heads * a.head_dim)


def _norms(norms: dict[str, Norm], width: int) -> Terms:
    """Weights and biases of norms over `width` features, by the norm's name."""
    weights = {name: width for name, norm in norms.items() if norm.weight}
    return weights | {f"{name}.bias": width for name, norm in norms.items() if norm.bias}
