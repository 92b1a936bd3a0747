"""Hunyuan V1, dense and of experts."""

from __future__ import annotations

from collections.abc import Mapping

from analytic.huggingface.families.common import (
    GROUPED,
    Described,
    Family,
    decoder,
    gated,
    layers_of,
    num_layers,
    stated_bias,
)
from analytic.huggingface.numerics import numerics
from analytic.huggingface.weight_names import LLAMA, renamed
from analytic.io.keys import Derived, Keys
from analytic.model.spec import (
    MoeFfn,
    QkNorm,
)


def _hunyuan_v1_dense(keys: Keys) -> Described:
    where = "HunYuanDenseV1Config"
    layers = layers_of(
        keys,
        gated(keys),
        where=where,
        head_dim=keys.integer("head_dim"),
        qk_norm=QkNorm(),
        **stated_bias(keys, where=where),
    )
    return decoder(keys, layers), numerics(keys, where=where, eps=1e-5)


def _hunyuan_v1_moe(keys: Keys) -> Described:
    where, count = "HunYuanMoEV1Config", num_layers(keys)
    width = keys.integer("intermediate_size")
    keys.must_be("use_cla", False, "the class shares no keys and values between layers")
    for key, only in (("moe_intermediate_size", width), ("num_shared_expert", 1)):
        stated = keys.each(key, Derived(only, f"{only} ({where})"), length=count)
        if any(value != only for value in stated):
            keys.reject(key, keys.config[key], f"{only} in every layer, as HunYuanMoEV1Moe has it")
    networks = [
        MoeFfn(
            num_experts=keys.integer("num_experts"),
            num_experts_per_token=per_token,
            expert_intermediate_size=width,
            shared=gated(keys),
            shared_first=True,
        )
        for per_token in keys.each("moe_topk", length=count)
    ]
    layers = layers_of(
        keys,
        networks,
        where=where,
        head_dim=keys.integer("head_dim"),
        qk_norm=QkNorm(),
        **stated_bias(keys, where=where),
    )
    return decoder(keys, layers), numerics(keys, where=where, eps=1e-5)


_DENSE_NAMES = renamed(
    LLAMA, {"self_attn.query_layernorm": "self_attn.q_norm", "self_attn.key_layernorm": "self_attn.k_norm"}
)
_MOE_NAMES = renamed(
    _DENSE_NAMES,
    {
        "mlp.gate.wg": "mlp.gate",
        **{f"mlp.shared_mlp.{name}": f"mlp.shared_experts.{name}" for name in ("gate_proj", "up_proj", "down_proj")},
    },
)

FAMILIES: Mapping[str, Family] = {
    "hunyuan_v1_dense": Family(
        "HunYuanDenseV1ForCausalLM",
        (*GROUPED, "head_dim"),
        _hunyuan_v1_dense,
        aliases={"attention_head_dim": "head_dim"},
        names=_DENSE_NAMES,
    ),
    "hunyuan_v1_moe": Family(
        "HunYuanMoEV1ForCausalLM",
        (*GROUPED, "head_dim", "num_experts", "moe_topk"),
        _hunyuan_v1_moe,
        aliases={
            "attention_head_dim": "head_dim",
            "num_local_experts": "num_experts",
            "num_experts_per_tok": "moe_topk",
        },
        names=_MOE_NAMES,
    ),
}
