"""Models for the tests of layouts, with widths whose products differ, so that no two terms are equal by chance."""

from __future__ import annotations

from typing import Any

from analytic.huggingface.config import load
from analytic.huggingface.shipped import find_model
from analytic.parallelism.parameters import DistributedModel, Family
from tests.configurations import parsed

FAMILIES: tuple[Family, ...] = (
    *("llama", "mistral", "qwen2", "qwen3", "mixtral", "qwen3_moe", "deepseek_v2", "deepseek_v3"),
)
_SMALL = {
    "hidden_size": 96,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "vocab_size": 250,
    "max_position_embeddings": 512,
    "pad_token_id": None,
}
_LATENT = {
    "num_key_value_heads": 8,
    "kv_lora_rank": 40,
    "qk_nope_head_dim": 24,
    "qk_rope_head_dim": 8,
    "v_head_dim": 16,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "n_shared_experts": 2,
    "moe_intermediate_size": 64,
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
}
_OF_FAMILY: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": None},
    "qwen2": {},
    "qwen3": {"head_dim": 16},
    "mixtral": {"num_local_experts": 8, "num_experts_per_tok": 2, "sliding_window": None},
    "qwen3_moe": {
        "head_dim": 16,
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 64,
        "mlp_only_layers": [0],
    },
    "deepseek_v2": {**_LATENT, "q_lora_rank": None},
    "deepseek_v3": {**_LATENT, "q_lora_rank": 56},
}


def small_keys(family: Family, **changed: Any) -> dict[str, Any]:
    """Keys of a small configuration: three layers; the first of the last three families is dense."""
    return _SMALL | {"model_type": family} | _OF_FAMILY[family] | changed


def small(family: Family, **changed: Any) -> DistributedModel:
    """That configuration's model."""
    return DistributedModel(parsed(small_keys(family, **changed)).spec, family)


def published(name: str, family: Family) -> DistributedModel:
    """A shipped model."""
    return DistributedModel(load(find_model(name)).spec, family)
