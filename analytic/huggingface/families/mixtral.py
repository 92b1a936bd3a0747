"""Mixtral: Mistral with experts."""

from __future__ import annotations

from collections.abc import Mapping

from analytic.huggingface.families.common import (
    GROUPED,
    LOCAL_EXPERTS,
    NUM_EXPERTS_ALIAS,
    Described,
    Family,
    decoder,
    experts,
    layers_of,
    sliding_window,
    windows,
)
from analytic.huggingface.numerics import numerics
from analytic.io.keys import Keys


def _mixtral(keys: Keys) -> Described:
    where = "MixtralConfig"
    of_layers = windows(keys, sliding_window(keys, None, where=where))
    moe = experts(keys, "num_local_experts", width_key="intermediate_size")
    layers = layers_of(keys, moe, where="MixtralAttention", windows=of_layers)
    return decoder(keys, layers), numerics(keys, where=where, eps=1e-5, theta=1e6)


FAMILIES: Mapping[str, Family] = {
    "mixtral": Family("MixtralForCausalLM", (*GROUPED, *LOCAL_EXPERTS), _mixtral, aliases=NUM_EXPERTS_ALIAS),
}
