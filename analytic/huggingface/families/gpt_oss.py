"""gpt-oss: experts with biases, attention sinks, and a window in every other layer."""

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
    head_dim_or_default,
    layers_of,
    sliding_window,
    stated_bias,
    windows,
)
from analytic.huggingface.numerics import numerics
from analytic.huggingface.weight_names import LLAMA, renamed
from analytic.io.keys import Keys


def _gpt_oss(keys: Keys) -> Described:
    where = "GptOssConfig"
    window = sliding_window(keys, 128, where=where)
    layers = layers_of(
        keys,
        experts(keys, "num_local_experts", width_key="intermediate_size", expert_bias=True, router_bias=True),
        where=where,
        windows=windows(keys, window, lambda i: i % 2 == 0),
        head_dim=head_dim_or_default(keys, 64, where=where),
        sinks=True,
        **stated_bias(keys, where=where, absent=True),
    )
    return decoder(keys, layers), numerics(keys, where=where, eps=1e-5, theta=150_000.0)


_NAMES = renamed(LLAMA, {"mlp.router": "mlp.gate"})

FAMILIES: Mapping[str, Family] = {
    "gpt_oss": Family(
        "GptOssForCausalLM",
        (*GROUPED, *LOCAL_EXPERTS),
        _gpt_oss,
        aliases=NUM_EXPERTS_ALIAS,
        names=_NAMES,
    ),
}
