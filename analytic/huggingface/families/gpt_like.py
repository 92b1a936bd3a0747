"""Dense families of LayerNorm, learned or ALiBi positions, plain feed-forward networks or parallel residuals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analytic.errors import SpecError
from analytic.huggingface.families.parts import (
    GROUPED,
    SHAPE,
    Described,
    Family,
    decoder,
    divided_head_dim,
    dropout,
    gated,
    layers_of,
    multi_head,
    num_layers,
    numerics,
    plain,
    refuse_other_head_dim,
    same_if_stated,
    sliding_window,
    stated_activation,
    stated_bias,
    windows,
)
from analytic.io.keys import Derived, Keys
from analytic.model.spec import (
    LAYER_NORM,
    POST_NORM,
    PRE_NORM,
    GroupedQueryAttention,
    LayerSpec,
    ModelSpec,
    Norm,
    NormSlot,
    Numerics,
    QkNorm,
)

_ONE_NORM = (NormSlot.BEFORE_ATTENTION,)
_WEIGHT_ONLY = Norm(kind="layer")


def _gpt2(keys: Keys) -> Described:
    return _gpt(keys, "GPT2Config", "gelu_new", multi_query=False)


def _gpt_bigcode(keys: Keys) -> Described:
    where = "GPTBigCodeConfig"
    return _gpt(keys, where, "gelu_pytorch_tanh", multi_query=keys.flag("multi_query", Derived(True, where)))


def _gpt(keys: Keys, where: str, act: str, *, multi_query: bool) -> Described:
    """Learned positions, biases everywhere, and a dropout before the residual."""
    same_if_stated(keys, _GPT_SPELLINGS)
    keys.must_be("add_cross_attention", False, "cross-attention is not counted")
    hidden, heads = keys.integer("n_embd"), keys.integer("n_head")
    inner = keys.integer("n_inner", Derived(4 * hidden, f"4 n_embd ({where})"))
    layer = LayerSpec(
        attention=GroupedQueryAttention(
            num_heads=heads,
            num_kv_heads=1 if multi_query else heads,
            head_dim=divided_head_dim(keys, "n_embd", "n_head"),
            qkv_bias=True,
            output_bias=True,
        ),
        ffn=plain(inner, bias=True),
        norm=LAYER_NORM,
        residual_dropout=dropout(keys, "resid_pdrop", 0.1),
    )
    spec = ModelSpec(
        hidden_size=hidden,
        vocab_size=keys.integer("vocab_size"),
        layers=(layer,) * num_layers(keys, "n_layer"),
        final_norm=LAYER_NORM,
        tie_word_embeddings=keys.flag("tie_word_embeddings", Derived(True, f"tied ({where})")),
        num_positions=keys.integer("n_positions"),
        has_rotary=False,
    )
    return spec, Numerics(
        norm_eps=keys.unreported().number("layer_norm_epsilon", Derived(1e-5, where)),
        activation=stated_activation(keys, act, where=where),
    )


def _opt(keys: Keys) -> Described:
    where = "OPTConfig"
    hidden = keys.integer("hidden_size")
    biases = stated_bias(keys, where=where, key="enable_bias", absent=True)
    affine = keys.flag("layer_norm_elementwise_affine", Derived(True, where))
    norm = Norm(kind="layer", weight=affine, bias=affine)
    is_pre_norm = keys.flag("do_layer_norm_before", Derived(True, where))
    removed = keys.flag("_remove_final_layer_norm", Derived(False, where))
    width = keys.integer("word_embed_proj_dim", Derived(hidden, f"= hidden_size ({where})"))
    layer = LayerSpec(
        attention=multi_head(keys, **biases),
        ffn=plain(keys.integer("ffn_dim"), bias=biases["output_bias"]),
        norm=norm,
        norm_slots=PRE_NORM if is_pre_norm else POST_NORM,
        residual_dropout=dropout(keys, "dropout", 0.1),
    )
    spec = ModelSpec(
        hidden_size=hidden,
        vocab_size=keys.integer("vocab_size"),
        layers=(layer,) * num_layers(keys),
        final_norm=norm if is_pre_norm and not removed else None,
        embedding_size=None if width == hidden else width,
        tie_word_embeddings=keys.flag("tie_word_embeddings", Derived(True, f"tied ({where})")),
        num_positions=keys.integer("max_position_embeddings"),
        unused_positions=2,  # OPTLearnedPositionalEmbedding.offset
        has_rotary=False,
    )
    return spec, Numerics(activation=stated_activation(keys, "relu", where=where))


def _bloom(keys: Keys) -> Described:
    where = "BloomConfig"
    keys.must_be("slow_but_exact", False, "products by slices are not counted")
    hidden = keys.integer("hidden_size")
    layer = LayerSpec(
        attention=multi_head(
            keys,
            heads_key="n_head",
            qkv_bias=True,
            output_bias=True,
        ),
        ffn=plain(4 * hidden, bias=True),
        norm=LAYER_NORM,
        residual_dropout=dropout(keys, "hidden_dropout", 0.0),
    )
    spec = ModelSpec(
        hidden_size=hidden,
        vocab_size=keys.integer("vocab_size"),
        layers=(layer,) * num_layers(keys, "n_layer"),
        final_norm=LAYER_NORM,
        embedding_norm=LAYER_NORM,
        tie_word_embeddings=keys.flag("tie_word_embeddings", Derived(True, f"tied ({where})")),
        has_rotary=False,
    )
    return spec, Numerics(activation="gelu")


def _gpt_neox(keys: Keys) -> Described:
    where = "GPTNeoXConfig"
    parallel = keys.flag("use_parallel_residual", Derived(True, where))
    layer = LayerSpec(
        attention=multi_head(
            keys,
            **stated_bias(keys, where=where, absent=True),
        ),
        ffn=plain(keys.integer("intermediate_size"), bias=True),
        norm=LAYER_NORM,
        parallel=parallel,
        residual_dropout=dropout(keys, "hidden_dropout", 0.0),
    )
    spec = decoder(keys, [layer] * num_layers(keys), norm=LAYER_NORM)
    return spec, _layer_norm_numerics(keys, where, act="gelu")


def _falcon(keys: Keys) -> Described:
    where = "FalconConfig"
    hidden, heads = keys.integer("hidden_size"), keys.integer("num_attention_heads")
    is_new = keys.flag("new_decoder_architecture", Derived(False, where))
    parallel = keys.flag("parallel_attn", Derived(True, where))
    bias = keys.flag("bias", Derived(False, where))
    if is_new:
        keys.must_be("parallel_attn", True, "the new decoder architecture is parallel")
        kv_heads = keys.integer("num_kv_heads", Derived(heads, f"= num_attention_heads ({where})"))
        num_norms = keys.integer("num_ln_in_parallel_attn", Derived(2, where), most=2)
    else:
        kv_heads = 1 if keys.flag("multi_query", Derived(True, where)) else heads
        keys.must_be("num_ln_in_parallel_attn", 1, "two norms belong to the new decoder architecture")
        num_norms = 1 if parallel else 2
    if heads % kv_heads:
        raise SpecError(
            f"num_kv_heads = {kv_heads}: expected a divisor of num_attention_heads = {heads}", key="num_kv_heads"
        )
    layer = LayerSpec(
        attention=GroupedQueryAttention(
            num_heads=heads,
            num_kv_heads=kv_heads,
            head_dim=divided_head_dim(keys),
            qkv_bias=bias,
            output_bias=bias,
        ),
        ffn=plain(keys.integer("ffn_hidden_size", Derived(4 * hidden, f"4 hidden_size ({where})")), bias=bias),
        norm=LAYER_NORM,
        norm_slots=_ONE_NORM if num_norms == 1 else PRE_NORM,
        parallel=parallel,
        residual_dropout=dropout(keys, "hidden_dropout", 0.0),
    )
    has_rotary = not keys.flag("alibi", Derived(False, where))
    spec = decoder(keys, [layer] * num_layers(keys), norm=LAYER_NORM, tied=True, has_rotary=has_rotary)
    return spec, _layer_norm_numerics(keys, where, act="gelu", act_key="activation", eps_key="layer_norm_epsilon")


def _phi(keys: Keys) -> Described:
    where = "PhiConfig"
    has_qk_norm = keys.flag("qk_layernorm", Derived(False, where))
    if has_qk_norm:
        refuse_other_head_dim(keys)
    layers = layers_of(
        keys,
        plain(keys.integer("intermediate_size"), bias=True),
        where=where,
        norm=LAYER_NORM,
        norm_slots=_ONE_NORM,
        parallel=True,
        residual_dropout=dropout(keys, "resid_pdrop", 0.0),
        qkv_bias=True,
        output_bias=True,
        qk_norm=QkNorm(norm=LAYER_NORM) if has_qk_norm else None,
    )
    spec = decoder(keys, layers, norm=LAYER_NORM, head_bias=True)
    return spec, _layer_norm_numerics(keys, where, act="gelu_new")


def _starcoder2(keys: Keys) -> Described:
    where = "Starcoder2Config"
    biases = stated_bias(keys, where=where, key="use_bias", absent=True)
    layers = layers_of(
        keys,
        plain(keys.integer("intermediate_size"), bias=biases["output_bias"]),
        where=where,
        windows=windows(keys, sliding_window(keys, None, where=where)),
        norm=LAYER_NORM,
        residual_dropout=dropout(keys, "residual_dropout", 0.0),
        **biases,
    )
    spec = decoder(keys, layers, norm=LAYER_NORM, tied=True)
    return spec, _layer_norm_numerics(keys, where, act="gelu_pytorch_tanh", eps_key="norm_epsilon")


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
        norm_slots=_ONE_NORM if parallel else PRE_NORM,
        parallel=parallel,
        residual_dropout=dropout(keys, "hidden_dropout", 0.0),
        qkv_bias=keys.flag("use_qkv_bias", Derived(False, where)),
        qk_norm=QkNorm(norm=_WEIGHT_ONLY, span="all_heads") if has_qk_norm else None,
    )
    return decoder(keys, layers, norm=LAYER_NORM), _layer_norm_numerics(keys, where, act="silu")


def _cohere(keys: Keys) -> Described:
    where = "CohereConfig"
    has_qk_norm = keys.flag("use_qk_norm", Derived(False, where))
    qk_norm = QkNorm(norm=_WEIGHT_ONLY, span="all_heads") if has_qk_norm else None
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
        keys, gated(keys), where=where, norm=_WEIGHT_ONLY, norm_slots=_ONE_NORM, parallel=True, **biases, **options
    )
    return decoder(keys, layers, norm=_WEIGHT_ONLY, tied=True), _layer_norm_numerics(keys, where, act="silu")


def _olmo(keys: Keys) -> Described:
    where = "OlmoConfig"
    norm = Norm(kind="layer", weight=False)
    layers = layers_of(keys, gated(keys), where=where, norm=norm, **stated_bias(keys, where=where))
    return decoder(keys, layers, norm=norm), numerics(keys, where=where)


def _layer_norm_numerics(keys: Keys, where: str, eps_key: str = "layer_norm_eps", **options: Any) -> Numerics:
    return numerics(keys, where=where, eps=1e-5, eps_key=eps_key, **options)


_GPT_SPELLINGS = {
    "hidden_size": "n_embd",
    "max_position_embeddings": "n_positions",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
}
_GPT = ("n_embd", "n_head", "n_layer", "n_positions", "vocab_size")
_BLOOM_ALIASES = {"n_embed": "hidden_size", "num_attention_heads": "n_head", "num_hidden_layers": "n_layer"}
_WITHOUT_FFN = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")

FAMILIES: Mapping[str, Family] = {
    "bloom": Family(
        "BloomForCausalLM", ("hidden_size", "n_head", "n_layer", "vocab_size"), _bloom, aliases=_BLOOM_ALIASES
    ),
    "cohere": Family("CohereForCausalLM", SHAPE, _cohere),
    "cohere2": Family("Cohere2ForCausalLM", SHAPE, _cohere2),
    "falcon": Family("FalconForCausalLM", _WITHOUT_FFN, _falcon),
    "gpt-sw3": Family("GPT2LMHeadModel", _GPT, _gpt2),
    "gpt2": Family("GPT2LMHeadModel", _GPT, _gpt2),
    "gpt_bigcode": Family("GPTBigCodeForCausalLM", _GPT, _gpt_bigcode),
    "gpt_neox": Family("GPTNeoXForCausalLM", SHAPE, _gpt_neox),
    "olmo": Family("OlmoForCausalLM", SHAPE, _olmo),
    "opt": Family("OPTForCausalLM", (*_WITHOUT_FFN, "ffn_dim", "max_position_embeddings"), _opt),
    "phi": Family("PhiForCausalLM", SHAPE, _phi),
    "stablelm": Family("StableLmForCausalLM", GROUPED, _stablelm),
    "starcoder2": Family("Starcoder2ForCausalLM", GROUPED, _starcoder2),
}
