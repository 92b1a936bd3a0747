"""Phi 1 to 3.5."""

from __future__ import annotations

from collections.abc import Mapping

from analytic.huggingface.families.common import (
    GROUPED,
    LOCAL_EXPERTS,
    ONE_NORM,
    SHAPE,
    Described,
    Family,
    decoder,
    experts,
    gated,
    layers_of,
    plain,
    refuse_other_head_dim,
    sliding_window,
    stated_bias,
    windows,
)
from analytic.huggingface.numerics import dropout, layer_norm_numerics, numerics
from analytic.huggingface.weight_names import FUSED_FFN, LLAMA, QKV, renamed
from analytic.io.keys import Derived, Keys
from analytic.model.spec import (
    LAYER_NORM,
    QkNorm,
)


def _phi(keys: Keys) -> Described:
    where = "PhiConfig"
    has_qk_norm = keys.flag("qk_layernorm", Derived(False, where))
    if has_qk_norm:
        refuse_other_head_dim(keys)
    layers = layers_of(
        keys,
        plain(keys.integer("intermediate_size"), bias=True),
        where=where,
        norm=LAYER_NORM,
        norm_slots=ONE_NORM,
        parallel=True,
        residual_dropout=dropout(keys, "resid_pdrop", 0.0),
        qkv_bias=True,
        output_bias=True,
        qk_norm=QkNorm(norm=LAYER_NORM) if has_qk_norm else None,
    )
    spec = decoder(keys, layers, norm=LAYER_NORM, head_bias=True)
    return spec, layer_norm_numerics(keys, where, act="gelu_new")


def _phi3(keys: Keys) -> Described:
    where = "Phi3Config"
    layers = layers_of(
        keys,
        gated(keys),
        where=where,
        windows=windows(keys, sliding_window(keys, None, where=where)),
        residual_dropout=dropout(keys, "resid_pdrop", 0.0),
    )
    return decoder(keys, layers), numerics(
        keys,
        where=where,
        eps=1e-5,
        rope_types=("default", "longrope"),
        rope_spellings={"su": "longrope", "yarn": "longrope"},
    )


def _phimoe(keys: Keys) -> Described:
    where = "PhimoeConfig"
    keys.must_be("num_experts_per_tok", 2, "sparsemixer in PhimoeTopKRouter visits two experts, whatever the key says")
    layers = layers_of(
        keys,
        experts(keys, "num_local_experts", width_key="intermediate_size"),
        where=where,
        windows=windows(keys, sliding_window(keys, None, where=where)),
        norm=LAYER_NORM,
        **stated_bias(keys, where=where),
    )
    head_bias = keys.flag("lm_head_bias", Derived(False, where))
    spec = decoder(keys, layers, norm=LAYER_NORM, head_bias=head_bias)
    return spec, numerics(keys, where=where, eps=1e-5, theta=1e6)


_PHI_NAMES = renamed(
    LLAMA,
    {
        "self_attn.dense": "self_attn.o_proj",
        "self_attn.q_layernorm": "self_attn.q_norm",
        "self_attn.k_layernorm": "self_attn.k_norm",
        "mlp.fc1": "mlp.up_proj",
        "mlp.fc2": "mlp.down_proj",
    },
    {"final_layernorm": "norm"},
)

_PHI3_NAMES = renamed(LLAMA, {"self_attn.qkv_proj": QKV, **FUSED_FFN})
_PHIMOE_NAMES = renamed(LLAMA, {"mlp.router": "mlp.gate"})

FAMILIES: Mapping[str, Family] = {
    "phi": Family("PhiForCausalLM", SHAPE, _phi, names=_PHI_NAMES),
    "phi3": Family("Phi3ForCausalLM", SHAPE, _phi3, names=_PHI3_NAMES),
    "phimoe": Family("PhimoeForCausalLM", (*GROUPED, *LOCAL_EXPERTS), _phimoe, names=_PHIMOE_NAMES),
}
