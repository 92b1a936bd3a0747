"""Families of routed experts under grouped-query attention."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from analytic.huggingface.families.parts import (
    GROUPED,
    SHAPE,
    Described,
    Family,
    decoder,
    dense_then_moe,
    experts,
    gated,
    group_limits,
    head_dim_or_default,
    layers_of,
    num_layers,
    numerics,
    refuse_other_head_dim,
    shared_experts,
    sliding_window,
    stated_bias,
    used_window,
    windows,
)
from analytic.io.keys import Derived, Keys
from analytic.limits import MAX_LAYERS
from analytic.model.spec import LAYER_NORM, DenseFfn, FeedForward, MoeFfn, QkNorm, Routing


def _mixtral(keys: Keys) -> Described:
    where = "MixtralConfig"
    of_layers = windows(keys, sliding_window(keys, None, where=where))
    moe = experts(keys, "num_local_experts", width_key="intermediate_size")
    layers = layers_of(keys, moe, where="MixtralAttention", windows=of_layers)
    return decoder(keys, layers), numerics(keys, where=where, eps=1e-5, theta=1e6)


def _phimoe(keys: Keys) -> Described:
    where = "PhimoeConfig"
    keys.must_be("num_experts_per_tok", 2, "sparsemixer in PhimoeTopKRouter visits two experts, whatever the key says")
    layers = layers_of(
        keys,
        experts(keys, "num_local_experts", width_key="intermediate_size"),
        where=where,
        windows=windows(keys, sliding_window(keys, None, where=where)),
        norm=LAYER_NORM,
        **stated_bias(keys, where=where),
    )
    head_bias = keys.flag("lm_head_bias", Derived(False, where))
    spec = decoder(keys, layers, norm=LAYER_NORM, head_bias=head_bias)
    return spec, numerics(keys, where=where, eps=1e-5, theta=1e6)


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


def _granitemoe(keys: Keys) -> Described:
    where = "GraniteMoeConfig"
    moe = experts(keys, "num_local_experts", width_key="intermediate_size")
    layers = layers_of(keys, moe, where=where, **stated_bias(keys, where=where))
    return decoder(keys, layers), numerics(keys, where=where)


def _granitemoeshared(keys: Keys) -> Described:
    where = "GraniteMoeSharedConfig"
    width = keys.integer("shared_intermediate_size", Derived(0, where), least=0)
    shared = DenseFfn(intermediate_size=width) if width else None
    moe = experts(keys, "num_local_experts", width_key="intermediate_size", shared=shared)
    layers = layers_of(keys, moe, where=where, **stated_bias(keys, where=where))
    return decoder(keys, layers), numerics(keys, where=where)


def _sparse_steps(keys: Keys, moe: MoeFfn, dense: DenseFfn, *, where: str) -> list[FeedForward]:
    """Qwen's choice: experts in every `decoder_sparse_step`-th layer that is not in `mlp_only_layers`."""
    count = num_layers(keys)
    step = keys.integer("decoder_sparse_step", Derived(1, where))
    dense_only = keys.indices("mlp_only_layers", Derived([], where), below=count)
    return [moe if i not in dense_only and (i + 1) % step == 0 else dense for i in range(count)]


def _qwen2_moe(keys: Keys) -> Described:
    where = "Qwen2MoeConfig"
    window = used_window(keys, where=where)
    first = 0 if window is None else keys.integer("max_window_layers", Derived(28, where), least=0)
    shared = DenseFfn(intermediate_size=keys.integer("shared_expert_intermediate_size"))
    moe = experts(keys, "num_experts", shared=shared, shared_first=True, shared_gate=True)
    layers = layers_of(
        keys,
        _sparse_steps(keys, moe, gated(keys), where=where),
        where=where,
        windows=windows(keys, window, lambda i: i % 2 == 0 and i < first),
        qkv_bias=keys.flag("qkv_bias", Derived(True, where)),
    )
    return decoder(keys, layers), numerics(keys, where=where)


def _qwen3_moe(keys: Keys) -> Described:
    where = "Qwen3MoeConfig"
    layers = layers_of(
        keys,
        _sparse_steps(keys, experts(keys, "num_experts"), gated(keys), where=where),
        where="Qwen3MoeAttention",
        windows=windows(keys, used_window(keys, where=where)),
        qk_norm=QkNorm(),
        **stated_bias(keys, where=where),
    )
    normalize = keys.unreported().flag("norm_topk_prob", Derived(False, where))
    return decoder(keys, layers), numerics(keys, where=where, routing=Routing(normalize=normalize))


