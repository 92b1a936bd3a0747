"""SmolLM3: rotary embeddings in three layers of four."""

from __future__ import annotations

from collections.abc import Mapping

from analytic.huggingface.families.common import (
    GROUPED,
    Described,
    Family,
    decoder,
    gated,
    layers_of,
    num_layers,
    stated_bias,
    used_window,
    windows,
)
from analytic.huggingface.numerics import numerics
from analytic.io.keys import Derived, Keys


def _smollm3(keys: Keys) -> Described:
    where = "SmolLM3Config"
    window = used_window(keys, where=where, absent=None)
    if window is None and any(windows(keys, 1, lambda _: False)):
        reason = "true with a window, as layer_types has it: eager attention masks it, and flash attention does not"
        keys.reject("use_sliding_window", keys.config.get("use_sliding_window"), reason)
    count = num_layers(keys)
    if keys.config.get("no_rope_layers") is not None:
        rotary = keys.switches("no_rope_layers", length=count)
    else:
        interval = keys.integer("no_rope_layer_interval", Derived(4, where))
        rotary = [(i + 1) % interval != 0 for i in range(count)]
    layers = layers_of(
        keys,
        gated(keys, bias=keys.flag("mlp_bias", Derived(False, where))),
        where=where,
        windows=windows(keys, window, lambda i: not rotary[i]),
        **stated_bias(keys, where=where),
    )
    return decoder(keys, layers, tied=True), numerics(keys, where=where, theta=2e6)


FAMILIES: Mapping[str, Family] = {
    "smollm3": Family("SmolLM3ForCausalLM", GROUPED, _smollm3),
}
