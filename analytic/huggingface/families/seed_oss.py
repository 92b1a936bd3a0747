"""Seed-OSS."""

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
)
from analytic.huggingface.numerics import dropout, numerics
from analytic.io.keys import Derived, Keys


def _seed_oss(keys: Keys) -> Described:
    where = "SeedOssConfig"
    layers = layers_of(
        keys,
        gated(keys, bias=keys.flag("mlp_bias", Derived(False, where))),
        where=where,
        head_dim=head_dim_or_default(keys, 128, where=where),
        residual_dropout=dropout(keys, "residual_dropout", 0.1),
        qkv_bias=keys.flag("attention_bias", Derived(True, where)),
        output_bias=keys.flag("attention_out_bias", Derived(False, where)),
    )
    return decoder(keys, layers), numerics(keys, where=where)


FAMILIES: Mapping[str, Family] = {
    "seed_oss": Family("SeedOssForCausalLM", GROUPED, _seed_oss),
}
