"""Keys that every family may have and no parser reads: their types, as the classes of `transformers` check them.

They change no count. A value that no class takes is refused all the same: the file is not one that could be trained.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from analytic.io.keys import Keys
from analytic.limits import MAX_DIMENSION


@dataclass(frozen=True, slots=True)
class _Kind:
    expected: str
    takes: Callable[[object], bool]


def _is_number(value: object) -> bool:
    return type(value) is int or (type(value) is float and math.isfinite(value))


def _is_between(least: float, most: float) -> Callable[[object], bool]:
    return lambda value: type(value) in (int, float) and least <= value <= most  # type: ignore[operator]  # a number


def _is_token(value: object) -> bool:
    return type(value) is int or (type(value) is list and all(type(item) is int for item in value))


# What torch calls its types of weights: `transformers` looks the name up there.
_DTYPES = (
    *("bfloat16", "float16", "half", "float32", "float", "float64", "double"),
    *("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu", "int8", "uint8"),
)
_DTYPE = _Kind("a type of torch's such as bfloat16, float16 or float32", lambda value: value in _DTYPES)
_FLAG = _Kind("true or false", lambda value: type(value) is bool)
_NUMBER = _Kind("a finite number", _is_number)
_OBJECT = _Kind("an object", lambda value: isinstance(value, dict))
_PROBABILITY = _Kind("a number from 0 to 1", _is_between(0, 1))
_SIZE = _Kind(f"an integer from 0 to {MAX_DIMENSION}", lambda value: type(value) is int and 0 <= value <= MAX_DIMENSION)
_TEXT = _Kind("a string", lambda value: type(value) is str)
_PATTERN = _Kind("an integer or a string", lambda value: type(value) in (int, str))
_COUNT = _Kind(
    f"an integer from 1 to {MAX_DIMENSION}", lambda value: type(value) is int and 1 <= value <= MAX_DIMENSION
)
_TOKEN = _Kind("an integer, or a list of them", _is_token)
_NOTHING = _Kind("null (layers that differ by it are not counted)", lambda value: value == {})

_KINDS: Mapping[str, _Kind] = {
    **dict.fromkeys(("dtype", "torch_dtype"), _DTYPE),
    **dict.fromkeys(
        (
            *("add_cross_attention", "apply_residual_connection_post_layernorm", "attention_softmax_in_fp32"),
            *("gradient_checkpointing", "is_decoder", "is_encoder_decoder", "learned_pos_emb", "norm_topk_prob"),
            *("output_attentions", "output_hidden_states", "output_router_logits", "reorder_and_upcast_attn"),
            *("return_dict", "rope_interleave", "scale_attention_softmax_in_fp32", "scale_attn_by_inverse_layer_idx"),
            *("scale_attn_weights", "scale_embedding", "slow_but_exact", "use_bidirectional_attention", "use_cache"),
        ),
        _FLAG,
    ),
    **dict.fromkeys(
        (
            *("attention_multiplier", "attn_logit_softcapping", "clip_qkv", "embedding_fraction"),
            *("embedding_multiplier", "final_logit_softcapping", "initializer_range", "input_jitter_noise"),
            *(
                "layer_norm_epsilon",
                "logit_scale",
                "logits_scaling",
                "moe_norm_min",
            ),
            *(
                "residual_multiplier",
                "routed_scaling_factor",
                "router_aux_loss_coef",
                "router_jitter_noise",
                "swiglu_alpha",
                "swiglu_limit",
            ),
        ),
        _NUMBER,
    ),
    **dict.fromkeys(("id2label", "label2id"), _OBJECT),
    **dict.fromkeys(
        (
            *("activation_dropout", "attention_dropout", "attn_pdrop", "embd_pdrop", "embed_dropout"),
            *("embedding_dropout", "emb_pdrop", "layerdrop", "partial_rotary_factor", "resid_pdrop", "rotary_pct"),
        ),
        _PROBABILITY,
    ),
    **dict.fromkeys(
        (
            *("max_window_layers", "n_ctx", "n_group", "no_rope_layer_interval", "num_kv_heads", "num_labels"),
            *("original_max_position_embeddings", "pretraining_tp", "sliding_window", "topk_group"),
        ),
        _SIZE,
    ),
    "norm_type": _TEXT,
    "query_pre_attn_scalar": _COUNT,
    "sliding_window_pattern": _PATTERN,
    "per_layer_config": _NOTHING,
}


def check_unread_keys(keys: Keys, vocab_size: int) -> None:
    """Refuse a value that is not of its key's kind. A null stands for an absent key.

    Raises:
        FileError: naming the key, its value and what was expected.
    """
    for key, value in keys.config.items():
        kind = _TOKEN if key.endswith("_token_id") else _KINDS.get(key)
        if kind is not None and value is not None and not kind.takes(value):
            keys.reject(key, value, kind.expected)
    padding = keys.config.get("pad_token_id")
    if padding is not None and not (type(padding) is int and -vocab_size <= padding < vocab_size):
        keys.reject("pad_token_id", padding, f"an integer from {-vocab_size} to {vocab_size - 1}, as vocab_size says")
