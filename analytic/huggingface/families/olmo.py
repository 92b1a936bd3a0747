"""OLMo 1 to 3, and OLMoE."""

from __future__ import annotations

from collections.abc import Mapping

from analytic.huggingface.families.common import (
    LOCAL_EXPERTS_ALIAS,
    SHAPE,
    Described,
    Family,
    decoder,
    experts,
    gated,
    layers_of,
    refuse_other_head_dim,
    sliding_window,
    stated_bias,
    windows,
)
from analytic.huggingface.numerics import numerics
from analytic.huggingface.weight_names import LLAMA, NORMS_AFTER, renamed
from analytic.io.keys import Keys
from analytic.model.spec import (
    POST_NORM,
    Norm,
    QkNorm,
)


def _olmo(keys: Keys) -> Described:
    where = "OlmoConfig"
    norm = Norm(kind="layer", weight=False)
    layers = layers_of(keys, gated(keys), where=where, norm=norm, **stated_bias(keys, where=where))
    return decoder(keys, layers, norm=norm), numerics(keys, where=where)


def _olmo2(keys: Keys) -> Described:
    return _post_norm_olmo(keys, "Olmo2Config", None)


def _olmo3(keys: Keys) -> Described:
    where = "Olmo3Config"
    window = sliding_window(keys, 4096, where=where)
    return _post_norm_olmo(keys, where, windows(keys, window, lambda i: (i + 1) % 4 != 0))


def _post_norm_olmo(keys: Keys, where: str, of_layers: list[int | None] | None) -> Described:
    """Norms after each network only, and on all queries and all keys at once."""
    layers = layers_of(
        keys,
        gated(keys),
        where=where,
        windows=of_layers,
        norm_slots=POST_NORM,
        qk_norm=QkNorm(span="all_heads"),
        **stated_bias(keys, where=where),
    )
    return decoder(keys, layers), numerics(keys, where=where, eps=1e-5)


def _olmoe(keys: Keys) -> Described:
    where = "OlmoeConfig"
    refuse_other_head_dim(keys)
    layers = layers_of(
        keys,
        experts(keys, "num_experts", width_key="intermediate_size"),
        where=where,
        qk_norm=QkNorm(span="all_heads"),
        **stated_bias(keys, where=where),
    )
    return decoder(keys, layers), numerics(keys, where=where, eps=1e-5)


FAMILIES: Mapping[str, Family] = {
    "olmo": Family("OlmoForCausalLM", SHAPE, _olmo),
    "olmo2": Family("Olmo2ForCausalLM", SHAPE, _olmo2, names=renamed(LLAMA, NORMS_AFTER)),
    "olmo3": Family("Olmo3ForCausalLM", SHAPE, _olmo3, names=renamed(LLAMA, NORMS_AFTER)),
    "olmoe": Family(
        "OlmoeForCausalLM", (*SHAPE, "num_experts", "num_experts_per_tok"), _olmoe, aliases=LOCAL_EXPERTS_ALIAS
    ),
}
