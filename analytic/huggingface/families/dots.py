"""dots.llm1: DeepSeek-V3's experts under grouped-query attention."""

from __future__ import annotations

from collections.abc import Mapping

from analytic.huggingface.families.common import (
    Described,
    Family,
    decoder,
    dense_then_moe,
    gated,
    layers_of,
    sliding_window,
    stated_bias,
    windows,
)
from analytic.huggingface.families.deepseek import ROUTED_ALIASES, SIGMOID_ROUTED, sigmoid_routed
from analytic.huggingface.numerics import numerics
from analytic.io.keys import Derived, Keys
from analytic.model.spec import (
    QkNorm,
)


def _dots1(keys: Keys) -> Described:
    where = "Dots1Config"
    window = sliding_window(keys, 4096, where=where)
    first = 0 if window is None else keys.integer("max_window_layers", Derived(62, where), least=0)
    moe, routing = sigmoid_routed(keys, where)
    layers = layers_of(
        keys,
        dense_then_moe(keys, gated(keys), moe),
        where=where,
        windows=windows(keys, window, lambda i: i >= first),
        qk_norm=QkNorm(),
        **stated_bias(keys, where=where),
    )
    return decoder(keys, layers), numerics(keys, where=where, routing=routing)


FAMILIES: Mapping[str, Family] = {
    "dots1": Family("Dots1ForCausalLM", SIGMOID_ROUTED, _dots1, aliases=ROUTED_ALIASES),
}
