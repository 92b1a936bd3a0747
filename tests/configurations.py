"""Configurations for tests: shipped ones, dictionaries, and random small ones of every family."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from analytic.huggingface import config as hf
from analytic.huggingface.config import ModelConfig
from analytic.io.files import configs_dir
from analytic.io.keys import Keys


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
        "pad_token_id": None,
    }
    if draw(st.booleans()):
        del keys["head_dim"]
    if draw(st.booleans()):
        keys["tie_word_embeddings"] = draw(st.booleans())
    return keys


_WINDOW = st.one_of(st.none(), st.integers(1, 12))
_FLAG = st.booleans()
_HEAD_DIM = st.integers(1, 9).map(lambda half: 2 * half)
Options = Mapping[str, st.SearchStrategy[Any]]
_BIAS: Options = {"attention_bias": _FLAG}
_HEADS: Options = {"head_dim": _HEAD_DIM}
_MLP_BIAS: Options = {**_BIAS, "mlp_bias": _FLAG}


def extended(
    model_type: str, options: Options | None = None, *, without: tuple[str, ...] = ()
) -> st.SearchStrategy[Any]:
    """Llama-style keys with further ones, less those that the family does not read; null stands for absent."""

    @st.composite
    def keys(draw: st.DrawFn) -> dict[str, Any]:
        drawn = draw(grouped_query()) | {key: draw(value) for key, value in (options or {}).items()}
        kept = {key: value for key, value in drawn.items() if key not in without}
        return kept | {"model_type": model_type}

    return keys()


def mixed(model_type: str, options: Options | None = None) -> st.SearchStrategy[Any]:
    """As `extended`, some layers with a window, as a list says or as the family's class chooses."""

    @st.composite
    def keys(draw: st.DrawFn) -> dict[str, Any]:
        drawn: dict[str, Any] = draw(extended(model_type, options)) | {"sliding_window": draw(st.integers(1, 12))}
        if draw(_FLAG):
            kinds = st.sampled_from(["full_attention", "sliding_attention"])
            count = drawn["num_hidden_layers"]
            drawn["layer_types"] = draw(st.lists(kinds, min_size=count, max_size=count))
        return drawn

    return keys()


def routed(
    model_type: str,
    count_key: str = "num_experts",
    options: Options | None = None,
    *,
    per_token_key: str = "num_experts_per_tok",
    family: Callable[..., st.SearchStrategy[Any]] = extended,
) -> st.SearchStrategy[Any]:
    """As `family`, with routed experts."""

    @st.composite
    def keys(draw: st.DrawFn) -> dict[str, Any]:
        count = draw(st.integers(1, 9))
        experts = {count_key: count, per_token_key: draw(st.integers(1, count))}
        drawn: dict[str, Any] = draw(family(model_type, options)) | experts
        return drawn

    return keys()


def shared_routed(model_type: str, options: Options | None = None) -> st.SearchStrategy[Any]:
    """Grouped-query attention over DeepSeek-V3's experts."""

    @st.composite
    def keys(draw: st.DrawFn) -> dict[str, Any]:
        drawn: dict[str, Any] = draw(
            extended(model_type, {"moe_intermediate_size": st.integers(1, 40), **(options or {})})
        )
        groups, per_group = draw(st.integers(1, 3)), draw(st.integers(2, 3))
        chosen = draw(st.integers(1, groups))
        return drawn | {
            "n_routed_experts": groups * per_group,
            "num_experts_per_tok": draw(st.integers(1, chosen * per_group)),
            "n_group": groups,
            "topk_group": chosen,
            "n_shared_experts": draw(st.integers(1, 2)),
            "first_k_dense_replace": draw(st.integers(0, drawn["num_hidden_layers"])),
        }

    return keys()


@st.composite
def qwen_windows(draw: st.DrawFn, model_type: str) -> dict[str, Any]:
    keys: dict[str, Any] = draw(extended(model_type))
    if model_type == "qwen3":
        keys |= {"head_dim": draw(_HEAD_DIM), "attention_bias": draw(_FLAG)}
    if draw(_FLAG):
        window = draw(st.integers(1, 12))
        keys |= {"use_sliding_window": True, "sliding_window": window, "max_window_layers": draw(st.integers(0, 3))}
    return keys


