"""MiniMax-M2: experts with a score correction, and norms over all heads."""

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
    layers_of,
)
from analytic.huggingface.numerics import numerics
from analytic.huggingface.weight_names import LLAMA, renamed
from analytic.io.keys import Derived, Keys
from analytic.model.spec import (
    QkNorm,
)


def _minimax_m2(keys: Keys) -> Described:
    where = "MiniMaxM2Config"
    layers = layers_of(
        keys,
        experts(keys, "num_local_experts", width_key="intermediate_size", score_correction="buffer"),
        where=where,
        head_dim=keys.integer("head_dim", Derived(128, where)),
        qk_norm=QkNorm(span="all_heads"),
    )
    return decoder(keys, layers), numerics(keys, where=where, theta=5e6)


_NAMES = renamed(LLAMA, {"mlp.e_score_correction_bias": "mlp.gate.e_score_correction_bias"})

FAMILIES: Mapping[str, Family] = {
    "minimax_m2": Family(
        "MiniMaxM2ForCausalLM",
        (*GROUPED, *LOCAL_EXPERTS),
        _minimax_m2,
        aliases=NUM_EXPERTS_ALIAS,
        names=_NAMES,
    ),
}
