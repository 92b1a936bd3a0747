"""How many parameters, by name.

The terms are the parameter paths of the `transformers` Llama and DeepSeek classes with the base
prefix and `.weight` removed and `.bias` kept. Layers are counted by runs of equal ones
(`layers.3-60.mlp.gate`), so that two errors in different layers cannot cancel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from analytic.breakdown import Breakdown
from analytic.spec import (
    Attention,
    DenseFfn,
    FeedForward,
    GroupedQueryAttention,
    LatentAttention,
    LayerSpec,
    ModelSpec,
    MoeFfn,
    Norm,
)

Terms = dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterCounts:
    """What is printed of a model's parameters.

    Attributes:
        total: every parameter once (a tied head once); buffers apart.
        active: those that one token visits: the total less the routed experts it does not.
        embedding: token and position tables. head: an untied output head. non_embedding: the rest.
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
    return ParameterCounts(
        total=terms.total,
        active=model_params(spec, active_only=True, mtp=mtp).total,
        embedding=embedding,
        head=terms["lm_head"],
        non_embedding=terms.total - embedding - terms["lm_head"],
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
                | ({"q_norm": d, "k_norm": d} if a.qk_norm else {})
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
            result = Breakdown("params", {"gate": hidden_size * f.num_experts})
            result += Breakdown("params", expert_matrices(f, hidden_size, count)).under("experts")
            if f.shared is not None:
                result += ffn_params(f.shared, hidden_size).under("shared_experts")
            return result
        case _:
            assert_never(f)


def layer_params(layer: LayerSpec, hidden_size: int, *, active_only: bool = False) -> Breakdown:
    """Parameters of one decoder layer, by canonical name below the layer."""
    attention = attention_matrices(layer.attention, hidden_size) | attention_vectors(layer.attention, hidden_size)
    norms: dict[str, Norm] = {slot.value: layer.norm for slot in layer.norm_slots}
    return (
        Breakdown("params", attention).under("self_attn")
        + ffn_params(layer.ffn, hidden_size, active_only=active_only).under("mlp")
        + _norms(norms, hidden_size)
    )


def model_params(spec: ModelSpec, *, active_only: bool = False, mtp: bool = False) -> Breakdown:
    """Parameters of the whole model, by run of equal layers; multi-token prediction only with `mtp`.

    `embed_positions` is the learned position table: zero, and there, under rotary embeddings.
    `lm_head` is zero where the head is tied to `embed_tokens`.
    """
    h, v = spec.hidden_size, spec.vocab_size
    total = Breakdown("params", {"embed_tokens": v * h, "embed_positions": spec.num_positions * h})
    for run in spec.runs:
        one = layer_params(run.layer, h, active_only=active_only)
        total += one.times(run.count).under(f"layers.{run.label}")
    head = 0 if spec.tie_word_embeddings else v * h
    total += _norms({"norm": spec.final_norm}, h) + Breakdown("params", {"lm_head": head})
    return total + mtp_params(spec, active_only=active_only) if mtp else total


def model_buffers(spec: ModelSpec) -> Breakdown:
    """Persistent buffers, in elements, by run of equal layers."""
    terms = {
        f"layers.{run.label}.mlp.gate.e_score_correction_bias": run.layer.ffn.num_experts * run.count
        for run in spec.runs
        if isinstance(run.layer.ffn, MoeFfn) and run.layer.ffn.router_bias_buffer
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


def _norms(norms: dict[str, Norm], width: int) -> Breakdown:
    """Weights of norms over `width` features, and the biases of LayerNorms."""
    biases = {f"{name}.bias": width for name, norm in norms.items() if norm.kind == "layer"}
    return Breakdown("params", dict.fromkeys(norms, width) | biases)
