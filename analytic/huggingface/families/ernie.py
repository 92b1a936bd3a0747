"""ERNIE 4.5, dense and of experts."""

from __future__ import annotations

from collections.abc import Mapping

from analytic.huggingface.families.common import (
    GROUPED,
    Described,
    Family,
    decoder,
    experts,
    gated,
    head_dim_or_default,
    layers_of,
    num_layers,
    shared_experts,
    stated_bias,
)
from analytic.huggingface.numerics import numerics
from analytic.huggingface.weight_names import LLAMA, renamed
from analytic.io.keys import Derived, Keys
from analytic.limits import MAX_LAYERS


def _ernie4_5(keys: Keys) -> Described:
    where = "Ernie4_5Config"
    biases = stated_bias(keys, where=where, key="use_bias")
    layers = layers_of(
        keys,
        gated(keys, bias=biases["output_bias"]),
        where=where,
        head_dim=head_dim_or_default(keys, 128, where=where),
        **biases,
    )
    return decoder(keys, layers, tied=True), numerics(keys, where=where, eps=1e-5, theta=500_000.0)


def _ernie4_5_moe(keys: Keys) -> Described:
    where = "Ernie4_5_MoeConfig"
    biases, count = stated_bias(keys, where=where, key="use_bias"), num_layers(keys)
    bias = biases["output_bias"]
    moe = experts(
        keys,
        "moe_num_experts",
        per_token_key="moe_k",
        shared=shared_experts(keys, "moe_num_shared_experts", bias=bias),
        shared_first=True,
        score_correction="parameter",
    )
    first = keys.integer("moe_layer_start_index", Derived(1, where), least=0, most=MAX_LAYERS)
    last = keys.integer("moe_layer_end_index", Derived(-1, f"the last ({where})"), least=-1, most=MAX_LAYERS)
    interval = keys.integer("moe_layer_interval", Derived(1, where))
    last = count - 1 if last == -1 else last
    dense = gated(keys, bias=bias)
    networks = [moe if first <= i <= last and (i + 1) % interval == 0 else dense for i in range(count)]
    spec = decoder(keys, layers_of(keys, networks, where=where, **biases), tied=True, head_bias=bias)
    return spec, numerics(keys, where=where, eps=1e-5, theta=500_000.0)


_ERNIE = (*GROUPED, "moe_num_experts", "moe_k", "moe_num_shared_experts", "moe_intermediate_size")
_MOE_NAMES = renamed(LLAMA, {"mlp.gate.moe_statics.e_score_correction_bias": "mlp.gate.e_score_correction_bias"})

FAMILIES: Mapping[str, Family] = {
    "ernie4_5": Family("Ernie4_5ForCausalLM", GROUPED, _ernie4_5),
    "ernie4_5_moe": Family(
        "Ernie4_5_MoeForCausalLM",
        _ERNIE,
        _ernie4_5_moe,
        aliases={"num_experts": "moe_num_experts", "num_experts_per_tok": "moe_k"},
        names=_MOE_NAMES,
    ),
}
