"""Models and layouts for the tests of stacks: small, with widths whose products differ."""

from __future__ import annotations

from typing import Any

from analytic.model.spec import DenseFfn, GroupedQueryAttention, LatentAttention, LayerSpec, ModelSpec, MoeFfn
from analytic.parallelism.layout import Layout

# hidden, query, key (or value), feed-forward, vocabulary and layers of `dense()`
H, Q, K, F, V, L = 48, 96, 32, 80, 250, 4
EXPERTS, TOP_K, EXPERT, SHARED = 8, 2, 24, 40
ATTENTION = GroupedQueryAttention(num_heads=6, num_kv_heads=2, head_dim=16)
DENSE = LayerSpec(attention=ATTENTION, ffn=DenseFfn(intermediate_size=F))
ROUTED = LayerSpec(
    attention=ATTENTION,
    ffn=MoeFfn(
        num_experts=EXPERTS,
        num_experts_per_token=TOP_K,
        expert_intermediate_size=EXPERT,
        shared=DenseFfn(intermediate_size=SHARED),
    ),
)
LATENT = LayerSpec(
    attention=LatentAttention(
        num_heads=4, q_lora_rank=20, kv_lora_rank=12, qk_nope_head_dim=10, qk_rope_head_dim=6, v_head_dim=14
    ),
    ffn=DenseFfn(intermediate_size=F),
)


def model(*layers: LayerSpec, **options: Any) -> ModelSpec:
    """A model of some layers; without any, four dense ones."""
    return ModelSpec(hidden_size=H, vocab_size=V, layers=layers or (DENSE,) * L, **options)


def layout(**sizes: Any) -> Layout:
    """A layout; with virtual stages it is interleaved unless another schedule is given."""
    if sizes.get("virtual_stages", 1) > 1:
        sizes = {"pipeline_schedule": "interleaved-1f1b", **sizes}
    return Layout(**sizes)
