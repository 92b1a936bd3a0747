"""Granite 3, dense and of experts."""

from __future__ import annotations

from collections.abc import Mapping

from analytic.huggingface.families.common import (
    LOCAL_EXPERTS,
    SHAPE,
    Described,
    Family,
    decoder,
    experts,
    layers_of,
    stated_bias,
)
from analytic.huggingface.families.llama import llama_of
from analytic.huggingface.numerics import numerics
from analytic.huggingface.weight_names import LLAMA, renamed
from analytic.io.keys import Derived, Keys
from analytic.model.spec import (
    DenseFfn,
)


def _granite(keys: Keys) -> Described:
    return llama_of(keys, "GraniteConfig")


def _granitemoe(keys: Keys) -> Described:
    where = "GraniteMoeConfig"
    moe = experts(keys, "num_local_experts", width_key="intermediate_size")
    layers = layers_of(keys, moe, where=where, **stated_bias(keys, where=where))
    return decoder(keys, layers), numerics(keys, where=where)


def _granitemoeshared(keys: Keys) -> Described:
    where = "GraniteMoeSharedConfig"
    width = keys.integer("shared_intermediate_size", Derived(0, where), least=0)
    shared = DenseFfn(intermediate_size=width) if width else None
    moe = experts(keys, "num_local_experts", width_key="intermediate_size", shared=shared)
    layers = layers_of(keys, moe, where=where, **stated_bias(keys, where=where))
    return decoder(keys, layers), numerics(keys, where=where)


_MOE_NAMES = renamed(
    LLAMA,
    {
        "block_sparse_moe.router": "mlp.gate",
        "block_sparse_moe.experts": "mlp.experts",
        "block_sparse_moe.experts.gate_up_proj": "mlp.experts.gate_up_proj",
        "block_sparse_moe.experts.down_proj": "mlp.experts.down_proj",
    },
)
_SHARED_MOE_NAMES = renamed(
    _MOE_NAMES,
    {
        "shared_mlp.input_linear": ("mlp.shared_experts.gate_proj", "mlp.shared_experts.up_proj"),
        "shared_mlp.output_linear": "mlp.shared_experts.down_proj",
    },
)

FAMILIES: Mapping[str, Family] = {
    "granite": Family("GraniteForCausalLM", SHAPE, _granite),
    "granitemoe": Family("GraniteMoeForCausalLM", (*SHAPE, *LOCAL_EXPERTS), _granitemoe, names=_MOE_NAMES),
    "granitemoeshared": Family(
        "GraniteMoeSharedForCausalLM",
        (*SHAPE, *LOCAL_EXPERTS),
        _granitemoeshared,
        names=_SHARED_MOE_NAMES,
    ),
}
