"""Cohere's Command: parallel networks under one norm that has a weight only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analytic.huggingface.families.common import (
    ONE_NORM,
    SHAPE,
    WEIGHT_ONLY,
    Described,
    Family,
    decoder,
    gated,
    layers_of,
    sliding_window,
    stated_bias,
    windows,
)
from analytic.huggingface.numerics import layer_norm_numerics
from analytic.io.keys import Derived, Keys
from analytic.model.spec import (
    QkNorm,
)


def _cohere(keys: Keys) -> Described:
    where = "CohereConfig"
    has_qk_norm = keys.flag("use_qk_norm", Derived(False, where))
    qk_norm = QkNorm(norm=WEIGHT_ONLY, span="all_heads") if has_qk_norm else None
    return _parallel_cohere(keys, where, qk_norm=qk_norm)


def _cohere2(keys: Keys) -> Described:
    where = "Cohere2Config"
    window = sliding_window(keys, 4096, where=where)
    if keys.config.get("layer_types") is not None:
        of_layers = windows(keys, window)
    else:
        pattern = keys.integer("sliding_window_pattern", Derived(4, where))
        of_layers = windows(keys, window, lambda i: (i + 1) % pattern != 0)
    return _parallel_cohere(keys, where, windows=of_layers)


def _parallel_cohere(keys: Keys, where: str, **options: Any) -> Described:
    """Gated networks beside attention, under one norm that has a weight only."""
    biases = stated_bias(keys, where=where)
    layers = layers_of(
        keys, gated(keys), where=where, norm=WEIGHT_ONLY, norm_slots=ONE_NORM, parallel=True, **biases, **options
    )
    return decoder(keys, layers, norm=WEIGHT_ONLY, tied=True), layer_norm_numerics(keys, where, act="silu")


FAMILIES: Mapping[str, Family] = {
    "cohere": Family("CohereForCausalLM", SHAPE, _cohere),
    "cohere2": Family("Cohere2ForCausalLM", SHAPE, _cohere2),
}
