"""StableLM."""

from __future__ import annotations

from collections.abc import Mapping

from analytic.huggingface.families.common import (
    GROUPED,
    ONE_NORM,
    WEIGHT_ONLY,
    Described,
    Family,
    decoder,
    divided_head_dim,
    gated,
    layers_of,
)
from analytic.huggingface.numerics import dropout, layer_norm_numerics
from analytic.huggingface.weight_names import LLAMA, renamed
from analytic.io.keys import Derived, Keys
from analytic.model.spec import (
    LAYER_NORM,
    PRE_NORM,
    QkNorm,
)


def _stablelm(keys: Keys) -> Described:
    where = "StableLmConfig"
    has_qk_norm = keys.flag("qk_layernorm", Derived(False, where))
    parallel = keys.flag("use_parallel_residual", Derived(False, where))
    layers = layers_of(
        keys,
        gated(keys),
        where=where,
        head_dim=divided_head_dim(keys),
        norm=LAYER_NORM,
        norm_slots=ONE_NORM if parallel else PRE_NORM,
        parallel=parallel,
        residual_dropout=dropout(keys, "hidden_dropout", 0.0),
        qkv_bias=keys.flag("use_qkv_bias", Derived(False, where)),
        qk_norm=QkNorm(norm=WEIGHT_ONLY, span="all_heads") if has_qk_norm else None,
    )
    return decoder(keys, layers, norm=LAYER_NORM), layer_norm_numerics(keys, where, act="silu")


_NAMES = renamed(
    LLAMA, {"self_attn.q_layernorm.norms.*": "self_attn.q_norm", "self_attn.k_layernorm.norms.*": "self_attn.k_norm"}
)

FAMILIES: Mapping[str, Family] = {
    "stablelm": Family("StableLmForCausalLM", GROUPED, _stablelm, names=_NAMES),
}
