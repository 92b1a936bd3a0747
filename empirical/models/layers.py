"""Llama-style (GQA) and DeepSeek-style (MLA, MoE) decoder layers in plain torch, built from a `ModelSpec`.

Modules and parameters carry the canonical names of the formulas. Each runs on the meta device. With the
same weights it gives the same output as the `transformers` layer of Llama, Mistral, Qwen, Mixtral and
DeepSeek; for other families of the same shapes (Granite's multipliers, GLM's half rotary) only counts hold.

Shape legend: B batch, S sequence, T = B S tokens, H hidden, N query heads, K key-value heads,
D features a head, F feed-forward width, E experts, k experts a token visits, V vocabulary.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import assert_never

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from analytic.errors import UnsupportedModelError
from analytic.model.spec import (
    RMS_NORM,
    DenseFfn,
    FeedForward,
    GroupedQueryAttention,
    LatentAttention,
    LayerSpec,
    ModelSpec,
    MoeFfn,
    Numerics,
    QkNorm,
    Routing,
)
from empirical.models.experts import Experts

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "swish": F.silu,
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_new": functools.partial(F.gelu, approximate="tanh"),
    "gelu_pytorch_tanh": functools.partial(F.gelu, approximate="tanh"),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "relu2": lambda x: F.relu(x).square(),
}


def activation_of(numerics: Numerics) -> Callable[[Tensor], Tensor]:
    """The function that a configuration names.

    Raises:
        UnsupportedModelError: one that our layers do not have.
    """
    if numerics.activation not in ACTIVATIONS:
        raise UnsupportedModelError(f"activation {numerics.activation!r}: our layers have {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[numerics.activation]


class RMSNorm(nn.Module):
    """Normalizes in fp32, then scales in the input's precision."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        x_fp32 = x.float()
        inverse_rms = torch.rsqrt(x_fp32.square().mean(-1, keepdim=True) + self.eps)
        return self.weight * (x_fp32 * inverse_rms).to(x.dtype)


def rotary_tables(seq_len: int, dim: int, theta: float, device: torch.device | str) -> tuple[Tensor, Tensor]:
    """Cosines and sines [S, D/2] of position times frequency (arXiv:2104.09864, eq. 15), in fp32."""
    frequency = theta ** (-torch.arange(0, dim, 2, dtype=torch.float32, device=device) / dim)
    angle = torch.arange(seq_len, dtype=torch.float32, device=device)[:, None] * frequency
    return angle.cos(), angle.sin()


def rotate(x_BNSD: Tensor, tables: tuple[Tensor, Tensor], *, interleaved: bool) -> Tensor:  # noqa: N803 - shape suffix
    """Rotary embedding: feature i turns with i + D/2 (Llama), or 2i with 2i + 1 (DeepSeek's checkpoints)."""
    cos, sin = (table.to(x_BNSD.dtype) for table in tables)
    if interleaved:
        first, second = x_BNSD[..., 0::2], x_BNSD[..., 1::2]
    else:
        first, second = x_BNSD.chunk(2, dim=-1)
    # The halves stay apart for both layouts: queries and keys are permuted alike, so scores are the same.
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


def causal_attention(q: Tensor, k: Tensor, v: Tensor, *, window: int | None, scale: float, eager: bool) -> Tensor:
    """Masked attention of q [B,N,S,D] on k [B,K,S,D] and v [B,K,S,Dv] -> [B,S,N*Dv]."""
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    mask = None
    if eager or (window is not None and window < q.shape[2]):
        mask = _allowed_pairs(q.shape[2], window, q.device)
    if mask is not None and eager:
        scores = (q @ k.transpose(-2, -1) * scale).masked_fill(~mask, torch.finfo(q.dtype).min)
        out = torch.softmax(scores, dim=-1, dtype=torch.float32).to(q.dtype) @ v
    else:
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, scale=scale)
    return out.transpose(1, 2).flatten(2)


def _allowed_pairs(seq_len: int, window: int | None, device: torch.device) -> Tensor:
    """Which keys each query sees [S,S]: those up to its own position, at most `window` of them."""
    mask = torch.ones(seq_len, seq_len, dtype=torch.bool, device=device).tril()
    return mask if window is None else mask.triu(1 - window)


