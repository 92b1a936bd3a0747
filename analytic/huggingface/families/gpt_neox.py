"""GPT-NeoX and Pythia: rotary embeddings, and a parallel residual."""

from __future__ import annotations

from collections.abc import Mapping

from analytic.huggingface.families.common import (
    SHAPE,
    Described,
    Family,
    decoder,
    multi_head,
    num_layers,
    plain,
    stated_bias,
)
from analytic.huggingface.numerics import dropout, layer_norm_numerics
from analytic.huggingface.weight_names import QKV, scheme
from analytic.io.keys import Derived, Keys
from analytic.model.spec import (
    LAYER_NORM,
    LayerSpec,
)


def _gpt_neox(keys: Keys) -> Described:
    where = "GPTNeoXConfig"
    parallel = keys.flag("use_parallel_residual", Derived(True, where))
    layer = LayerSpec(
        attention=multi_head(
            keys,
            **stated_bias(keys, where=where, absent=True),
        ),
        ffn=plain(keys.integer("intermediate_size"), bias=True),
        norm=LAYER_NORM,
        parallel=parallel,
        residual_dropout=dropout(keys, "hidden_dropout", 0.0),
    )
    spec = decoder(keys, [layer] * num_layers(keys), norm=LAYER_NORM)
    return spec, layer_norm_numerics(keys, where, act="gelu")


_NAMES = scheme(
    "gpt_neox",
    "layers",
    {"embed_in": "embed_tokens", "final_layer_norm": "norm", "lm_head": "lm_head"},
    {
        "input_layernorm": "input_layernorm",
        "post_attention_layernorm": "post_attention_layernorm",
        "attention": "self_attn",
        "attention.query_key_value": QKV,
        "attention.dense": "self_attn.o_proj",
        "mlp.dense_h_to_4h": "mlp.up_proj",
        "mlp.dense_4h_to_h": "mlp.down_proj",
    },
)

FAMILIES: Mapping[str, Family] = {
    "gpt_neox": Family("GPTNeoXForCausalLM", SHAPE, _gpt_neox, names=_NAMES),
}
