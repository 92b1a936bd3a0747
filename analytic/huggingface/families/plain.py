"""Families of plain feed-forward networks that came after GPT-2: with rotary, ALiBi or fixed positions."""

from __future__ import annotations

from collections.abc import Mapping

from analytic.huggingface.families.parts import (
    GROUPED,
    SHAPE,
    Described,
    Family,
    decoder,
    divided_head_dim,
    dropout,
    layers_of,
    multi_head,
    num_layers,
    numerics,
    plain,
    same_if_stated,
    stated_activation,
    stated_bias,
)
from analytic.io.keys import Derived, Keys
from analytic.model.spec import (
    LAYER_NORM,
    LayerSpec,
    ModelSpec,
    Norm,
    NormSlot,
    Numerics,
    QkNorm,
)


def _arcee(keys: Keys) -> Described:
    where = "ArceeConfig"
    divided_head_dim(keys)  # checked by ArceeConfig even where head_dim is stated
    ffn = plain(keys.integer("intermediate_size"), bias=keys.flag("mlp_bias", Derived(False, where)))
    layers = layers_of(keys, ffn, where=where, **stated_bias(keys, where=where))
    return decoder(keys, layers), numerics(keys, where=where, eps=1e-5, act="relu2")


def _nemotron(keys: Keys) -> Described:
    where = "NemotronConfig"
    ffn = plain(keys.integer("intermediate_size"), bias=keys.flag("mlp_bias", Derived(False, where)))
    layers = layers_of(keys, ffn, where=where, norm=LAYER_NORM, **stated_bias(keys, where=where))
    return decoder(keys, layers, norm=LAYER_NORM), numerics(
        keys, where=where, eps=1e-5, eps_key="norm_eps", act="relu2"
    )


def _jais2(keys: Keys) -> Described:
    where = "Jais2Config"
    divided_head_dim(keys)  # checked by Jais2Config even where head_dim is stated
    ffn = plain(keys.integer("intermediate_size"), bias=keys.flag("mlp_bias", Derived(True, where)))
    layers = layers_of(keys, ffn, where=where, norm=LAYER_NORM, **stated_bias(keys, where=where, absent=True))
    described = numerics(keys, where=where, eps=1e-5, eps_key="layer_norm_eps", act="relu2")
    return decoder(keys, layers, norm=LAYER_NORM), described


def _persimmon(keys: Keys) -> Described:
    where = "PersimmonConfig"
    keys.must_be("head_dim", divided_head_dim(keys), "PersimmonAttention has no other")
    has_qk_norm = keys.flag("qk_layernorm", Derived(True, where))
    layer = LayerSpec(
        attention=multi_head(
            keys,
            qkv_bias=True,
            output_bias=True,
            qk_norm=QkNorm(norm=LAYER_NORM) if has_qk_norm else None,
        ),
        ffn=plain(keys.integer("intermediate_size"), bias=True),
        norm=LAYER_NORM,
        residual_dropout=dropout(keys, "hidden_dropout", 0.0),
    )
    described = numerics(keys, where=where, eps=1e-5, eps_key="layer_norm_eps", act="relu2")
    return decoder(keys, [layer] * num_layers(keys), norm=LAYER_NORM), described


def _gptj(keys: Keys) -> Described:
    return _rotary_gpt(keys, "GPTJConfig")


def _codegen(keys: Keys) -> Described:
    heads = keys.integer("n_head")
    if heads % 4:  # CodeGenAttention parts its queries, keys and values for four devices
        keys.reject("n_head", heads, "a multiple of 4")
    return _rotary_gpt(keys, "CodeGenConfig")


def _rotary_gpt(keys: Keys, where: str) -> Described:
    """GPT-J: attention without biases beside a network with them, under one norm, and a bias on the head."""
    same_if_stated(keys, _GPTJ_SPELLINGS)
    hidden = keys.integer("n_embd")
    features = divided_head_dim(keys, "n_embd", "n_head")
    if (rotary := keys.integer("rotary_dim", Derived(64, where), most=features)) % 2:
        keys.reject("rotary_dim", rotary, "an even number, as rotary embeddings turn pairs")
    layer = LayerSpec(
        attention=multi_head(keys, "n_embd", "n_head"),
        ffn=plain(keys.integer("n_inner", Derived(4 * hidden, f"4 n_embd ({where})")), bias=True),
        norm=LAYER_NORM,
        norm_slots=(NormSlot.BEFORE_ATTENTION,),
        parallel=True,
        residual_dropout=dropout(keys, "resid_pdrop", 0.0),
    )
    spec = ModelSpec(
        hidden_size=hidden,
        vocab_size=keys.integer("vocab_size"),
        layers=(layer,) * num_layers(keys, "n_layer"),
        final_norm=LAYER_NORM,
        head_bias=True,
        tie_word_embeddings=keys.flag("tie_word_embeddings", Derived(False, f"untied ({where})")),
    )
    return spec, Numerics(activation=stated_activation(keys, "gelu_new", where=where))


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


