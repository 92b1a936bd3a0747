"""Dense families of RMSNorm and gated feed-forward networks, and what sets each apart from Llama."""

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
    dropout,
    gated,
    head_dim_or_default,
    layers_of,
    num_layers,
    numerics,
    sliding_window,
    stated_bias,
    used_window,
    windows,
)
from analytic.io.keys import Derived, Keys
from analytic.model.spec import POST_NORM, PRE_NORM, SANDWICH_NORM, LayerSpec, NormSlot, QkNorm


def _llama(keys: Keys) -> Described:
    hidden = keys.integer("hidden_size")
    if hidden % keys.integer("num_attention_heads"):  # refused by LlamaConfig even where head_dim is stated
        raise SpecError(f"hidden_size = {hidden}: expected a multiple of num_attention_heads", key="hidden_size")
    return _llama_of(keys, "LlamaConfig")


def _granite(keys: Keys) -> Described:
    return _llama_of(keys, "GraniteConfig")


def _llama_of(keys: Keys, where: str) -> Described:
    ffn = gated(keys, bias=keys.flag("mlp_bias", Derived(False, where)))
    layers = layers_of(keys, ffn, where=where, **stated_bias(keys, where=where))
    return decoder(keys, layers), numerics(keys, where=where)


def _mistral(keys: Keys) -> Described:
    where = "MistralConfig"
    window = sliding_window(keys, 4096, where=where)
    return decoder(keys, layers_of(keys, gated(keys), where=where, windows=windows(keys, window))), numerics(
        keys, where=where
    )


def qwen_windows(keys: Keys, *, where: str) -> list[int | None]:
    """The window of each layer: those from `max_window_layers` on, unless `layer_types` says which."""
    window = used_window(keys, where=where)
    if window is None or keys.config.get("layer_types") is not None:
        return windows(keys, window)
    first = keys.integer("max_window_layers", Derived(28, where), least=0)
    return windows(keys, window, lambda i: i >= first)


def _qwen2(keys: Keys) -> Described:
    where = "Qwen2Config"
    of_layers = qwen_windows(keys, where=where)
    layers = layers_of(keys, gated(keys), where="Qwen2Attention", windows=of_layers, qkv_bias=True)
    return decoder(keys, layers), numerics(keys, where=where)


def _qwen3(keys: Keys) -> Described:
    where = "Qwen3Config"
    layers = layers_of(
        keys,
        gated(keys),
        where=where,
        windows=qwen_windows(keys, where=where),
        head_dim=keys.integer("head_dim", Derived(128, where)),
        qk_norm=QkNorm(),
        **stated_bias(keys, where=where),
    )
    return decoder(keys, layers), numerics(keys, where=where)


def _phi3(keys: Keys) -> Described:
    where = "Phi3Config"
    layers = layers_of(
        keys,
        gated(keys),
        where=where,
        windows=windows(keys, sliding_window(keys, None, where=where)),
        residual_dropout=dropout(keys, "resid_pdrop", 0.0),
    )
    return decoder(keys, layers), numerics(keys, where=where, eps=1e-5, rope_spellings={"su": "longrope"})


def _smollm3(keys: Keys) -> Described:
    where = "SmolLM3Config"
    window = used_window(keys, where=where, absent=None)
    if window is None and any(windows(keys, 1, lambda _: False)):
        reason = "true with a window, as layer_types has it: eager attention masks it, and flash attention does not"
        keys.reject("use_sliding_window", keys.config.get("use_sliding_window"), reason)
    count = num_layers(keys)
    if keys.config.get("no_rope_layers") is not None:
        rotary = keys.switches("no_rope_layers", length=count)
    else:
        interval = keys.integer("no_rope_layer_interval", Derived(4, where))
        rotary = [(i + 1) % interval != 0 for i in range(count)]
    layers = layers_of(
        keys,
        gated(keys, bias=keys.flag("mlp_bias", Derived(False, where))),
        where=where,
        windows=windows(keys, window, lambda i: not rotary[i]),
        **stated_bias(keys, where=where),
    )
    return decoder(keys, layers, tied=True), numerics(keys, where=where, theta=2e6)


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
    window = sliding_window(keys, 4096, where=where)
    of_layers = windows(keys, window, lambda i: (i + 1) % pattern != 0)
    layers = _gemma_layers(keys, where, windows=of_layers, norm_slots=SANDWICH_NORM, qk_norm=qk_norm)
    described = numerics(keys, where=where, act="gelu_pytorch_tanh", act_key="hidden_activation")
    return decoder(keys, layers, tied=True), described


