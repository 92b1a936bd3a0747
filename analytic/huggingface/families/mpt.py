"""MPT: ALiBi, and no bias anywhere."""

from __future__ import annotations

from collections.abc import Mapping

from analytic.huggingface.families.common import Described, Family, multi_head, num_layers, plain, same_if_stated
from analytic.huggingface.numerics import dropout
from analytic.huggingface.weight_names import QKV, scheme
from analytic.io.keys import Derived, Keys
from analytic.model.spec import (
    LayerSpec,
    ModelSpec,
    Norm,
    Numerics,
)


def _mpt(keys: Keys) -> Described:
    where = "MptConfig"
    same_if_stated(keys, _MPT_SPELLINGS)
    ignored = "transformers builds no other"
    keys.must_be("expansion_ratio", 4, ignored)
    keys.must_be("no_bias", True, ignored)
    of_attention = keys.section("attn_config") or Keys({})
    for key, value in (("attn_type", "multihead_attention"), ("alibi", True), ("qk_ln", False), ("prefix_lm", False)):
        of_attention.must_be(key, value, ignored)
    hidden = keys.integer("d_model")
    norm = Norm(kind="layer")
    layer = LayerSpec(
        attention=multi_head(
            keys,
            "d_model",
            "n_heads",
        ),
        ffn=plain(4 * hidden, bias=False),
        norm=norm,
        residual_dropout=dropout(of_attention, "attn_pdrop", 0.0),
    )
    spec = ModelSpec(
        hidden_size=hidden,
        vocab_size=keys.integer("vocab_size"),
        layers=(layer,) * num_layers(keys, "n_layers"),
        final_norm=norm,
        tie_word_embeddings=keys.flag("tie_word_embeddings", Derived(True, f"tied ({where})")),
        has_rotary=False,
    )
    return spec, Numerics(activation="gelu")


_MPT_SPELLINGS = {"hidden_size": "d_model", "num_attention_heads": "n_heads", "num_hidden_layers": "n_layers"}
_NAMES = scheme(
    "transformer",
    "blocks",
    {"wte": "embed_tokens", "norm_f": "norm", "lm_head": "lm_head"},
    {
        "norm_1": "input_layernorm",
        "norm_2": "post_attention_layernorm",
        "attn": "self_attn",
        "attn.Wqkv": QKV,
        "attn.out_proj": "self_attn.o_proj",
        "ffn.up_proj": "mlp.up_proj",
        "ffn.down_proj": "mlp.down_proj",
    },
)

FAMILIES: Mapping[str, Family] = {
    "mpt": Family("MptForCausalLM", ("d_model", "n_heads", "n_layers", "vocab_size"), _mpt, names=_NAMES),
}
