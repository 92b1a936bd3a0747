"""GPT-Neo: GPT-2 with a window in every other layer."""

from __future__ import annotations

from collections.abc import Mapping

from analytic.huggingface.families.common import Described, Family, multi_head, num_layers, plain, same_if_stated
from analytic.huggingface.families.gpt2 import GPT_NAMES
from analytic.huggingface.numerics import dropout, stated_activation
from analytic.huggingface.weight_names import renamed
from analytic.io.keys import Derived, Keys
from analytic.model.spec import (
    LAYER_NORM,
    LayerSpec,
    ModelSpec,
    Numerics,
)


def _gpt_neo(keys: Keys) -> Described:
    where = "GPTNeoConfig"
    same_if_stated(keys, _GPT_NEO_SPELLINGS)
    hidden, count = keys.integer("hidden_size"), num_layers(keys, "num_layers")
    layers = [
        LayerSpec(
            attention=multi_head(
                keys,
                heads_key="num_heads",
                output_bias=True,
                sliding_window=window,
            ),
            ffn=plain(keys.integer("intermediate_size", Derived(4 * hidden, f"4 hidden_size ({where})")), bias=True),
            norm=LAYER_NORM,
            residual_dropout=dropout(keys, "resid_dropout", 0.0),
        )
        for window in _gpt_neo_windows(keys, count, where=where)
    ]
    spec = ModelSpec(
        hidden_size=hidden,
        vocab_size=keys.integer("vocab_size"),
        layers=tuple(layers),
        final_norm=LAYER_NORM,
        tie_word_embeddings=keys.flag("tie_word_embeddings", Derived(True, f"tied ({where})")),
        num_positions=keys.integer("max_position_embeddings"),
        has_rotary=False,
    )
    return spec, Numerics(activation=stated_activation(keys, "gelu_new", where=where))


def _gpt_neo_windows(keys: Keys, count: int, *, where: str) -> list[int | None]:
    """`attention_types` is a list of [kinds, repetitions]: [[["global", "local"], 12]] are 24 layers."""
    stated = keys.config["attention_types"]
    expected = f"a list of [kinds, repetitions] that make {count} layers, each kind global or local"
    kinds: list[str] = []
    try:
        for of_layers, repetitions in stated:
            if not 0 <= repetitions <= count:
                keys.reject("attention_types", stated, expected)
            kinds += [*of_layers] * repetitions
    except (TypeError, ValueError):
        keys.reject("attention_types", stated, expected)
    if len(kinds) != count or not {*kinds} <= {"global", "local"}:
        keys.reject("attention_types", stated, expected)
    keys.must_be("attention_layers", kinds, "as attention_types says")
    window = keys.integer("window_size", Derived(256, where))
    return [window if kind == "local" else None for kind in kinds]


_GPT_NEO = ("hidden_size", "num_heads", "num_layers", "attention_types", "max_position_embeddings", "vocab_size")
_GPT_NEO_SPELLINGS = {"num_attention_heads": "num_heads", "num_hidden_layers": "num_layers"}
_NAMES = renamed(
    GPT_NAMES,
    {
        "attn.attention": "self_attn",
        "attn.attention.q_proj": "self_attn.q_proj",
        "attn.attention.k_proj": "self_attn.k_proj",
        "attn.attention.v_proj": "self_attn.v_proj",
        "attn.attention.out_proj": "self_attn.o_proj",
    },
)

FAMILIES: Mapping[str, Family] = {
    "gpt_neo": Family("GPTNeoForCausalLM", _GPT_NEO, _gpt_neo, names=_NAMES),
}
