"""XGLM: sinusoidal positions, and OPT's layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from analytic.huggingface.families.common import Described, Family, multi_head, num_layers, plain, same_if_stated
from analytic.huggingface.families.opt import OPT_NAMES
from analytic.huggingface.numerics import dropout, stated_activation
from analytic.io.keys import Derived, Keys
from analytic.model.spec import (
    LAYER_NORM,
    LayerSpec,
    ModelSpec,
    Numerics,
)


def _xglm(keys: Keys) -> Described:
    where = "XGLMConfig"
    same_if_stated(keys, _XGLM_SPELLINGS)
    keys.must_be("add_cross_attention", False, "cross-attention is not counted")
    layer = LayerSpec(
        attention=multi_head(
            keys,
            "d_model",
            "attention_heads",
            qkv_bias=True,
            output_bias=True,
        ),
        ffn=plain(keys.integer("ffn_dim"), bias=True),
        norm=LAYER_NORM,
        residual_dropout=dropout(keys, "dropout", 0.1),
    )
    spec = ModelSpec(
        hidden_size=keys.integer("d_model"),
        vocab_size=keys.integer("vocab_size"),
        layers=(layer,) * num_layers(keys, "num_layers"),
        final_norm=LAYER_NORM,
        tie_word_embeddings=keys.flag("tie_word_embeddings", Derived(True, f"tied ({where})")),
        has_rotary=False,  # its sinusoidal table has no parameters
    )
    return spec, Numerics(activation=stated_activation(keys, "gelu", where=where))


_XGLM_SPELLINGS = {
    "hidden_size": "d_model",
    "num_attention_heads": "attention_heads",
    "num_hidden_layers": "num_layers",
}
_NAMES = replace(
    OPT_NAMES,
    base="model",
    around={"embed_tokens": ("embed_tokens",), "layer_norm": ("norm",), "lm_head": ("lm_head",)},
)

FAMILIES: Mapping[str, Family] = {
    "xglm": Family(
        "XGLMForCausalLM", ("d_model", "attention_heads", "num_layers", "ffn_dim", "vocab_size"), _xglm, names=_NAMES
    ),
}
