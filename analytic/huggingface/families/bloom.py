"""BLOOM: ALiBi, and a norm on the embeddings."""

from __future__ import annotations

from collections.abc import Mapping

from analytic.huggingface.families.common import Described, Family, multi_head, num_layers, plain
from analytic.huggingface.numerics import dropout
from analytic.huggingface.weight_names import QKV, scheme
from analytic.io.keys import Derived, Keys
from analytic.model.spec import (
    LAYER_NORM,
    LayerSpec,
    ModelSpec,
    Numerics,
)


def _bloom(keys: Keys) -> Described:
    where = "BloomConfig"
    keys.must_be("slow_but_exact", False, "products by slices are not counted")
    hidden = keys.integer("hidden_size")
    layer = LayerSpec(
        attention=multi_head(
            keys,
            heads_key="n_head",
            qkv_bias=True,
            output_bias=True,
        ),
        ffn=plain(4 * hidden, bias=True),
        norm=LAYER_NORM,
        residual_dropout=dropout(keys, "hidden_dropout", 0.0),
    )
    spec = ModelSpec(
        hidden_size=hidden,
        vocab_size=keys.integer("vocab_size"),
        layers=(layer,) * num_layers(keys, "n_layer"),
        final_norm=LAYER_NORM,
        embedding_norm=LAYER_NORM,
        tie_word_embeddings=keys.flag("tie_word_embeddings", Derived(True, f"tied ({where})")),
        has_rotary=False,
    )
    return spec, Numerics(activation="gelu")


_BLOOM_ALIASES = {"n_embed": "hidden_size", "num_attention_heads": "n_head", "num_hidden_layers": "n_layer"}
_NAMES = scheme(
    "transformer",
    "h",
    {
        "word_embeddings": "embed_tokens",
        "word_embeddings_layernorm": "embedding_norm",
        "ln_f": "norm",
        "lm_head": "lm_head",
    },
    {
        "input_layernorm": "input_layernorm",
        "post_attention_layernorm": "post_attention_layernorm",
        "self_attention": "self_attn",
        "self_attention.query_key_value": QKV,
        "self_attention.dense": "self_attn.o_proj",
        "mlp.dense_h_to_4h": "mlp.up_proj",
        "mlp.dense_4h_to_h": "mlp.down_proj",
    },
)

FAMILIES: Mapping[str, Family] = {
    "bloom": Family(
        "BloomForCausalLM",
        ("hidden_size", "n_head", "n_layer", "vocab_size"),
        _bloom,
        aliases=_BLOOM_ALIASES,
        names=_NAMES,
    ),
}
