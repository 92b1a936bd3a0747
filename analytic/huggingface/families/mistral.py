"""Mistral and Ministral: Llama with a sliding window."""

from __future__ import annotations

from collections.abc import Mapping

from analytic.huggingface.families.common import (
    GROUPED,
    Described,
    Family,
    decoder,
    gated,
    head_dim_or_default,
    layers_of,
    num_layers,
    sliding_window,
    windows,
)
from analytic.huggingface.numerics import numerics
from analytic.io.keys import Keys


def _mistral(keys: Keys) -> Described:
    where = "MistralConfig"
    window = sliding_window(keys, 4096, where=where)
    return decoder(keys, layers_of(keys, gated(keys), where=where, windows=windows(keys, window))), numerics(
        keys, where=where
    )


def _ministral(keys: Keys) -> Described:
    where = "MinistralConfig"
    of_layers = windows(keys, sliding_window(keys, 4096, where=where))
    layers = layers_of(keys, gated(keys), where=where, windows=of_layers, head_dim=keys.integer("head_dim"))
    return decoder(keys, layers), numerics(keys, where=where)


def _ministral3(keys: Keys) -> Described:
    where = "Ministral3Config"
    window = sliding_window(keys, None, where=where)
    features = head_dim_or_default(keys, 128, where=where)
    layers = layers_of(keys, gated(keys), where=where, windows=[window] * num_layers(keys), head_dim=features)
    return decoder(keys, layers), numerics(keys, where=where, eps=1e-5, theta=1e6)


FAMILIES: Mapping[str, Family] = {
    "ministral": Family("MinistralForCausalLM", (*GROUPED, "head_dim"), _ministral),
    "ministral3": Family("Ministral3ForCausalLM", GROUPED, _ministral3),
    "mistral": Family("MistralForCausalLM", GROUPED, _mistral),
}