def _gemma_layers(keys: Keys, where: str, **options: Any) -> list[LayerSpec]:
    keys.must_be("use_bidirectional_attention", False, "attention that sees later positions is not counted")
    features = keys.integer("head_dim", Derived(256, where))
    return layers_of(keys, gated(keys), where=where, head_dim=features, **stated_bias(keys, where=where), **options)


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


def _glm(keys: Keys) -> Described:
    return _glm_of(keys, "GlmConfig", PRE_NORM)


def _glm4(keys: Keys) -> Described:
    return _glm_of(keys, "Glm4Config", SANDWICH_NORM)


def _glm_of(keys: Keys, where: str, norm_slots: tuple[NormSlot, ...]) -> Described:
    """A bias on queries, keys and values alone."""
    layers = layers_of(
        keys,
        gated(keys),
        where=where,
        head_dim=keys.integer("head_dim", Derived(128, where)),
        qkv_bias=keys.flag("attention_bias", Derived(True, where)),
        norm_slots=norm_slots,
    )
    return decoder(keys, layers), numerics(keys, where=where, eps=1.5625e-7)


def _ernie4_5(keys: Keys) -> Described:
    where = "Ernie4_5Config"
    biases = stated_bias(keys, where=where, key="use_bias")
    layers = layers_of(
        keys,
        gated(keys, bias=biases["output_bias"]),
        where=where,
        head_dim=head_dim_or_default(keys, 128, where=where),
        **biases,
    )
    return decoder(keys, layers, tied=True), numerics(keys, where=where, eps=1e-5, theta=500_000.0)


def _seed_oss(keys: Keys) -> Described:
    where = "SeedOssConfig"
    layers = layers_of(
        keys,
        gated(keys, bias=keys.flag("mlp_bias", Derived(False, where))),
        where=where,
        head_dim=head_dim_or_default(keys, 128, where=where),
        residual_dropout=dropout(keys, "residual_dropout", 0.1),
        qkv_bias=keys.flag("attention_bias", Derived(True, where)),
        output_bias=keys.flag("attention_out_bias", Derived(False, where)),
    )
    return decoder(keys, layers), numerics(keys, where=where)


def _helium(keys: Keys) -> Described:
    where = "HeliumConfig"
    hidden, heads = keys.integer("hidden_size"), keys.integer("num_attention_heads")
    features = keys.integer("head_dim", Derived(128, where))
    if heads * features != hidden:  # HeliumAttention.o_proj is square
        keys.reject("head_dim", features, f"hidden_size / num_attention_heads = {hidden} / {heads}")
    layers = layers_of(
        keys,
        gated(keys, bias=keys.flag("mlp_bias", Derived(False, where))),
        where=where,
        head_dim=features,
        qkv_bias=keys.flag("attention_bias", Derived(False, where)),
    )
    return decoder(keys, layers), numerics(keys, where=where, eps=1e-8, theta=100_000.0)


def _ministral(keys: Keys) -> Described:
    where = "MinistralConfig"
    of_layers = windows(keys, sliding_window(keys, 4096, where=where))
    layers = layers_of(keys, gated(keys), where=where, windows=of_layers, head_dim=keys.integer("head_dim"))
    return decoder(keys, layers), numerics(keys, where=where)


def _ministral3(keys: Keys) -> Described:
    where = "Ministral3Config"
    window = sliding_window(keys, None, where=where)
    features = head_dim_or_default(keys, 128, where=where)
    layers = layers_of(keys, gated(keys), where=where, windows=[window] * num_layers(keys), head_dim=features)
    return decoder(keys, layers), numerics(keys, where=where, eps=1e-5, theta=1e6)