@st.composite
def sparse_steps(draw: st.DrawFn, model_type: str, options: Options) -> dict[str, Any]:
    """Qwen's choice of the layers that have experts."""
    options = {
        **options,
        "moe_intermediate_size": st.integers(1, 40),
        "decoder_sparse_step": st.integers(1, 2),
        "use_sliding_window": _FLAG,
        "sliding_window": st.integers(1, 12),
        "max_window_layers": st.integers(0, 3),
    }
    keys: dict[str, Any] = draw(routed(model_type, "num_experts", options))
    dense = st.lists(st.integers(0, keys["num_hidden_layers"] - 1), unique=True)
    return keys | {"mlp_only_layers": draw(dense)}


def undivided(model_type: str, options: Options | None = None) -> st.SearchStrategy[Any]:
    """As `extended`, a head's features being the hidden state's, divided by the heads."""
    return extended(model_type, options, without=("head_dim",))


@st.composite
def ernie_moe(draw: st.DrawFn) -> dict[str, Any]:
    options = {
        "moe_intermediate_size": st.integers(1, 40),
        "moe_num_shared_experts": st.integers(1, 2),
        "moe_layer_start_index": st.integers(0, 2),
        "moe_layer_end_index": st.integers(-1, 2),
        "moe_layer_interval": st.integers(1, 2),
        "use_bias": _FLAG,
    }
    keys: dict[str, Any] = draw(routed("ernie4_5_moe", "moe_num_experts", options, per_token_key="moe_k"))
    return keys


@st.composite
def deepseek(draw: st.DrawFn, version: str) -> dict[str, Any]:
    heads, layers = draw(st.integers(1, 4)), draw(st.integers(1, 3))
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
def gpt(draw: st.DrawFn, model_type: str) -> dict[str, Any]:
    heads = draw(st.integers(1, 4))
    keys = {
        "model_type": model_type,
        "n_head": heads,
        "n_embd": heads * draw(st.integers(1, 12)),
        "n_layer": draw(st.integers(1, 3)),
        "n_inner": draw(st.one_of(st.none(), st.integers(1, 60))),
        "n_positions": draw(st.integers(16, 64)),
        "vocab_size": draw(st.integers(3, 200)),
        "tie_word_embeddings": draw(_FLAG),
        "resid_pdrop": draw(st.sampled_from([0.0, 0.1])),
    }
    return keys | ({"multi_query": draw(_FLAG)} if model_type == "gpt_bigcode" else {})


@st.composite
def divided(draw: st.DrawFn, /, model_type: str, options: Options, **names: str) -> dict[str, Any]:
    """Multi-head attention whose heads divide the hidden state, under the family's own names."""
    heads, width = draw(st.integers(1, 4)), draw(st.integers(1, 9))
    keys: dict[str, Any] = {
        "num_attention_heads": heads,
        "hidden_size": 2 * heads * width,
        "num_hidden_layers": draw(st.integers(1, 3)),
        "vocab_size": draw(st.integers(3, 200)),
        **{key: draw(value) for key, value in options.items()},
    }
    return {names.get(key, key): value for key, value in keys.items()} | {"model_type": model_type}


@st.composite
def falcon(draw: st.DrawFn) -> dict[str, Any]:
    is_new, groups = draw(_FLAG), draw(st.integers(1, 3))
    options = {"ffn_hidden_size": st.integers(1, 60), "bias": _FLAG, "alibi": _FLAG, "tie_word_embeddings": _FLAG}
    keys: dict[str, Any] = draw(divided("falcon", options)) | {"new_decoder_architecture": is_new}
    if is_new:
        heads = keys["num_attention_heads"] * groups
        keys |= {"num_kv_heads": keys["num_attention_heads"], "num_attention_heads": heads}
        keys |= {
            "hidden_size": keys["hidden_size"] * groups,
            "num_ln_in_parallel_attn": draw(st.sampled_from([1, 2, None])),
        }
    else:
        keys |= {"multi_query": draw(_FLAG), "parallel_attn": draw(_FLAG)}
    return keys


@st.composite
def smollm3(draw: st.DrawFn) -> dict[str, Any]:
    options = {**_MLP_BIAS, "no_rope_layer_interval": st.integers(1, 3)}
    if draw(_FLAG):
        return draw(extended("smollm3", options)) | {"use_sliding_window": False, "sliding_window": draw(_WINDOW)}
    return draw(mixed("smollm3", options)) | {"use_sliding_window": True}


_DROPOUT = st.sampled_from([0.0, 0.1])
_FFN: Options = {"intermediate_size": st.integers(1, 60)}
_LOCAL = "num_local_experts"

