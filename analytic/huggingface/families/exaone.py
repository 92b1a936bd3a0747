"""EXAONE 4: norms after each network, and a window in three layers of four."""

from __future__ import annotations

from collections.abc import Mapping

from analytic.huggingface.families.common import (
    GROUPED,
    Described,
    Family,
    decoder,
    gated,
    layers_of,
    sliding_window,
    windows,
)
from analytic.huggingface.numerics import numerics
from analytic.huggingface.weight_names import LLAMA, NORMS_AFTER, renamed
from analytic.io.keys import Derived, Keys
from analytic.model.spec import (
    POST_NORM,
    QkNorm,
)


def _exaone4(keys: Keys) -> Described:
    where = "Exaone4Config"
    window = sliding_window(keys, 4096, where=where)
    if window is None or keys.config.get("layer_types") is not None:
        of_layers = windows(keys, window)
    else:
        pattern = keys.integer("sliding_window_pattern", Derived(4, where))
        of_layers = windows(keys, window, lambda i: (i + 1) % pattern != 0)
    layers = layers_of(keys, gated(keys), where=where, windows=of_layers, norm_slots=POST_NORM, qk_norm=QkNorm())
    return decoder(keys, layers), numerics(keys, where=where, eps=1e-5)


FAMILIES: Mapping[str, Family] = {
    "exaone4": Family("Exaone4ForCausalLM", GROUPED, _exaone4, names=renamed(LLAMA, NORMS_AFTER)),
}
