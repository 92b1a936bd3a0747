"""Persimmon: norms on queries and keys, and squared-ReLU networks without a gate."""

from __future__ import annotations

from collections.abc import Mapping

from analytic.huggingface.families.common import (
    SHAPE,
    Described,
    Family,
    decoder,
    divided_head_dim,
    multi_head,
    num_layers,
    plain,
)
from analytic.huggingface.numerics import dropout, numerics
from analytic.huggingface.weight_names import LLAMA, QKV, renamed
from analytic.io.keys import Derived, Keys
from analytic.model.spec import (
    LAYER_NORM,
    LayerSpec,
    QkNorm,
)


def _persimmon(keys: Keys) -> Described:
    where = "PersimmonConfig"
    keys.must_be("head_dim", divided_head_dim(keys), "PersimmonAttention has no other")
    has_qk_norm = keys.flag("qk_layernorm", Derived(True, where))
    layer = LayerSpec(
        attention=multi_head(
            keys,
            qkv_bias=True,
            output_bias=True,
            qk_norm=QkNorm(norm=LAYER_NORM) if has_qk_norm else None,
        ),
        ffn=plain(keys.integer("intermediate_size"), bias=True),
        norm=LAYER_NORM,
        residual_dropout=dropout(keys, "hidden_dropout", 0.0),
    )
    described = numerics(keys, where=where, eps=1e-5, eps_key="layer_norm_eps", act="relu2")
    return decoder(keys, [layer] * num_layers(keys), norm=LAYER_NORM), described


_NAMES = renamed(
    LLAMA,
    {
        "self_attn.query_key_value": QKV,
        "self_attn.dense": "self_attn.o_proj",
        "self_attn.q_layernorm": "self_attn.q_norm",
        "self_attn.k_layernorm": "self_attn.k_norm",
        "mlp.dense_h_to_4h": "mlp.up_proj",
        "mlp.dense_4h_to_h": "mlp.down_proj",
    },
    {"final_layernorm": "norm"},
)

FAMILIES: Mapping[str, Family] = {
    "persimmon": Family("PersimmonForCausalLM", SHAPE, _persimmon, names=_NAMES),
}
