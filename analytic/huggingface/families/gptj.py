"""GPT-J: rotary embeddings, and attention beside a network under one norm."""

from __future__ import annotations

from collections.abc import Mapping

from analytic.huggingface.families.common import (
    Described,
    Family,
    divided_head_dim,
    multi_head,
    num_layers,
    plain,
    same_if_stated,
)
from analytic.huggingface.numerics import dropout, stated_activation
from analytic.huggingface.weight_names import scheme
from analytic.io.keys import Derived, Keys
from analytic.model.spec import (
    LAYER_NORM,
    LayerSpec,
    ModelSpec,
    NormSlot,
    Numerics,
)


def _gptj(keys: Keys) -> Described:
    return rotary_gpt(keys, "GPTJConfig")


def rotary_gpt(keys: Keys, where: str) -> Described:
    """GPT-J: attention without biases beside a network with them, under one norm, and a bias on the head."""
    same_if_stated(keys, _GPTJ_SPELLINGS)
    hidden = keys.integer("n_embd")
    features = divided_head_dim(keys, "n_embd", "n_head")
    if (rotary := keys.integer("rotary_dim", Derived(64, where), most=features)) % 2:
        keys.reject("rotary_dim", rotary, "an even number, as rotary embeddings turn pairs")
    layer = LayerSpec(
        attention=multi_head(keys, "n_embd", "n_head"),
        ffn=plain(keys.integer("n_inner", Derived(4 * hidden, f"4 n_embd ({where})")), bias=True),
        norm=LAYER_NORM,
        norm_slots=(NormSlot.BEFORE_ATTENTION,),
        parallel=True,
        residual_dropout=dropout(keys, "resid_pdrop", 0.0),
    )
    spec = ModelSpec(
        hidden_size=hidden,
        vocab_size=keys.integer("vocab_size"),
        layers=(layer,) * num_layers(keys, "n_layer"),
        final_norm=LAYER_NORM,
        head_bias=True,
        tie_word_embeddings=keys.flag("tie_word_embeddings", Derived(False, f"untied ({where})")),
    )
    return spec, Numerics(activation=stated_activation(keys, "gelu_new", where=where))


GPTJ = ("n_embd", "n_head", "n_layer", "vocab_size")
_GPTJ_SPELLINGS = {"hidden_size": "n_embd", "num_attention_heads": "n_head", "num_hidden_layers": "n_layer"}
GPTJ_NAMES = scheme(
    "transformer",
    "h",
    {"wte": "embed_tokens", "ln_f": "norm", "lm_head": "lm_head"},
    {
        "ln_1": "input_layernorm",
        "attn": "self_attn",
        "attn.q_proj": "self_attn.q_proj",
        "attn.k_proj": "self_attn.k_proj",
        "attn.v_proj": "self_attn.v_proj",
        "attn.out_proj": "self_attn.o_proj",
        "mlp.fc_in": "mlp.up_proj",
        "mlp.fc_out": "mlp.down_proj",
    },
)

FAMILIES: Mapping[str, Family] = {
    "gptj": Family("GPTJForCausalLM", GPTJ, _gptj, names=GPTJ_NAMES),
}
