"""Falcon, its first and its new decoder architecture."""

from __future__ import annotations

from collections.abc import Mapping

from analytic.errors import SpecError
from analytic.huggingface.families.common import (
    ONE_NORM,
    WITHOUT_FFN,
    Described,
    Family,
    decoder,
    divided_head_dim,
    num_layers,
    plain,
)
from analytic.huggingface.numerics import dropout, layer_norm_numerics
from analytic.huggingface.weight_names import QKV, scheme
from analytic.io.keys import Derived, Keys
from analytic.model.spec import (
    LAYER_NORM,
    PRE_NORM,
    GroupedQueryAttention,
    LayerSpec,
)


def _falcon(keys: Keys) -> Described:
    where = "FalconConfig"
    if "activation" in keys.config:
        keys.text("activation")  # a null is refused by FalconMLP
    hidden, heads = keys.integer("hidden_size"), keys.integer("num_attention_heads")
    is_new = keys.flag("new_decoder_architecture", Derived(False, where))
    parallel = keys.flag("parallel_attn", Derived(True, where))
    bias = keys.flag("bias", Derived(False, where))
    if is_new:
        keys.must_be("parallel_attn", True, "the new decoder architecture is parallel")
        kv_heads = keys.integer("num_kv_heads", Derived(heads, f"= num_attention_heads ({where})"))
        num_norms = keys.integer("num_ln_in_parallel_attn", Derived(2, where), most=2)
    else:
        kv_heads = 1 if keys.flag("multi_query", Derived(True, where)) else heads
        keys.must_be("num_ln_in_parallel_attn", 1, "two norms belong to the new decoder architecture")
        num_norms = 1 if parallel else 2
    if heads % kv_heads:
        raise SpecError(
            f"num_kv_heads = {kv_heads}: expected a divisor of num_attention_heads = {heads}", key="num_kv_heads"
        )
    layer = LayerSpec(
        attention=GroupedQueryAttention(
            num_heads=heads,
            num_kv_heads=kv_heads,
            head_dim=divided_head_dim(keys),
            qkv_bias=bias,
            output_bias=bias,
        ),
        ffn=plain(keys.integer("ffn_hidden_size", Derived(4 * hidden, f"4 hidden_size ({where})")), bias=bias),
        norm=LAYER_NORM,
        norm_slots=ONE_NORM if num_norms == 1 else PRE_NORM,
        parallel=parallel,
        residual_dropout=dropout(keys, "hidden_dropout", 0.0),
    )
    has_rotary = not keys.flag("alibi", Derived(False, where))
    spec = decoder(keys, [layer] * num_layers(keys), norm=LAYER_NORM, tied=True, has_rotary=has_rotary)
    return spec, layer_norm_numerics(keys, where, act="gelu", act_key="activation", eps_key="layer_norm_epsilon")


_NAMES = scheme(
    "transformer",
    "h",
    {"word_embeddings": "embed_tokens", "ln_f": "norm", "lm_head": "lm_head"},
    {
        "input_layernorm": "input_layernorm",
        "ln_attn": "input_layernorm",  # of two norms side by side
        "post_attention_layernorm": "post_attention_layernorm",
        "ln_mlp": "post_attention_layernorm",
        "self_attention": "self_attn",
        "self_attention.query_key_value": QKV,
        "self_attention.dense": "self_attn.o_proj",
        "mlp.dense_h_to_4h": "mlp.up_proj",
        "mlp.dense_4h_to_h": "mlp.down_proj",
    },
)

FAMILIES: Mapping[str, Family] = {
    "falcon": Family("FalconForCausalLM", WITHOUT_FFN, _falcon, names=_NAMES),
}
