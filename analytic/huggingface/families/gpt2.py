"""GPT-2 and GPT-SW3: learned positions and biases everywhere."""

from __future__ import annotations

from collections.abc import Mapping

from analytic.huggingface.families.common import Described, Family, divided_head_dim, num_layers, plain, same_if_stated
from analytic.huggingface.numerics import dropout, stated_activation
from analytic.huggingface.weight_names import QKV, scheme
from analytic.io.keys import Derived, Keys
from analytic.model.spec import (
    LAYER_NORM,
    GroupedQueryAttention,
    LayerSpec,
    ModelSpec,
    Numerics,
)


def _gpt2(keys: Keys) -> Described:
    return gpt(keys, "GPT2Config", "gelu_new", multi_query=False)


def gpt(keys: Keys, where: str, act: str, *, multi_query: bool) -> Described:
    """Learned positions, biases everywhere, and a dropout before the residual."""
    same_if_stated(keys, _GPT_SPELLINGS)
    keys.must_be("add_cross_attention", False, "cross-attention is not counted")
    hidden, heads = keys.integer("n_embd"), keys.integer("n_head")
    inner = keys.integer("n_inner", Derived(4 * hidden, f"4 n_embd ({where})"))
    layer = LayerSpec(
        attention=GroupedQueryAttention(
            num_heads=heads,
            num_kv_heads=1 if multi_query else heads,
            head_dim=divided_head_dim(keys, "n_embd", "n_head"),
            qkv_bias=True,
            output_bias=True,
        ),
        ffn=plain(inner, bias=True),
        norm=LAYER_NORM,
        residual_dropout=dropout(keys, "resid_pdrop", 0.1),
    )
    spec = ModelSpec(
        hidden_size=hidden,
        vocab_size=keys.integer("vocab_size"),
        layers=(layer,) * num_layers(keys, "n_layer"),
        final_norm=LAYER_NORM,
        tie_word_embeddings=keys.flag("tie_word_embeddings", Derived(True, f"tied ({where})")),
        num_positions=keys.integer("n_positions"),
        has_rotary=False,
    )
    return spec, Numerics(
        norm_eps=keys.unreported().number("layer_norm_epsilon", Derived(1e-5, where)),
        activation=stated_activation(keys, act, where=where),
    )


_GPT_SPELLINGS = {
    "hidden_size": "n_embd",
    "max_position_embeddings": "n_positions",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
}
GPT_KEYS = ("n_embd", "n_head", "n_layer", "n_positions", "vocab_size")
GPT_NAMES = scheme(
    "transformer",
    "h",
    {"wte": "embed_tokens", "wpe": "embed_positions", "ln_f": "norm", "lm_head": "lm_head"},
    {
        "ln_1": "input_layernorm",
        "ln_2": "post_attention_layernorm",
        "attn": "self_attn",
        "attn.c_attn": QKV,
        "attn.c_proj": "self_attn.o_proj",
        "mlp.c_fc": "mlp.up_proj",
        "mlp.c_proj": "mlp.down_proj",
    },
)

FAMILIES: Mapping[str, Family] = {
    "gpt-sw3": Family("GPT2LMHeadModel", GPT_KEYS, _gpt2, names=GPT_NAMES),
    "gpt2": Family("GPT2LMHeadModel", GPT_KEYS, _gpt2, names=GPT_NAMES),
}
