"""Nemotron: LayerNorm, and squared-ReLU networks without a gate."""

from __future__ import annotations

from collections.abc import Mapping

from analytic.huggingface.families.common import GROUPED, Described, Family, decoder, layers_of, plain, stated_bias
from analytic.huggingface.numerics import numerics
from analytic.io.keys import Derived, Keys
from analytic.model.spec import (
    LAYER_NORM,
)


def _nemotron(keys: Keys) -> Described:
    where = "NemotronConfig"
    keys.integer("num_key_value_heads")  # a null is taken for no other number
    ffn = plain(keys.integer("intermediate_size"), bias=keys.flag("mlp_bias", Derived(False, where)))
    layers = layers_of(keys, ffn, where=where, norm=LAYER_NORM, **stated_bias(keys, where=where))
    return decoder(keys, layers, norm=LAYER_NORM), numerics(
        keys, where=where, eps=1e-5, eps_key="norm_eps", act="relu2"
    )


FAMILIES: Mapping[str, Family] = {
    "nemotron": Family("NemotronForCausalLM", GROUPED, _nemotron),
}