EVERY_FAMILY: Mapping[str, st.SearchStrategy[dict[str, Any]]] = {
    "bloom": divided("bloom", {"hidden_dropout": _DROPOUT}, num_attention_heads="n_head", num_hidden_layers="n_layer"),
    "cohere": extended("cohere", {**_BIAS, "use_qk_norm": _FLAG}),
    "cohere2": mixed("cohere2", _BIAS),
    "deepseek_v2": deepseek("deepseek_v2"),
    "deepseek_v3": deepseek("deepseek_v3"),
    "dots1": shared_routed("dots1", {**_BIAS, "sliding_window": _WINDOW, "max_window_layers": st.integers(0, 3)}),
    "ernie4_5": extended("ernie4_5", {"use_bias": _FLAG}),
    "ernie4_5_moe": ernie_moe(),
    "exaone4": mixed("exaone4", {"sliding_window_pattern": st.integers(1, 3)}),
    "falcon": falcon(),
    "gemma": extended("gemma", {**_BIAS, **_HEADS}),
    "gemma2": mixed("gemma2", {**_BIAS, **_HEADS}),
    "gemma3_text": mixed("gemma3_text", {**_BIAS, **_HEADS, "sliding_window_pattern": st.integers(1, 3)}),
    "glm": extended("glm", {**_BIAS, **_HEADS}),
    "glm4": extended("glm4", {**_BIAS, **_HEADS}),
    "glm4_moe": shared_routed(
        "glm4_moe", {**_BIAS, "use_qk_norm": _FLAG, "num_nextn_predict_layers": st.integers(0, 2)}
    ),
    "gpt2": gpt("gpt2"),
    "gpt_bigcode": gpt("gpt_bigcode"),
    "gpt_neox": divided(
        "gpt_neox", {**_FFN, "attention_bias": _FLAG, "use_parallel_residual": _FLAG, "rotary_pct": st.just(1.0)}
    ),
    "gpt_oss": routed("gpt_oss", _LOCAL, {**_BIAS, **_HEADS}, family=mixed),
    "granite": extended("granite", _MLP_BIAS),
    "granitemoe": routed("granitemoe", _LOCAL, _BIAS),
    "llama": extended("llama", _MLP_BIAS),
    "minimax_m2": routed("minimax_m2", _LOCAL, _HEADS),
    "mistral": extended("mistral", {"sliding_window": _WINDOW}),
    "mixtral": routed("mixtral", _LOCAL, {"sliding_window": _WINDOW}),
    "olmo": extended("olmo", _BIAS),
    "olmo2": extended("olmo2", _BIAS),
    "olmo3": mixed("olmo3", _BIAS),
    "olmoe": routed("olmoe", "num_experts", _BIAS, family=undivided),
    "opt": divided(
        "opt",
        {
            "ffn_dim": st.integers(1, 60),
            "max_position_embeddings": st.integers(16, 64),
            "word_embed_proj_dim": st.one_of(st.none(), st.integers(1, 40)),
            "do_layer_norm_before": _FLAG,
            "enable_bias": _FLAG,
            "dropout": _DROPOUT,
        },
    ),
    "phi": undivided("phi", {"qk_layernorm": _FLAG, "partial_rotary_factor": st.just(1.0)}),
    "phi3": undivided("phi3", {"sliding_window": _WINDOW, "resid_pdrop": _DROPOUT}),
    "phimoe": extended(
        "phimoe", {**_BIAS, "lm_head_bias": _FLAG, _LOCAL: st.integers(2, 9), "num_experts_per_tok": st.just(2)}
    ),
    "qwen2": qwen_windows("qwen2"),
    "qwen2_moe": sparse_steps("qwen2_moe", {"shared_expert_intermediate_size": st.integers(1, 40), "qkv_bias": _FLAG}),
    "qwen3": qwen_windows("qwen3"),
    "qwen3_moe": sparse_steps("qwen3_moe", _BIAS),
    "smollm3": smollm3(),
    "stablelm": extended(
        "stablelm",
        {
            "use_qkv_bias": _FLAG,
            "qk_layernorm": _FLAG,
            "use_parallel_residual": _FLAG,
            "partial_rotary_factor": st.just(1.0),
        },
        without=("head_dim",),
    ),
    "starcoder2": extended("starcoder2", {"use_bias": _FLAG, "sliding_window": _WINDOW}),
}