def _mpt(keys: Keys) -> Described:
    where = "MptConfig"
    same_if_stated(keys, _MPT_SPELLINGS)
    ignored = "transformers builds no other"
    keys.must_be("expansion_ratio", 4, ignored)
    keys.must_be("no_bias", True, ignored)
    of_attention = keys.section("attn_config") or Keys({})
    for key, value in (("attn_type", "multihead_attention"), ("alibi", True), ("qk_ln", False), ("prefix_lm", False)):
        of_attention.must_be(key, value, ignored)
    hidden = keys.integer("d_model")
    norm = Norm(kind="layer")
    layer = LayerSpec(
        attention=multi_head(
            keys,
            "d_model",
            "n_heads",
        ),
        ffn=plain(4 * hidden, bias=False),
        norm=norm,
        residual_dropout=dropout(of_attention, "attn_pdrop", 0.0),
    )
    spec = ModelSpec(
        hidden_size=hidden,
        vocab_size=keys.integer("vocab_size"),
        layers=(layer,) * num_layers(keys, "n_layers"),
        final_norm=norm,
        tie_word_embeddings=keys.flag("tie_word_embeddings", Derived(True, f"tied ({where})")),
        has_rotary=False,
    )
    return spec, Numerics(activation="gelu")


def _xglm(keys: Keys) -> Described:
    where = "XGLMConfig"
    same_if_stated(keys, _XGLM_SPELLINGS)
    keys.must_be("add_cross_attention", False, "cross-attention is not counted")
    layer = LayerSpec(
        attention=multi_head(
            keys,
            "d_model",
            "attention_heads",
            qkv_bias=True,
            output_bias=True,
        ),
        ffn=plain(keys.integer("ffn_dim"), bias=True),
        norm=LAYER_NORM,
        residual_dropout=dropout(keys, "dropout", 0.1),
    )
    spec = ModelSpec(
        hidden_size=keys.integer("d_model"),
        vocab_size=keys.integer("vocab_size"),
        layers=(layer,) * num_layers(keys, "num_layers"),
        final_norm=LAYER_NORM,
        tie_word_embeddings=keys.flag("tie_word_embeddings", Derived(True, f"tied ({where})")),
        has_rotary=False,  # its sinusoidal table has no parameters
    )
    return spec, Numerics(activation=stated_activation(keys, "gelu", where=where))


_GPTJ = ("n_embd", "n_head", "n_layer", "vocab_size")
_GPTJ_SPELLINGS = {"hidden_size": "n_embd", "num_attention_heads": "n_head", "num_hidden_layers": "n_layer"}
_GPT_NEO = ("hidden_size", "num_heads", "num_layers", "attention_types", "max_position_embeddings", "vocab_size")
_GPT_NEO_SPELLINGS = {"num_attention_heads": "num_heads", "num_hidden_layers": "num_layers"}
_MPT_SPELLINGS = {"hidden_size": "d_model", "num_attention_heads": "n_heads", "num_hidden_layers": "n_layers"}
_XGLM_SPELLINGS = {
    "hidden_size": "d_model",
    "num_attention_heads": "attention_heads",
    "num_hidden_layers": "num_layers",
}

FAMILIES: Mapping[str, Family] = {
    "arcee": Family("ArceeForCausalLM", SHAPE, _arcee),
    "codegen": Family("CodeGenForCausalLM", _GPTJ, _codegen),
    "gpt_neo": Family("GPTNeoForCausalLM", _GPT_NEO, _gpt_neo),
    "gptj": Family("GPTJForCausalLM", _GPTJ, _gptj),
    "jais2": Family("Jais2ForCausalLM", SHAPE, _jais2),
    "mpt": Family("MptForCausalLM", ("d_model", "n_heads", "n_layers", "vocab_size"), _mpt),
    "nemotron": Family("NemotronForCausalLM", GROUPED, _nemotron),
    "persimmon": Family("PersimmonForCausalLM", SHAPE, _persimmon),
    "xglm": Family(
        "XGLMForCausalLM",
        ("d_model", "attention_heads", "num_layers", "ffn_dim", "vocab_size"),
        _xglm,
    ),
}
