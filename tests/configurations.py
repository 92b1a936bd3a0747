"""Configurations for tests: shipped ones, dictionaries, and random small ones of every family."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from analytic import hf
from analytic.files import configs_dir
from analytic.hf import ModelConfig
from analytic.keys import Keys


def shipped(name: str) -> ModelConfig:
    """A configuration under configs/, by its name."""
    paths = [*configs_dir().glob(f"{name}_config.json"), *configs_dir().glob(f"models/{name}.json")]
    assert len(paths) == 1, (name, paths)
    return hf.load(paths[0])


def parsed(raw: Mapping[str, Any]) -> ModelConfig:
    """A configuration from its keys."""
    return hf.parse(Path("model", "config.json"), Keys(raw))


@st.composite
def grouped_query(draw: st.DrawFn) -> dict[str, Any]:
    """Keys that every Llama-style family has. Widths are odd as a rule, so that no two terms are equal by chance."""
    kv_heads, groups, half_head = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 9))
    heads = kv_heads * groups
    keys = {
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "hidden_size": heads * draw(st.integers(1, 9)) * 2,
        "head_dim": 2 * half_head,
        "intermediate_size": draw(st.integers(1, 60)),
        "num_hidden_layers": draw(st.integers(1, 3)),
        "vocab_size": draw(st.integers(3, 200)),
        "max_position_embeddings": 64,
    }
    if draw(st.booleans()):
        del keys["head_dim"]
    if draw(st.booleans()):
        keys["tie_word_embeddings"] = draw(st.booleans())
    return keys


_WINDOW = st.one_of(st.none(), st.integers(1, 12))


@st.composite
def llama(draw: st.DrawFn) -> dict[str, Any]:
    keys = draw(grouped_query()) | {"model_type": "llama"}
    keys |= {"attention_bias": draw(st.booleans()), "mlp_bias": draw(st.booleans())}
    if draw(st.booleans()):
        del keys["num_key_value_heads"]
    return keys


@st.composite
def mistral(draw: st.DrawFn) -> dict[str, Any]:
    return draw(grouped_query()) | {"model_type": "mistral", "sliding_window": draw(_WINDOW)}


@st.composite
def qwen(draw: st.DrawFn) -> dict[str, Any]:
    keys = draw(grouped_query()) | {"model_type": draw(st.sampled_from(["qwen2", "qwen3"]))}
    if keys["model_type"] == "qwen3":
        keys |= {"head_dim": 2 * draw(st.integers(1, 9)), "attention_bias": draw(st.booleans())}
    if draw(st.booleans()):
        window = draw(st.integers(1, 12))
        keys |= {"use_sliding_window": True, "sliding_window": window, "max_window_layers": draw(st.integers(0, 3))}
    return keys


@st.composite
def _experts(draw: st.DrawFn, count_key: str) -> dict[str, Any]:
    count = draw(st.integers(1, 9))
    return {count_key: count, "num_experts_per_tok": draw(st.integers(1, count))}


@st.composite
def grouped_query_moe(draw: st.DrawFn) -> dict[str, Any]:
    keys = draw(grouped_query())
    if draw(st.booleans()):
        return keys | draw(_experts("num_local_experts")) | {"model_type": "mixtral", "sliding_window": draw(_WINDOW)}
    layers = keys["num_hidden_layers"]
    return (
        keys
        | draw(_experts("num_experts"))
        | {
            "model_type": "qwen3_moe",
            "moe_intermediate_size": draw(st.integers(1, 40)),
            "decoder_sparse_step": draw(st.integers(1, 2)),
            "mlp_only_layers": draw(st.lists(st.integers(0, layers - 1), unique=True)),
            "norm_topk_prob": draw(st.booleans()),
            "attention_bias": draw(st.booleans()),
        }
    )


@st.composite
def deepseek(draw: st.DrawFn) -> dict[str, Any]:
    heads, layers = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    version = draw(st.sampled_from(["deepseek_v2", "deepseek_v3"]))
    groups, per_group = draw(st.integers(1, 3)), draw(st.integers(2, 3))
    chosen = draw(st.integers(1, groups))
    keys: dict[str, Any] = {
        "model_type": version,
        "n_routed_experts": groups * per_group,
        "num_experts_per_tok": draw(st.integers(1, chosen * per_group)),
        "n_group": groups,
        "topk_group": chosen,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "hidden_size": heads * draw(st.integers(1, 20)),
        "intermediate_size": draw(st.integers(1, 60)),
        "moe_intermediate_size": draw(st.integers(1, 40)),
        "num_hidden_layers": layers,
        "vocab_size": draw(st.integers(3, 200)),
        "max_position_embeddings": 64,
        "q_lora_rank": draw(st.one_of(st.none(), st.integers(1, 30))),
        "kv_lora_rank": draw(st.integers(1, 30)),
        "qk_nope_head_dim": draw(st.integers(1, 12)),
        "qk_rope_head_dim": 2 * draw(st.integers(1, 6)),
        "v_head_dim": draw(st.integers(1, 12)),
        "n_shared_experts": draw(st.integers(0, 2)),
        "first_k_dense_replace": draw(st.integers(0, layers)),
        "attention_bias": draw(st.booleans()),
    }
    if version == "deepseek_v3":
        keys |= {"num_nextn_predict_layers": draw(st.integers(0, 2))}
    else:
        keys |= {"topk_method": draw(st.sampled_from(["greedy", "group_limited_greedy"]))}
    return keys


@st.composite
def gpt2(draw: st.DrawFn) -> dict[str, Any]:
    heads = draw(st.integers(1, 4))
    return {
        "model_type": "gpt2",
        "n_head": heads,
        "n_embd": heads * draw(st.integers(1, 12)),
        "n_layer": draw(st.integers(1, 3)),
        "n_inner": draw(st.one_of(st.none(), st.integers(1, 60))),
        "n_positions": draw(st.integers(16, 64)),
        "vocab_size": draw(st.integers(3, 200)),
        "tie_word_embeddings": draw(st.booleans()),
        "resid_pdrop": draw(st.sampled_from([0.0, 0.1])),
    }


EVERY_FAMILY = {
    "llama": llama(),
    "mistral": mistral(),
    "qwen": qwen(),
    "grouped_query_moe": grouped_query_moe(),
    "deepseek": deepseek(),
    "gpt2": gpt2(),
}
