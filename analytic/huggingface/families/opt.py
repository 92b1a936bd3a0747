"""OPT: learned positions, and norms before or after each network."""

from __future__ import annotations

from collections.abc import Mapping

from analytic.huggingface.families.common import (
    WITHOUT_FFN,
    Described,
    Family,
    multi_head,
    num_layers,
    plain,
    stated_bias,
)
from analytic.huggingface.numerics import dropout, stated_activation
from analytic.huggingface.weight_names import renamed, scheme
from analytic.io.keys import Derived, Keys
from analytic.model.spec import (
    POST_NORM,
    PRE_NORM,
    LayerSpec,
    ModelSpec,
    Norm,
    Numerics,
)


def _opt(keys: Keys) -> Described:
    where = "OPTConfig"
    hidden = keys.integer("hidden_size")
    biases = stated_bias(keys, where=where, key="enable_bias", absent=True)
    affine = keys.flag("layer_norm_elementwise_affine", Derived(True, where))
    norm = Norm(kind="layer", weight=affine, bias=affine)
    is_pre_norm = keys.flag("do_layer_norm_before", Derived(True, where))
    removed = keys.flag("_remove_final_layer_norm", Derived(False, where))
    width = keys.integer("word_embed_proj_dim", Derived(hidden, f"= hidden_size ({where})"))
    layer = LayerSpec(
        attention=multi_head(keys, **biases),
        ffn=plain(keys.integer("ffn_dim"), bias=biases["output_bias"]),
        norm=norm,
        norm_slots=PRE_NORM if is_pre_norm else POST_NORM,
        residual_dropout=dropout(keys, "dropout", 0.1),
    )
    spec = ModelSpec(
        hidden_size=hidden,
        vocab_size=keys.integer("vocab_size"),
        layers=(layer,) * num_layers(keys),
        final_norm=norm if is_pre_norm and not removed else None,
        embedding_size=None if width == hidden else width,
        tie_word_embeddings=keys.flag("tie_word_embeddings", Derived(True, f"tied ({where})")),
        num_positions=keys.integer("max_position_embeddings"),
        unused_positions=2,  # OPTLearnedPositionalEmbedding.offset
        has_rotary=False,
    )
    return spec, Numerics(activation=stated_activation(keys, "relu", where=where))


OPT_NAMES = scheme(
    "model.decoder",
    "layers",
    {
        "embed_tokens": "embed_tokens",
        "embed_positions": "embed_positions",
        "project_in": "project_in",
        "project_out": "project_out",
        "final_layer_norm": "norm",
        "lm_head": "lm_head",
    },
    {
        "self_attn": "self_attn",
        "self_attn.q_proj": "self_attn.q_proj",
        "self_attn.k_proj": "self_attn.k_proj",
        "self_attn.v_proj": "self_attn.v_proj",
        "self_attn.out_proj": "self_attn.o_proj",
        "self_attn_layer_norm": "input_layernorm",
        "fc1": "mlp.up_proj",
        "fc2": "mlp.down_proj",
        "final_layer_norm": "post_attention_layernorm",
    },
)
_POST_NORM_NAMES = renamed(
    OPT_NAMES,
    {"self_attn_layer_norm": "post_self_attn_layernorm", "final_layer_norm": "post_mlp_layernorm"},
)

FAMILIES: Mapping[str, Family] = {
    "opt": Family(
        "OPTForCausalLM",
        (*WITHOUT_FFN, "ffn_dim", "max_position_embeddings"),
        _opt,
        names=OPT_NAMES,
        post_norm_names=_POST_NORM_NAMES,
    ),
}