def _glm4_moe(keys: Keys) -> Described:
    where = "Glm4MoeConfig"
    has_qk_norm = keys.flag("use_qk_norm", Derived(False, where))
    moe, routing = _sigmoid_routed(keys, where)
    layers = layers_of(
        keys,
        dense_then_moe(keys, gated(keys), moe),
        where=where,
        qkv_bias=keys.flag("attention_bias", Derived(False, where)),
        qk_norm=QkNorm() if has_qk_norm else None,
    )
    num_mtp = keys.integer("num_nextn_predict_layers", Derived(0, "none stated"), least=0, most=MAX_LAYERS)
    spec = decoder(keys, layers, mtp_layers=(replace(layers[-1], ffn=moe),) * num_mtp)
    return spec, numerics(keys, where=where, eps=1e-5, routing=routing)


def _dots1(keys: Keys) -> Described:
    where = "Dots1Config"
    window = sliding_window(keys, 4096, where=where)
    first = 0 if window is None else keys.integer("max_window_layers", Derived(62, where), least=0)
    moe, routing = _sigmoid_routed(keys, where)
    layers = layers_of(
        keys,
        dense_then_moe(keys, gated(keys), moe),
        where=where,
        windows=windows(keys, window, lambda i: i >= first),
        qk_norm=QkNorm(),
        **stated_bias(keys, where=where),
    )
    return decoder(keys, layers), numerics(keys, where=where, routing=routing)


def _sigmoid_routed(keys: Keys, where: str) -> tuple[MoeFfn, Routing]:
    """DeepSeek-V3's experts and router: shared experts, a score correction, groups."""
    moe = experts(keys, "n_routed_experts", shared=shared_experts(keys, "n_shared_experts"), score_correction="buffer")
    unreported = keys.unreported()
    ones = (Derived(1, where), Derived(1, where))
    groups, chosen = group_limits(unreported, moe, least_per_group=2, absent=ones)
    routing = Routing(
        scoring="sigmoid",
        normalize=unreported.flag("norm_topk_prob", Derived(True, where)),
        scale=unreported.number("routed_scaling_factor", Derived(1.0, where)),
        num_groups=groups,
        groups_per_token=chosen,
        group_score="top2",
        fp32_logits=True,
    )
    return moe, routing


def _ernie4_5_moe(keys: Keys) -> Described:
    where = "Ernie4_5_MoeConfig"
    biases, count = stated_bias(keys, where=where, key="use_bias"), num_layers(keys)
    bias = biases["output_bias"]
    moe = experts(
        keys,
        "moe_num_experts",
        per_token_key="moe_k",
        shared=shared_experts(keys, "moe_num_shared_experts", bias=bias),
        shared_first=True,
        score_correction="parameter",
    )
    first = keys.integer("moe_layer_start_index", Derived(1, where), least=0, most=MAX_LAYERS)
    last = keys.integer("moe_layer_end_index", Derived(-1, f"the last ({where})"), least=-1, most=MAX_LAYERS)
    interval = keys.integer("moe_layer_interval", Derived(1, where))
    last = count - 1 if last == -1 else last
    dense = gated(keys, bias=bias)
    networks = [moe if first <= i <= last and (i + 1) % interval == 0 else dense for i in range(count)]
    spec = decoder(keys, layers_of(keys, networks, where=where, **biases), tied=True, head_bias=bias)
    return spec, numerics(keys, where=where, eps=1e-5, theta=500_000.0)


def _gpt_oss(keys: Keys) -> Described:
    where = "GptOssConfig"
    window = sliding_window(keys, 128, where=where)
    layers = layers_of(
        keys,
        experts(keys, "num_local_experts", width_key="intermediate_size", expert_bias=True, router_bias=True),
        where=where,
        windows=windows(keys, window, lambda i: i % 2 == 0),
        head_dim=head_dim_or_default(keys, 64, where=where),
        sinks=True,
        **stated_bias(keys, where=where, absent=True),
    )
    return decoder(keys, layers), numerics(keys, where=where, eps=1e-5, theta=150_000.0)


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