class GqaAttention(nn.Module):
    """Grouped-query attention with rotary embeddings, and Qwen3's norms on queries and keys."""

    def __init__(self, a: GroupedQueryAttention, hidden_size: int, numerics: Numerics) -> None:
        super().__init__()
        self.spec, self.numerics, self.eager = a, numerics, False
        self.q_proj = nn.Linear(hidden_size, a.num_heads * a.head_dim, bias=a.qkv_bias)
        self.k_proj = nn.Linear(hidden_size, a.num_kv_heads * a.head_dim, bias=a.qkv_bias)
        self.v_proj = nn.Linear(hidden_size, a.num_kv_heads * a.head_dim, bias=a.qkv_bias)
        self.o_proj = nn.Linear(a.num_heads * a.head_dim, hidden_size, bias=a.output_bias)
        if a.qk_norm:
            self.q_norm = RMSNorm(a.head_dim, numerics.norm_eps)
            self.k_norm = RMSNorm(a.head_dim, numerics.norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        d = self.spec.head_dim
        q, k, v = (proj(x).unflatten(-1, (-1, d)) for proj in (self.q_proj, self.k_proj, self.v_proj))
        if self.spec.qk_norm:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        tables = rotary_tables(x.shape[1], d, self.numerics.rope_theta, x.device)
        q, k = (rotate(t, tables, interleaved=self.numerics.rope_interleaved) for t in (q, k))
        window = self.spec.sliding_window
        return self.o_proj(causal_attention(q, k, v, window=window, scale=d**-0.5, eager=self.eager))


class MlaAttention(nn.Module):
    """Multi-head latent attention: keys and values expanded from one latent, one rotary key for all heads."""

    def __init__(self, a: LatentAttention, hidden_size: int, numerics: Numerics) -> None:
        super().__init__()
        self.spec, self.numerics, self.eager = a, numerics, False
        q_width = a.num_heads * a.qk_head_dim
        if a.q_lora_rank is None:
            self.q_proj = nn.Linear(hidden_size, q_width, bias=False)
        else:
            self.q_a_proj = nn.Linear(hidden_size, a.q_lora_rank, bias=a.bias)
            self.q_a_layernorm = RMSNorm(a.q_lora_rank, numerics.latent_norm_eps)
            self.q_b_proj = nn.Linear(a.q_lora_rank, q_width, bias=False)
        self.kv_a_proj_with_mqa = nn.Linear(hidden_size, a.kv_lora_rank + a.qk_rope_head_dim, bias=a.bias)
        self.kv_a_layernorm = RMSNorm(a.kv_lora_rank, numerics.latent_norm_eps)
        kv_width = a.num_heads * (a.qk_nope_head_dim + a.v_head_dim)
        self.kv_b_proj = nn.Linear(a.kv_lora_rank, kv_width, bias=False)
        self.o_proj = nn.Linear(a.num_heads * a.v_head_dim, hidden_size, bias=a.bias)

    def forward(self, x: Tensor) -> Tensor:
        a = self.spec
        direct = a.q_lora_rank is None
        q = self.q_proj(x) if direct else self.q_b_proj(self.q_a_layernorm(self.q_a_proj(x)))
        q = q.unflatten(-1, (a.num_heads, a.qk_head_dim)).transpose(1, 2)
        q_nope, q_rope = q.split([a.qk_nope_head_dim, a.qk_rope_head_dim], dim=-1)
        latent, k_rope = self.kv_a_proj_with_mqa(x).split([a.kv_lora_rank, a.qk_rope_head_dim], dim=-1)
        kv = self.kv_b_proj(self.kv_a_layernorm(latent))
        kv = kv.unflatten(-1, (a.num_heads, a.qk_nope_head_dim + a.v_head_dim)).transpose(1, 2)
        k_nope, v = kv.split([a.qk_nope_head_dim, a.v_head_dim], dim=-1)
        tables = rotary_tables(x.shape[1], a.qk_rope_head_dim, self.numerics.rope_theta, x.device)
        q_rope, k_rope = (
            rotate(t, tables, interleaved=self.numerics.rope_interleaved) for t in (q_rope, k_rope.unsqueeze(1))
        )
        q = torch.cat((q_nope, q_rope), dim=-1)
        k = torch.cat((k_nope, k_rope.expand(-1, a.num_heads, -1, -1)), dim=-1)
        out = causal_attention(q, k, v, window=None, scale=a.qk_head_dim**-0.5, eager=self.eager)
        return self.o_proj(out)


class GatedFfn(nn.Module):
    """down(act(gate x) * up x)."""

    def __init__(self, f: DenseFfn, hidden_size: int, numerics: Numerics) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(hidden_size, f.intermediate_size, bias=f.bias)
        self.up_proj = nn.Linear(hidden_size, f.intermediate_size, bias=f.bias)
        self.down_proj = nn.Linear(f.intermediate_size, hidden_size, bias=f.bias)
        self.activation = activation_of(numerics)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(self.activation(self.gate_proj(x)) * self.up_proj(x))


class Router(nn.Module):
    """Scores every expert for every token and picks k: [T,H] -> weights [T,k], experts [T,k]."""

    def __init__(self, f: MoeFfn, hidden_size: int, routing: Routing) -> None:
        super().__init__()
        self.spec, self.routing = f, routing
        self.weight = nn.Parameter(torch.empty(f.num_experts, hidden_size))
        nn.init.normal_(self.weight, std=hidden_size**-0.5)
        self.e_score_correction_bias = nn.Buffer(torch.zeros(f.num_experts)) if f.score_correction == "buffer" else None

    def forward(self, x_TH: Tensor) -> tuple[Tensor, Tensor]:  # noqa: N803 - shape suffix
        r, k = self.routing, self.spec.num_experts_per_token
        dtype = torch.float32 if r.fp32_logits else x_TH.dtype
        logits = F.linear(x_TH.to(dtype), self.weight.to(dtype)).float()
        scores = logits.sigmoid() if r.scoring == "sigmoid" else logits.softmax(-1)
        choice = scores if self.e_score_correction_bias is None else scores + self.e_score_correction_bias
        if r.num_groups > 1:
            choice = self._mask_groups(choice)
        experts = choice.topk(k, dim=-1).indices
        weights = scores.gather(-1, experts)
        if r.normalize:
            weights = weights / weights.sum(-1, keepdim=True)
        return weights * r.scale, experts

    def _mask_groups(self, choice: Tensor) -> Tensor:
        """Scores of experts outside the token's best groups become the least possible."""
        r = self.routing
        grouped = choice.unflatten(-1, (r.num_groups, -1))
        best = grouped.topk(1 if r.group_score == "max" else 2, dim=-1).values.sum(-1)
        chosen = best.topk(r.groups_per_token, dim=-1).indices
        kept = torch.zeros_like(best).scatter(-1, chosen, 1.0)
        return grouped.masked_fill(kept.unsqueeze(-1) == 0, -torch.inf).flatten(-2)


class Moe(nn.Module):
    """Routed experts, plus shared experts that every token visits."""

    def __init__(self, f: MoeFfn, hidden_size: int, numerics: Numerics) -> None:
        super().__init__()
        self.gate = Router(f, hidden_size, numerics.routing)
        self.experts = Experts(f, hidden_size, activation_of(numerics))
        shared = f.shared
        self.shared_experts = GatedFfn(shared, hidden_size, numerics) if shared else None

    def forward(self, x: Tensor) -> Tensor:
        x_TH = x.flatten(0, 1)  # noqa: N806 - shape suffix
        weights, experts = self.gate(x_TH)
        out = self.experts(x_TH, weights, experts).view_as(x)
        return out if self.shared_experts is None else out + self.shared_experts(x)


def supported(spec: ModelSpec) -> bool:
    """Whether this module has every kind of layer of the model, and what the model has around them."""
    around = (spec.final_norm, spec.embedding_norm, spec.embedding_size, spec.head_bias, spec.num_positions)
    return spec.has_rotary and around == (RMS_NORM, None, None, False, 0) and all(map(_has_layer, set(spec.layers)))


def _has_layer(layer: LayerSpec) -> bool:
    attention, ffn = layer.attention, layer.ffn
    if layer != LayerSpec(attention=attention, ffn=ffn, residual_dropout=layer.residual_dropout):
        return False
    if isinstance(attention, GroupedQueryAttention) and (attention.sinks or attention.qk_norm not in (None, QkNorm())):
        return False
    if isinstance(ffn, DenseFfn):
        return ffn.gated
    with_extras = ffn.shared_gate or ffn.expert_bias or ffn.router_bias or ffn.score_correction == "parameter"
    return not with_extras


class DecoderLayer(nn.Module):
    """x + attention(norm x), then x + ffn(norm x). `eager` spells attention out instead of calling sdpa."""

    def __init__(self, layer: LayerSpec, hidden_size: int, numerics: Numerics) -> None:
        super().__init__()
        if not _has_layer(layer):
            raise UnsupportedModelError(f"our layers have RMSNorm before gated networks, without extras; not {layer}")
        self.input_layernorm = RMSNorm(hidden_size, numerics.norm_eps)
        self.self_attn = _attention(layer, hidden_size, numerics)
        self.post_attention_layernorm = RMSNorm(hidden_size, numerics.norm_eps)
        self.mlp = _feed_forward(layer.ffn, hidden_size, numerics)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x))
        return x + self.mlp(self.post_attention_layernorm(x))