def _hunyuan_v1_dense(keys: Keys) -> Described:
    where = "HunYuanDenseV1Config"
    layers = layers_of(
        keys,
        gated(keys),
        where=where,
        head_dim=keys.integer("head_dim"),
        qk_norm=QkNorm(),
        **stated_bias(keys, where=where),
    )
    return decoder(keys, layers), numerics(keys, where=where, eps=1e-5)


def _internlm3(keys: Keys) -> Described:
    where = "InternLM3Config"
    biases = stated_bias(keys, where=where)
    if keys.flag("mlp_bias", Derived(False, where)) != biases["output_bias"]:
        keys.reject("mlp_bias", keys.config.get("mlp_bias"), "the value of attention_bias (InternLM3Config)")
    return _llama_of_128(keys, where)


def _iquestcoder(keys: Keys) -> Described:
    keys.must_be("use_sliding_window", False, "refused by IQuestCoderConfig")
    keys.must_be("clip_qkv", None, "refused by IQuestCoderConfig")
    return _llama_of_128(keys, "IQuestCoderConfig")


def _llama_of_128(keys: Keys, where: str) -> Described:
    """Llama's own class, but for 128 features a head where the file says nothing."""
    head_dim_or_default(keys, 128, where=where)
    return _llama_of(Keys({"head_dim": 128, **keys.config}, keys.derived), where)


# Google's files of Gemma 3 state in text_config only what differs from Gemma3TextConfig.
_GEMMA3_DEFAULTS = {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 262_208}

FAMILIES: Mapping[str, Family] = {
    "ernie4_5": Family("Ernie4_5ForCausalLM", GROUPED, _ernie4_5),
    "exaone4": Family("Exaone4ForCausalLM", GROUPED, _exaone4),
    "gemma": Family("GemmaForCausalLM", GROUPED, _gemma),
    "gemma2": Family("Gemma2ForCausalLM", GROUPED, _gemma2),
    "gemma3_text": Family("Gemma3ForCausalLM", GROUPED, _gemma3, nested_defaults=_GEMMA3_DEFAULTS),
    "glm": Family("GlmForCausalLM", GROUPED, _glm),
    "glm4": Family("Glm4ForCausalLM", GROUPED, _glm4),
    "granite": Family("GraniteForCausalLM", SHAPE, _granite),
    "helium": Family("HeliumForCausalLM", GROUPED, _helium),
    "hunyuan_v1_dense": Family(
        "HunYuanDenseV1ForCausalLM",
        (*GROUPED, "head_dim"),
        _hunyuan_v1_dense,
        aliases={"attention_head_dim": "head_dim"},
    ),
    "internlm3": Family(
        "LlamaForCausalLM", GROUPED, _internlm3, aliases={"qkv_bias": "attention_bias", "bias": "mlp_bias"}
    ),
    "iquestcoder": Family("LlamaForCausalLM", GROUPED, _iquestcoder),
    "llama": Family("LlamaForCausalLM", SHAPE, _llama),
    "ministral": Family("MinistralForCausalLM", (*GROUPED, "head_dim"), _ministral),
    "ministral3": Family("Ministral3ForCausalLM", GROUPED, _ministral3),
    "mistral": Family("MistralForCausalLM", GROUPED, _mistral),
    "olmo2": Family("Olmo2ForCausalLM", SHAPE, _olmo2),
    "olmo3": Family("Olmo3ForCausalLM", SHAPE, _olmo3),
    "phi3": Family("Phi3ForCausalLM", SHAPE, _phi3),
    "qwen2": Family("Qwen2ForCausalLM", GROUPED, _qwen2),
    "qwen3": Family("Qwen3ForCausalLM", GROUPED, _qwen3),
    "seed_oss": Family("SeedOssForCausalLM", GROUPED, _seed_oss),
    "smollm3": Family("SmolLM3ForCausalLM", GROUPED, _smollm3),
}
