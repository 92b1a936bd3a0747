"""Helium."""

from __future__ import annotations

from collections.abc import Mapping

from analytic.huggingface.families.common import GROUPED, Described, Family, decoder, gated, layers_of
from analytic.huggingface.numerics import numerics
from analytic.io.keys import Derived, Keys


def _helium(keys: Keys) -> Described:
    where = "HeliumConfig"
    hidden, heads = keys.integer("hidden_size"), keys.integer("num_attention_heads")
    features = keys.integer("head_dim", Derived(128, where))
    if heads * features != hidden:  # HeliumAttention.o_proj is square
        keys.reject("head_dim", features, f"hidden_size / num_attention_heads = {hidden} / {heads}")
    layers = layers_of(
        keys,
        gated(keys, bias=keys.flag("mlp_bias", Derived(False, where))),
        where=where,
        head_dim=features,
        qkv_bias=keys.flag("attention_bias", Derived(False, where)),
    )
    return decoder(keys, layers), numerics(keys, where=where, eps=1e-8, theta=100_000.0)


FAMILIES: Mapping[str, Family] = {
    "helium": Family("HeliumForCausalLM", GROUPED, _helium),
}
