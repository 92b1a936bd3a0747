"""The families that can be read: for each `model_type` its required keys and the parser of its `config.json`.

Each parser derives an absent key only as written here, with its source. An unlisted class default is
never used: a file that carries a known `model_type` beside another schema's keys is an error, not a
model of default size. With `analytic.hf` the only modules that know Hugging Face's key names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from analytic.errors import SpecError
from analytic.keys import Derived, Keys
from analytic.spec import (
    MAX_LAYERS,
    Attention,
    DenseFfn,
    FeedForward,
    GroupedQueryAttention,
    LatentAttention,
    LayerSpec,
    ModelSpec,
    MoeFfn,
    Norm,
    Numerics,
    Routing,
)

# What `transformers` knows by name (modeling_rope_utils.py, activations.py); it fails on any other.
ROTARY_TYPES = ("default", "dynamic", "linear", "llama3", "longrope", "proportional", "yarn")
ACTIVATIONS = (
    *("gelu", "gelu_10", "gelu_accurate", "gelu_fast", "gelu_new", "gelu_python", "gelu_python_tanh"),
    *("gelu_pytorch_tanh", "hardswish", "laplace", "leaky_relu", "linear", "mish", "quick_gelu", "relu", "relu2"),
    *("relu6", "sigmoid", "silu", "swish", "tanh"),
)


@dataclass(frozen=True, slots=True)
class Family:
    """One `model_type`: the class that is counted, the keys a config must state, and the parser."""

    transformers_class: str
    required: tuple[str, ...]
    parse: Callable[[Keys], tuple[ModelSpec, Numerics]]


# Parts that several families share


def _heads_and_head_dim(keys: Keys, *, where: str) -> tuple[int, int]:
    """Query heads, and `head_dim` or hidden_size / heads where the family's class divides so."""
    hidden, heads = keys.integer("hidden_size"), keys.integer("num_attention_heads")
    if keys.config.get("head_dim") is None and hidden % heads:
        raise SpecError(f"hidden_size = {hidden}: expected a multiple of num_attention_heads = {heads}")
    derived = Derived(hidden // heads, f"hidden_size / num_attention_heads ({where})")
    return heads, keys.integer("head_dim", derived)


def _grouped_query(
    heads: int, head_dim: int, kv_heads: int, *, window: int | None = None, **options: bool
) -> GroupedQueryAttention:
    if heads % kv_heads:
        raise SpecError(f"num_key_value_heads = {kv_heads}: expected a divisor of num_attention_heads = {heads}")
    return GroupedQueryAttention(
        num_heads=heads, num_kv_heads=kv_heads, head_dim=head_dim, sliding_window=window, **options
    )


def _num_layers(keys: Keys, key: str = "num_hidden_layers") -> int:
    return keys.integer(key, most=MAX_LAYERS)


def _window(keys: Keys, *, where: str) -> int | None:
    """Qwen's sliding window: `sliding_window` counts only where `use_sliding_window` is true."""
    if not keys.flag("use_sliding_window", Derived(False, f"off ({where})")):
        return None
    return keys.optional_integer("sliding_window", Derived(4096, where))


def _qwen_windows(keys: Keys, num_layers: int, *, where: str) -> list[int | None]:
    """The window of each layer: those from `max_window_layers` on, unless `layer_types` says which."""
    window = _window(keys, where=where)
    if keys.config.get("layer_types") is not None:
        kinds = keys.texts("layer_types", length=num_layers, among=("full_attention", "sliding_attention"))
        return [window if kind == "sliding_attention" else None for kind in kinds]
    if window is None:
        return [None] * num_layers
    first = keys.integer("max_window_layers", Derived(28, where), least=0)
    return [window if i >= first else None for i in range(num_layers)]


def _decoder(keys: Keys, layers: list[LayerSpec], *, mtp_layers: tuple[LayerSpec, ...] = ()) -> ModelSpec:
    """A model with rotary embeddings and RMSNorm, its head untied unless the config ties it."""
    return ModelSpec(
        hidden_size=keys.integer("hidden_size"),
        vocab_size=keys.integer("vocab_size"),
        layers=tuple(layers),
        tie_word_embeddings=keys.flag("tie_word_embeddings", Derived(False, "untied (PreTrainedConfig of the family)")),
        mtp_layers=mtp_layers,
    )


def _numerics(keys: Keys, *, where: str, eps: float = 1e-6, theta: float = 10_000.0, **more: Any) -> Numerics:
    """Epsilon, activation and rotary base; `rope_parameters` (transformers 5) before the older keys."""
    keys = keys.unreported()
    base, scaling = keys, keys.section("rope_scaling")
    if (parameters := keys.section("rope_parameters")) is not None:
        base = scaling = parameters
    rope_type = "default"
    if scaling is not None:
        key = "rope_type" if "rope_type" in scaling.config else "type"
        rope_type = scaling.text(key, Derived("default", "no rotary scaling named"), among=ROTARY_TYPES)
    return Numerics(
        norm_eps=keys.number("rms_norm_eps", Derived(eps, where)),
        rope_theta=base.number("rope_theta", Derived(theta, where)),
        rope_type=rope_type,
        activation=keys.text("hidden_act", Derived("silu", where), among=ACTIVATIONS),
        **more,
    )


# Families


def _llama(keys: Keys) -> tuple[ModelSpec, Numerics]:
    where = "LlamaConfig"
    hidden = keys.integer("hidden_size")
    if hidden % keys.integer("num_attention_heads"):  # refused by LlamaConfig even where head_dim is stated
        raise SpecError(f"hidden_size = {hidden}: expected a multiple of num_attention_heads")
    heads, head_dim = _heads_and_head_dim(keys, where=where)
    kv_heads = keys.integer("num_key_value_heads", Derived(heads, f"= num_attention_heads ({where})"))
    bias = keys.flag("attention_bias", Derived(False, where))
    layer = LayerSpec(
        attention=_grouped_query(heads, head_dim, kv_heads, qkv_bias=bias, output_bias=bias),
        ffn=DenseFfn(
            intermediate_size=keys.integer("intermediate_size"),
            bias=keys.flag("mlp_bias", Derived(False, where)),
        ),
    )
    return _decoder(keys, [layer] * _num_layers(keys)), _numerics(keys, where=where)


def _mistral(keys: Keys) -> tuple[ModelSpec, Numerics]:
    where = "MistralConfig"
    heads, head_dim = _heads_and_head_dim(keys, where=where)
    window = keys.optional_integer("sliding_window", Derived(4096, where))
    layer = LayerSpec(
        attention=_grouped_query(heads, head_dim, keys.integer("num_key_value_heads"), window=window),
        ffn=DenseFfn(intermediate_size=keys.integer("intermediate_size")),
    )
    return _decoder(keys, [layer] * _num_layers(keys)), _numerics(keys, where=where)


def _qwen2(keys: Keys) -> tuple[ModelSpec, Numerics]:
    where = "Qwen2Config"
    heads, head_dim = _heads_and_head_dim(keys, where="Qwen2Attention")
    kv_heads = keys.integer("num_key_value_heads")
    ffn = DenseFfn(intermediate_size=keys.integer("intermediate_size"))
    layers = [
        LayerSpec(attention=_grouped_query(heads, head_dim, kv_heads, window=window, qkv_bias=True), ffn=ffn)
        for window in _qwen_windows(keys, _num_layers(keys), where=where)
    ]
    return _decoder(keys, layers), _numerics(keys, where=where)


def _qwen3_attention(keys: Keys, head_dim: int, *, window: int | None, where: str) -> GroupedQueryAttention:
    bias = keys.flag("attention_bias", Derived(False, where))
    return _grouped_query(
        keys.integer("num_attention_heads"),
        head_dim,
        keys.integer("num_key_value_heads"),
        window=window,
        qkv_bias=bias,
        output_bias=bias,
        qk_norm=True,
    )


def _qwen3(keys: Keys) -> tuple[ModelSpec, Numerics]:
    where = "Qwen3Config"
    head_dim = keys.integer("head_dim", Derived(128, where))
    ffn = DenseFfn(intermediate_size=keys.integer("intermediate_size"))
    layers = [
        LayerSpec(attention=_qwen3_attention(keys, head_dim, window=window, where=where), ffn=ffn)
        for window in _qwen_windows(keys, _num_layers(keys), where=where)
    ]
    return _decoder(keys, layers), _numerics(keys, where=where)


def _mixtral(keys: Keys) -> tuple[ModelSpec, Numerics]:
    where = "MixtralConfig"
    heads, head_dim = _heads_and_head_dim(keys, where="MixtralAttention")
    window = keys.optional_integer("sliding_window", Derived(None, f"none ({where})"))
    layer = LayerSpec(
        attention=_grouped_query(heads, head_dim, keys.integer("num_key_value_heads"), window=window),
        ffn=_experts(keys, "num_local_experts", width_key="intermediate_size"),
    )
    return _decoder(keys, [layer] * _num_layers(keys)), _numerics(keys, where=where, eps=1e-5, theta=1e6)


def _qwen3_moe(keys: Keys) -> tuple[ModelSpec, Numerics]:
    where = "Qwen3MoeConfig"
    _, head_dim = _heads_and_head_dim(keys, where="Qwen3MoeAttention")
    attention = _qwen3_attention(keys, head_dim, window=_window(keys, where=where), where=where)
    num_layers = _num_layers(keys)
    step = keys.integer("decoder_sparse_step", Derived(1, where))
    dense_only = keys.indices("mlp_only_layers", Derived([], where), below=num_layers)
    moe, dense = _experts(keys, "num_experts"), DenseFfn(intermediate_size=keys.integer("intermediate_size"))
    layers = [
        LayerSpec(attention=attention, ffn=moe if i not in dense_only and (i + 1) % step == 0 else dense)
        for i in range(num_layers)
    ]
    normalize = keys.unreported().flag("norm_topk_prob", Derived(False, where))
    return _decoder(keys, layers), _numerics(keys, where=where, routing=Routing(normalize=normalize))


def _experts(
    keys: Keys,
    count_key: str,
    *,
    width_key: str = "moe_intermediate_size",
    shared: int = 0,
    bias_buffer: bool = False,
) -> MoeFfn:
    """Routed experts, and `shared` experts of the same width as one wide network."""
    count, per_token = keys.integer(count_key), keys.integer("num_experts_per_tok")
    if per_token > count:
        raise SpecError(f"num_experts_per_tok = {per_token}: expected at most {count_key} = {count}")
    width = keys.integer(width_key)
    return MoeFfn(
        num_experts=count,
        num_experts_per_token=per_token,
        expert_intermediate_size=width,
        shared_intermediate_size=shared * width,
        router_bias_buffer=bias_buffer,
    )


def _latent_attention(keys: Keys, *, where: str) -> LatentAttention:
    heads = keys.integer("num_attention_heads")
    if keys.config.get("num_key_value_heads") not in (None, heads):
        keys.reject("num_key_value_heads", keys.config["num_key_value_heads"], f"{heads}, the number of heads")
    return LatentAttention(
        num_heads=heads,
        q_lora_rank=keys.optional_integer("q_lora_rank", Derived(None, "required")),
        kv_lora_rank=keys.integer("kv_lora_rank"),
        qk_nope_head_dim=keys.integer("qk_nope_head_dim"),
        qk_rope_head_dim=keys.integer("qk_rope_head_dim"),
        v_head_dim=keys.integer("v_head_dim"),
        bias=keys.flag("attention_bias", Derived(False, where)),
    )


def _deepseek_layers(keys: Keys, attention: Attention, dense: FeedForward, moe: FeedForward) -> list[LayerSpec]:
    """The first layers dense, the rest MoE; `transformers` ignores `moe_layer_freq`, so another is refused."""
    keys.must_be("moe_layer_freq", 1, "transformers builds every layer after the dense ones as MoE")
    num_layers = _num_layers(keys)
    num_dense = keys.integer("first_k_dense_replace", least=0, most=MAX_LAYERS)
    return [LayerSpec(attention=attention, ffn=dense if i < num_dense else moe) for i in range(num_layers)]


def _group_limits(
    keys: Keys,
    moe: MoeFfn,
    *,
    least_per_group: int,
    absent: tuple[Derived, Derived] | tuple[None, None] = (None, None),
) -> tuple[int, int]:
    """`n_group` and `topk_group` of group-limited routing, checked against the experts."""
    groups, chosen = keys.integer("n_group", absent[0]), keys.integer("topk_group", absent[1])
    size, rest = divmod(moe.num_experts, groups)
    if rest or size < least_per_group:
        keys.reject(
            "n_group",
            groups,
            f"a divisor of n_routed_experts = {moe.num_experts}, {least_per_group} or more a group",
        )
    if chosen > groups or chosen * size < moe.num_experts_per_token:
        keys.reject("topk_group", chosen, f"at most n_group = {groups}, with room for num_experts_per_tok experts")
    return groups, chosen


def _deepseek_v2(keys: Keys) -> tuple[ModelSpec, Numerics]:
    where = "DeepseekV2Config"
    hidden = keys.integer("hidden_size")
    if hidden % keys.integer("num_attention_heads"):  # refused by DeepseekV2Config
        raise SpecError(f"hidden_size = {hidden}: expected a multiple of num_attention_heads")
    keys.must_be("mlp_bias", False, "biases on shared experts are not counted")
    dense = DenseFfn(intermediate_size=keys.integer("intermediate_size"))
    moe = _experts(keys, "n_routed_experts", shared=keys.integer("n_shared_experts", least=0))
    unreported = keys.unreported()
    method = unreported.text("topk_method", Derived("greedy", where), among=("greedy", "group_limited_greedy"))
    groups, chosen = _group_limits(keys, moe, least_per_group=1) if method == "group_limited_greedy" else (1, 1)
    routing = Routing(
        normalize=False,  # DeepseekV2TopkRouter ignores norm_topk_prob
        scale=unreported.number("routed_scaling_factor", Derived(1.0, where)),
        num_groups=groups,
        groups_per_token=chosen,
        fp32_logits=True,
    )
    spec = _decoder(keys, _deepseek_layers(keys, _latent_attention(keys, where=where), dense, moe))
    return spec, _numerics(keys, where=where, rope_interleaved=True, routing=routing)


def _deepseek_v3(keys: Keys) -> tuple[ModelSpec, Numerics]:
    where = "DeepseekV3Config"
    attention = _latent_attention(keys, where=where)
    dense = DenseFfn(intermediate_size=keys.integer("intermediate_size"))
    shared = keys.integer("n_shared_experts", least=0)
    moe = _experts(keys, "n_routed_experts", shared=shared, bias_buffer=True)
    num_mtp = keys.integer("num_nextn_predict_layers", Derived(0, "none stated"), least=0, most=MAX_LAYERS)
    unreported = keys.unreported()
    limits = _group_limits(unreported, moe, least_per_group=2, absent=(Derived(8, where), Derived(4, where)))
    routing = Routing(
        scoring="sigmoid",
        normalize=unreported.flag("norm_topk_prob", Derived(True, where)),
        scale=unreported.number("routed_scaling_factor", Derived(2.5, where)),
        num_groups=limits[0],
        groups_per_token=limits[1],
        group_score="top2",
        fp32_logits=True,
    )
    spec = _decoder(
        keys,
        _deepseek_layers(keys, attention, dense, moe),
        mtp_layers=(LayerSpec(attention=attention, ffn=moe),) * num_mtp,
    )
    interleaved = unreported.flag("rope_interleave", Derived(True, where))
    return spec, _numerics(keys, where=where, rope_interleaved=interleaved, routing=routing)


def _gpt2(keys: Keys) -> tuple[ModelSpec, Numerics]:
    where = "GPT2Config"
    keys.must_be("add_cross_attention", False, "cross-attention is not counted")
    hidden, heads = keys.integer("n_embd"), keys.integer("n_head")
    if hidden % heads:
        raise SpecError(f"n_embd = {hidden}: expected a multiple of n_head = {heads}")
    inner = keys.integer("n_inner", Derived(4 * hidden, f"4 n_embd ({where})"))
    dropout = keys.config.get("resid_pdrop", 0.1)
    if type(dropout) not in (int, float) or not 0 <= dropout < 1:
        keys.reject("resid_pdrop", dropout, "a number from 0 to below 1")
    layer = LayerSpec(
        attention=_grouped_query(heads, hidden // heads, heads, qkv_bias=True, output_bias=True),
        ffn=DenseFfn(intermediate_size=inner, gated=False, bias=True),
        norm=Norm(kind="layer"),
        residual_dropout=dropout > 0,
    )
    spec = ModelSpec(
        hidden_size=hidden,
        vocab_size=keys.integer("vocab_size"),
        layers=(layer,) * _num_layers(keys, "n_layer"),
        final_norm=Norm(kind="layer"),
        tie_word_embeddings=keys.flag("tie_word_embeddings", Derived(True, f"tied ({where})")),
        num_positions=keys.integer("n_positions"),
    )
    return spec, Numerics(
        norm_eps=keys.number("layer_norm_epsilon", Derived(1e-5, where)),
        activation=keys.text("activation_function", Derived("gelu_new", where), among=ACTIVATIONS),
    )


_SHAPE = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
_GROUPED = (*_SHAPE, "num_key_value_heads")
_DEEPSEEK = (
    *_SHAPE,
    *("q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"),
    *(
        "n_routed_experts",
        "num_experts_per_tok",
        "n_shared_experts",
        "moe_intermediate_size",
        "first_k_dense_replace",
    ),
)
FAMILIES: Mapping[str, Family] = {
    "deepseek_v2": Family("DeepseekV2ForCausalLM", _DEEPSEEK, _deepseek_v2),
    "deepseek_v3": Family("DeepseekV3ForCausalLM", _DEEPSEEK, _deepseek_v3),
    "gpt2": Family("GPT2LMHeadModel", ("n_embd", "n_head", "n_layer", "n_positions", "vocab_size"), _gpt2),
    "llama": Family("LlamaForCausalLM", _SHAPE, _llama),
    "mistral": Family("MistralForCausalLM", _GROUPED, _mistral),
    "mixtral": Family("MixtralForCausalLM", (*_GROUPED, "num_local_experts", "num_experts_per_tok"), _mixtral),
    "qwen2": Family("Qwen2ForCausalLM", _GROUPED, _qwen2),
    "qwen3": Family("Qwen3ForCausalLM", _GROUPED, _qwen3),
    "qwen3_moe": Family(
        "Qwen3MoeForCausalLM",
        (*_GROUPED, "num_experts", "num_experts_per_tok", "moe_intermediate_size"),
        _qwen3_moe,
    ),
}

# Names of remote-code model types whose weights a known class holds.
SAME_WEIGHTS_AS: Mapping[str, str] = {"kimi_k2": "deepseek_v3"}
