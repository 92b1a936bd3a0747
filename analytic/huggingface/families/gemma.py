"""Gemma 1 to 3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analytic.huggingface.families.common import (
    GROUPED,
    Described,
    Family,
    decoder,
    divided_head_dim,
    gated,
    layers_of,
    sliding_window,
    stated_bias,
    windows,
)
from analytic.huggingface.numerics import numerics
from analytic.huggingface.weight_names import LLAMA, NORMS_AFTER, renamed
from analytic.io.keys import Derived, Keys
from analytic.model.spec import (
    SANDWICH_NORM,
    LayerSpec,
    QkNorm,
)


def _gemma(keys: Keys) -> Described:
    where = "GemmaConfig"
    layers = _gemma_layers(keys, where)
    return decoder(keys, layers, tied=True), numerics(keys, where=where, act="gelu_pytorch_tanh")


def _gemma2(keys: Keys) -> Described:
    return _alternating_gemma(keys, "Gemma2Config", pattern=2, qk_norm=None)


def _gemma3(keys: Keys) -> Described:
    where = "Gemma3TextConfig"
    pattern = keys.integer("sliding_window_pattern", Derived(6, where))
    return _alternating_gemma(keys, where, pattern=pattern, qk_norm=QkNorm())


def _alternating_gemma(keys: Keys, where: str, *, pattern: int, qk_norm: QkNorm | None) -> Described:
    """Every `pattern`-th layer sees everything, the others a window; norms before and after each network."""
    divided_head_dim(keys)  # checked by the class, which divides by neither
    window = sliding_window(keys, 4096, where=where)
    of_layers = windows(keys, window, lambda i: (i + 1) % pattern != 0)
    layers = _gemma_layers(keys, where, windows=of_layers, norm_slots=SANDWICH_NORM, qk_norm=qk_norm)
    described = numerics(keys, where=where, act="gelu_pytorch_tanh", act_key="hidden_activation")
    return decoder(keys, layers, tied=True), described


def _gemma_layers(keys: Keys, where: str, **options: Any) -> list[LayerSpec]:
    keys.must_be("use_bidirectional_attention", False, "attention that sees later positions is not counted")
    features = keys.integer("head_dim", Derived(256, where))
    return layers_of(keys, gated(keys), where=where, head_dim=features, **stated_bias(keys, where=where), **options)


_GEMMA3_DEFAULTS = {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 262_208}
_NAMES = renamed(LLAMA, {**NORMS_AFTER, "pre_feedforward_layernorm": "post_attention_layernorm"})

FAMILIES: Mapping[str, Family] = {
    "gemma": Family("GemmaForCausalLM", GROUPED, _gemma),
    "gemma2": Family("Gemma2ForCausalLM", GROUPED, _gemma2, names=_NAMES),
    "gemma3_text": Family("Gemma3ForCausalLM", GROUPED, _gemma3, nested_defaults=_GEMMA3_DEFAULTS, names=_NAMES),
}
