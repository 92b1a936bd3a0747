"""Llama, the family whose names and shapes the others are compared with."""

from __future__ import annotations

from collections.abc import Mapping

from analytic.huggingface.families.common import (
    SHAPE,
    Described,
    Family,
    decoder,
    divided_head_dim,
    gated,
    head_dim_or_default,
    layers_of,
    stated_bias,
)
from analytic.huggingface.numerics import numerics
from analytic.io.keys import Derived, Keys


def _llama(keys: Keys) -> Described:
    divided_head_dim(keys)  # checked by LlamaConfig even where head_dim is stated
    return llama_of(keys, "LlamaConfig")


def llama_of(keys: Keys, where: str) -> Described:
    ffn = gated(keys, bias=keys.flag("mlp_bias", Derived(False, where)))
    layers = layers_of(keys, ffn, where=where, **stated_bias(keys, where=where))
    return decoder(keys, layers), numerics(keys, where=where)


def llama_of_128(keys: Keys, where: str) -> Described:
    """Llama's own class, but for 128 features a head where the file says nothing."""
    divided_head_dim(keys)
    head_dim_or_default(keys, 128, where=where)
    return llama_of(Keys({"head_dim": 128, **keys.config}, keys.derived), where)


FAMILIES: Mapping[str, Family] = {
    "llama": Family("LlamaForCausalLM", SHAPE, _llama),
}