def _attention(layer: LayerSpec, hidden_size: int, numerics: Numerics) -> GqaAttention | MlaAttention:
    match layer.attention:
        case GroupedQueryAttention():
            return GqaAttention(layer.attention, hidden_size, numerics)
        case LatentAttention():
            return MlaAttention(layer.attention, hidden_size, numerics)
        case _:
            assert_never(layer.attention)


def _feed_forward(f: FeedForward, hidden_size: int, numerics: Numerics) -> GatedFfn | Moe:
    match f:
        case DenseFfn():
            return GatedFfn(f, hidden_size, numerics)
        case MoeFfn():
            return Moe(f, hidden_size, numerics)
        case _:
            assert_never(f)


class DecoderModel(nn.Module):
    """Token ids [B,S] -> logits [B,S,V]."""

    def __init__(self, spec: ModelSpec, numerics: Numerics) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(spec.vocab_size, spec.hidden_size)
        self.layers = nn.ModuleList(DecoderLayer(layer, spec.hidden_size, numerics) for layer in spec.layers)
        self.norm = RMSNorm(spec.hidden_size, numerics.norm_eps)
        self.lm_head = nn.Linear(spec.hidden_size, spec.vocab_size, bias=False)
        if spec.tie_word_embeddings:
            self.lm_head.weight = self.embed_tokens.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed_tokens(ids)
        for layer in self.layers:
            x = layer(x)
        return self.lm_head(self.norm(x))
