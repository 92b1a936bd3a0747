"""Youtu-LLM: DeepSeek's latent attention in dense layers."""

from __future__ import annotations

from collections.abc import Mapping

from analytic.huggingface.families.common import SHAPE, Described, Family, decoder, gated, num_layers
from analytic.huggingface.families.deepseek import LATENT, latent_attention
from analytic.huggingface.numerics import numerics
from analytic.io.keys import Keys
from analytic.model.spec import (
    LayerSpec,
)


def _youtu(keys: Keys) -> Described:
    where = "YoutuConfig"
    layer = LayerSpec(attention=latent_attention(keys, where=where), ffn=gated(keys))
    spec = decoder(keys, [layer] * num_layers(keys), tied=True)
    return spec, numerics(keys, where=where, rope_interleaved=True)


FAMILIES: Mapping[str, Family] = {
    "youtu": Family("YoutuForCausalLM", (*SHAPE, *LATENT), _youtu),
}
