"""Arcee: Llama with squared-ReLU networks without a gate."""

from __future__ import annotations

from collections.abc import Mapping

from analytic.huggingface.families.common import (
    SHAPE,
    Described,
    Family,
    decoder,
    divided_head_dim,
    layers_of,
    plain,
    stated_bias,
)
from analytic.huggingface.numerics import numerics
from analytic.io.keys import Derived, Keys


def _arcee(keys: Keys) -> Described:
    where = "ArceeConfig"
    divided_head_dim(keys)  # checked by ArceeConfig even where head_dim is stated
    ffn = plain(keys.integer("intermediate_size"), bias=keys.flag("mlp_bias", Derived(False, where)))
    layers = layers_of(keys, ffn, where=where, **stated_bias(keys, where=where))
    return decoder(keys, layers), numerics(keys, where=where, eps=1e-5, act="relu2")


FAMILIES: Mapping[str, Family] = {
    "arcee": Family("ArceeForCausalLM", SHAPE, _arcee),
}
