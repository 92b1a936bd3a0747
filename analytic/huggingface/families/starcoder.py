"""StarCoder: GPT-BigCode with multi-query attention, and StarCoder 2."""

from __future__ import annotations

from collections.abc import Mapping

from analytic.huggingface.families.common import (
    GROUPED,
    Described,
    Family,
    decoder,
    layers_of,
    plain,
    sliding_window,
    stated_bias,
    windows,
)
from analytic.huggingface.families.gpt2 import GPT_KEYS, GPT_NAMES, gpt
from analytic.huggingface.numerics import dropout, layer_norm_numerics
from analytic.huggingface.weight_names import LLAMA, renamed
from analytic.io.keys import Derived, Keys
from analytic.model.spec import (
    LAYER_NORM,
)


def _gpt_bigcode(keys: Keys) -> Described:
    where = "GPTBigCodeConfig"
    return gpt(keys, where, "gelu_pytorch_tanh", multi_query=keys.flag("multi_query", Derived(True, where)))


def _starcoder2(keys: Keys) -> Described:
    where = "Starcoder2Config"
    biases = stated_bias(keys, where=where, key="use_bias", absent=True)
    layers = layers_of(
        keys,
        plain(keys.integer("intermediate_size"), bias=biases["output_bias"]),
        where=where,
        windows=windows(keys, sliding_window(keys, None, where=where)),
        norm=LAYER_NORM,
        residual_dropout=dropout(keys, "residual_dropout", 0.0),
        **biases,
    )
    spec = decoder(keys, layers, norm=LAYER_NORM, tied=True)
    return spec, layer_norm_numerics(keys, where, act="gelu_pytorch_tanh", eps_key="norm_epsilon")


_STARCODER2_NAMES = renamed(LLAMA, {"mlp.c_fc": "mlp.up_proj", "mlp.c_proj": "mlp.down_proj"})

FAMILIES: Mapping[str, Family] = {
    "gpt_bigcode": Family("GPTBigCodeForCausalLM", GPT_KEYS, _gpt_bigcode, names=GPT_NAMES),
    "starcoder2": Family(
        "Starcoder2ForCausalLM",
        GROUPED,
        _starcoder2,
        names=_STARCODER2_NAMES,
    ),
}
