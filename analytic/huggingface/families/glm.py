"""GLM-4 and 4.5, dense, of experts, and with latent attention."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from analytic.huggingface.families.common import (
    GROUPED,
    SHAPE,
    Described,
    Family,
    by_mlp_layer_types,
    decoder,
    dense_then_moe,
    experts,
    gated,
    group_limits,
    layers_of,
    shared_experts,
)
from analytic.huggingface.families.deepseek import (
    LATENT,
    MTP_ALIASES,
    ROUTED,
    ROUTED_ALIASES,
    SIGMOID_ROUTED,
    latent_attention,
    sigmoid_routed,
)
from analytic.huggingface.numerics import numerics
from analytic.huggingface.weight_names import FUSED_FFN, LLAMA, renamed
from analytic.io.keys import Derived, Keys
from analytic.limits import MAX_LAYERS
from analytic.model.spec import (
    PRE_NORM,
    SANDWICH_NORM,
    LayerSpec,
    NormSlot,
    QkNorm,
)


def _glm(keys: Keys) -> Described:
    return _glm_of(keys, "GlmConfig", PRE_NORM)


def _glm4(keys: Keys) -> Described:
    return _glm_of(keys, "Glm4Config", SANDWICH_NORM)


def _glm_of(keys: Keys, where: str, norm_slots: tuple[NormSlot, ...]) -> Described:
    """A bias on queries, keys and values alone."""
    layers = layers_of(
        keys,
        gated(keys),
        where=where,
        head_dim=keys.integer("head_dim", Derived(128, where)),
        qkv_bias=keys.flag("attention_bias", Derived(True, where)),
        norm_slots=norm_slots,
    )
    return decoder(keys, layers), numerics(keys, where=where, eps=1.5625e-7)


def _glm4_moe(keys: Keys) -> Described:
    where = "Glm4MoeConfig"
    has_qk_norm = keys.flag("use_qk_norm", Derived(False, where))
    moe, routing = sigmoid_routed(keys, where)
    layers = layers_of(
        keys,
        dense_then_moe(keys, gated(keys), moe),
        where=where,
        qkv_bias=keys.flag("attention_bias", Derived(False, where)),
        qk_norm=QkNorm() if has_qk_norm else None,
    )
    num_mtp = keys.integer("num_nextn_predict_layers", Derived(0, "none stated"), least=0, most=MAX_LAYERS)
    spec = decoder(keys, layers, mtp_layers=(replace(layers[-1], ffn=moe),) * num_mtp)
    return spec, numerics(keys, where=where, eps=1e-5, routing=routing)


def _glm4_moe_lite(keys: Keys) -> Described:
    where = "Glm4MoeLiteConfig"
    keys.must_be("first_k_dense_replace", 1, "transformers takes the dense layers from mlp_layer_types alone")
    keys.must_be("moe_layer_freq", 1, "transformers takes the dense layers from mlp_layer_types alone")
    attention = latent_attention(keys, where=where)
    shared = shared_experts(keys, "n_shared_experts")
    moe = experts(keys, "n_routed_experts", shared=shared, score_correction="buffer")
    group_limits(keys.unreported(), moe, least_per_group=2, absent=(Derived(1, where), Derived(1, where)))
    networks = by_mlp_layer_types(keys, gated(keys), moe, num_dense=1)
    spec = decoder(keys, [LayerSpec(attention=attention, ffn=ffn) for ffn in networks])
    return spec, numerics(keys, where=where, eps=1e-5, rope_interleaved=True)


FAMILIES: Mapping[str, Family] = {
    "glm": Family("GlmForCausalLM", GROUPED, _glm, names=renamed(LLAMA, FUSED_FFN)),
    "glm4": Family("Glm4ForCausalLM", GROUPED, _glm4, names=renamed(LLAMA, FUSED_FFN)),
    "glm4_moe": Family("Glm4MoeForCausalLM", SIGMOID_ROUTED, _glm4_moe, aliases=ROUTED_ALIASES | MTP_ALIASES),
    "glm4_moe_lite": Family(
        "Glm4MoeLiteForCausalLM",
        (*SHAPE, *LATENT, *ROUTED),
        _glm4_moe_lite,
        aliases={"num_local_experts": "n_routed_experts", "head_dim": "qk_rope_head_dim"},
    ),
}
