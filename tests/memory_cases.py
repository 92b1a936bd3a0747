"""Models and setups for the memory tests: random ones of every family, and published ones by their figures."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import torch
from hypothesis import strategies as st

from analytic.huggingface.config import ModelConfig
from analytic.memory.implementation import Implementation, implementation_of
from analytic.memory.schedule import MemorySchedule
from analytic.model.spec import LatentAttention, MoeFfn
from analytic.model.training import AttentionKernel, Precision, TrainingSetup
from tests.configurations import parsed

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "mixtral", "qwen3_moe", "deepseek_v2", "deepseek_v3")

LLAMA_7B = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "vocab_size": 32000,
}
LLAMA_3_8B = LLAMA_7B | {"intermediate_size": 14336, "num_key_value_heads": 8, "vocab_size": 128256}
LLAMA_3_70B = LLAMA_3_8B | {
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
}
SMALL = {
    "model_type": "llama",
    "hidden_size": 96,
    "intermediate_size": 160,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 256,
}
SMALL_MIXTRAL = SMALL | {"model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2}
SMALL_QWEN3_MOE = SMALL | {
    "model_type": "qwen3_moe",
    "num_experts": 8,
    "num_experts_per_tok": 3,
    "moe_intermediate_size": 40,
    "head_dim": 24,
    "norm_topk_prob": True,
}
SMALL_DEEPSEEK_V3 = SMALL | {
    "model_type": "deepseek_v3",
    "q_lora_rank": 48,
    "kv_lora_rank": 32,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 12,
    "n_routed_experts": 16,
    "num_experts_per_tok": 4,
    "n_shared_experts": 1,
    "moe_intermediate_size": 40,
    "first_k_dense_replace": 1,
    "n_group": 4,
    "topk_group": 2,
}
SMALL_DEEPSEEK_V2 = SMALL_DEEPSEEK_V3 | {"model_type": "deepseek_v2", "q_lora_rank": None, "topk_method": "greedy"}


def predicted(config: ModelConfig) -> Implementation:
    """The implementation of a configuration that has a schedule."""
    implementation = implementation_of(config, 1)
    assert isinstance(implementation, Implementation), implementation
    return implementation


def scheduled(config: ModelConfig, setup: TrainingSetup) -> MemorySchedule:
    """The schedule of a configuration that has one."""
    return MemorySchedule(config.spec, predicted(config), setup)


def runnable(config: ModelConfig, setup: TrainingSetup) -> TrainingSetup:
    """Before torch 2.15, on meta, flash attention gives values the width of queries, and grouped products are bf16."""
    if torch.__version__ >= "2.15":
        return setup
    layers = config.spec.layers
    if isinstance(layers[0].attention, LatentAttention) and setup.attention_kernel == "flash":
        setup = replace(setup, attention_kernel="cudnn")
    has_experts = any(isinstance(layer.ffn, MoeFfn) for layer in layers)
    return replace(setup, precision="bf16") if has_experts else setup


@st.composite
def models(draw: st.DrawFn, family: str) -> ModelConfig:
    """A small random model of a family, of one to four layers; widths of experts aligned as grouped_mm wants them."""
    kv_heads, groups = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    heads = kv_heads * groups
    keys: dict[str, Any] = {
        "model_type": family,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "hidden_size": heads * 2 * draw(st.integers(1, 30)),
        "intermediate_size": draw(st.integers(1, 300)),
        "num_hidden_layers": draw(st.integers(1, 4)),
        "vocab_size": draw(st.integers(2, 300)),
        "tie_word_embeddings": draw(st.booleans()),
    }
    if family != "qwen2" and not family.startswith("deepseek"):
        keys["head_dim"] = 2 * draw(st.integers(1, 20))
    if family in ("llama", "qwen3", "qwen3_moe"):
        keys["attention_bias"] = draw(st.booleans())
    if family == "llama":
        keys["mlp_bias"] = draw(st.booleans())
    if family in ("mixtral", "qwen3_moe", "deepseek_v2", "deepseek_v3"):
        keys |= draw(_experts(family, heads))
    return parsed(keys)


@st.composite
def _experts(draw: st.DrawFn, family: str, heads: int) -> dict[str, Any]:
    aligned = {"hidden_size": 8 * heads * draw(st.integers(1, 6)), "intermediate_size": 8 * draw(st.integers(1, 30))}
    width = 8 * draw(st.integers(1, 12))
    groups, group_size = draw(st.integers(1, 4)), draw(st.integers(2, 4))
    experts, chosen_groups = groups * group_size, draw(st.integers(1, groups))
    per_token = draw(st.integers(1, chosen_groups * group_size))
    match family:
        case "mixtral":
            return aligned | {"num_local_experts": experts, "num_experts_per_tok": per_token}
        case "qwen3_moe":
            return aligned | {
                "num_experts": experts,
                "num_experts_per_tok": per_token,
                "moe_intermediate_size": width,
                "norm_topk_prob": draw(st.booleans()),
                "decoder_sparse_step": draw(st.integers(1, 2)),
            }
    keys = aligned | {
        "num_key_value_heads": heads,
        "q_lora_rank": draw(st.one_of(st.none(), st.integers(1, 60))),
        "kv_lora_rank": 2 * draw(st.integers(1, 30)),
        "qk_nope_head_dim": 2 * draw(st.integers(1, 20)),
        "qk_rope_head_dim": 2 * draw(st.integers(1, 12)),
        "v_head_dim": 2 * draw(st.integers(1, 20)),
        "n_routed_experts": experts,
        "num_experts_per_tok": per_token,
        "n_shared_experts": draw(st.integers(1, 3)),
        "moe_intermediate_size": width,
        "first_k_dense_replace": draw(st.integers(0, 2)),
        "n_group": groups,
        "topk_group": chosen_groups,
        "attention_bias": draw(st.booleans()),
    }
    if family == "deepseek_v2":
        is_limited = groups > 1 and draw(st.booleans())
        return keys | {"topk_method": "group_limited_greedy" if is_limited else "greedy"}
    return keys | {"norm_topk_prob": draw(st.booleans()), "rope_interleave": draw(st.booleans())}


@st.composite
def setups(draw: st.DrawFn) -> TrainingSetup:
    """A random setup whose optimizer, if any, runs on the meta device."""
    precision: Precision = draw(st.sampled_from(get_args(Precision)))
    kernels: list[AttentionKernel] = ["eager"] if precision == "fp32" else list(get_args(AttentionKernel))
    return TrainingSetup(
        micro_batch=draw(st.integers(1, 3)),
        seq_len=draw(st.integers(2, 40)),
        precision=precision,
        attention_kernel=draw(st.sampled_from(kernels)),
        checkpointing=draw(st.sampled_from(["none", "full"])),
        is_accumulating=draw(st.booleans()),
        rounding_bytes=draw(st.sampled_from([1, 512])),
        optimizer=draw(st.sampled_from(["none", "adamw_foreach"])),
    )