# Other names of a key in `transformers`; which of the two it writes is the class's affair.
_NUM_EXPERTS = {"num_experts": "num_local_experts"}
_LOCAL_EXPERTS = {"num_local_experts": "num_experts"}
_ROUTED = {"num_local_experts": "n_routed_experts"}
_MTP = {"num_mtp_layers": "num_nextn_predict_layers"}


def _hunyuan_v1_moe(keys: Keys) -> Described:
    where, count = "HunYuanMoEV1Config", num_layers(keys)
    width = keys.integer("intermediate_size")
    keys.must_be("use_cla", False, "the class shares no keys and values between layers")
    for key, only in (("moe_intermediate_size", width), ("num_shared_expert", 1)):
        stated = keys.each(key, Derived(only, f"{only} ({where})"), length=count)
        if any(value != only for value in stated):
            keys.reject(key, keys.config[key], f"{only} in every layer, as HunYuanMoEV1Moe has it")
    networks = [
        MoeFfn(
            num_experts=keys.integer("num_experts"),
            num_experts_per_token=per_token,
            expert_intermediate_size=width,
            shared=gated(keys),
            shared_first=True,
        )
        for per_token in keys.each("moe_topk", length=count)
    ]
    layers = layers_of(
        keys,
        networks,
        where=where,
        head_dim=keys.integer("head_dim"),
        qk_norm=QkNorm(),
        **stated_bias(keys, where=where),
    )
    return decoder(keys, layers), numerics(keys, where=where, eps=1e-5)


_LOCAL = ("num_local_experts", "num_experts_per_tok")
_QWEN = (*GROUPED, "num_experts", "num_experts_per_tok", "moe_intermediate_size")
_SHARED = (
    *GROUPED,
    *("n_routed_experts", "num_experts_per_tok", "n_shared_experts", "moe_intermediate_size", "first_k_dense_replace"),
)
_ERNIE = (*GROUPED, "moe_num_experts", "moe_k", "moe_num_shared_experts", "moe_intermediate_size")

FAMILIES: Mapping[str, Family] = {
    "dots1": Family("Dots1ForCausalLM", _SHARED, _dots1, aliases=_ROUTED),
    "ernie4_5_moe": Family(
        "Ernie4_5_MoeForCausalLM",
        _ERNIE,
        _ernie4_5_moe,
        aliases={"num_experts": "moe_num_experts", "num_experts_per_tok": "moe_k"},
    ),
    "glm4_moe": Family("Glm4MoeForCausalLM", _SHARED, _glm4_moe, aliases=_ROUTED | _MTP),
    "gpt_oss": Family("GptOssForCausalLM", (*GROUPED, *_LOCAL), _gpt_oss, aliases=_NUM_EXPERTS),
    "granitemoe": Family("GraniteMoeForCausalLM", (*SHAPE, *_LOCAL), _granitemoe),
    "granitemoeshared": Family("GraniteMoeSharedForCausalLM", (*SHAPE, *_LOCAL), _granitemoeshared),
    "hunyuan_v1_moe": Family(
        "HunYuanMoEV1ForCausalLM",
        (*GROUPED, "head_dim", "num_experts", "moe_topk"),
        _hunyuan_v1_moe,
        aliases={
            "attention_head_dim": "head_dim",
            "num_local_experts": "num_experts",
            "num_experts_per_tok": "moe_topk",
        },
    ),
    "minimax_m2": Family("MiniMaxM2ForCausalLM", (*GROUPED, *_LOCAL), _minimax_m2, aliases=_NUM_EXPERTS),
    "mixtral": Family("MixtralForCausalLM", (*GROUPED, *_LOCAL), _mixtral, aliases=_NUM_EXPERTS),
    "olmoe": Family("OlmoeForCausalLM", (*SHAPE, "num_experts", "num_experts_per_tok"), _olmoe, aliases=_LOCAL_EXPERTS),
    "phimoe": Family("PhimoeForCausalLM", (*GROUPED, *_LOCAL), _phimoe),
    "qwen2_moe": Family("Qwen2MoeForCausalLM", (*_QWEN, "shared_expert_intermediate_size"), _qwen2_moe),
    "qwen3_moe": Family("Qwen3MoeForCausalLM", _QWEN, _qwen3_moe, aliases=_LOCAL_EXPERTS),
}
