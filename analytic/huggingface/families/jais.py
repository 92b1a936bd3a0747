"""Jais 2: Nemotron's networks, with biases everywhere."""

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
from analytic.model.spec import (
    LAYER_NORM,
)


def _jais2(keys: Keys) -> Described:
    where = "Jais2Config"
    divided_head_dim(keys)  # checked by Jais2Config even where head_dim is stated
    ffn = plain(keys.integer("intermediate_size"), bias=keys.flag("mlp_bias", Derived(True, where)))
    layers = layers_of(keys, ffn, where=where, norm=LAYER_NORM, **stated_bias(keys, where=where, absent=True))
    described = numerics(keys, where=where, eps=1e-5, eps_key="layer_norm_eps", act="relu2")
    return decoder(keys, layers, norm=LAYER_NORM), described


FAMILIES: Mapping[str, Family] = {
    "jais2": Family("Jais2ForCausalLM", SHAPE, _jais2),
}
