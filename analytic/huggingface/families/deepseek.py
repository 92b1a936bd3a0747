"""DeepSeek: latent attention, and routed experts after the first dense layers."""

from __future__ import annotations

from collections.abc import Mapping

from analytic.huggingface.families.common import (
    GROUPED,
    SHAPE,
    Described,
    Family,
    decoder,
    dense_then_moe,
    divided_head_dim,
    experts,
    gated,
    group_limits,
    shared_experts,
)
from analytic.huggingface.numerics import numerics
from analytic.io.keys import Derived, Keys
from analytic.limits import MAX_LAYERS
from analytic.model.spec import (
    FeedForward,
    LatentAttention,
    LayerSpec,
    MoeFfn,
    Routing,
)


def _deepseek_v2(keys: Keys) -> Described:
    where = "DeepseekV2Config"
    divided_head_dim(keys)  # checked by DeepseekV2Config
    keys.must_be("mlp_bias", False, "biases on shared experts are not counted")
    dense = gated(keys)
    moe = experts(keys, "n_routed_experts", shared=shared_experts(keys, "n_shared_experts"))
    unreported = keys.unreported()
    method = unreported.text("topk_method", Derived("greedy", where), among=("greedy", "group_limited_greedy"))
    groups, chosen = group_limits(keys, moe, least_per_group=1) if method == "group_limited_greedy" else (1, 1)
    routing = Routing(
        normalize=False,  # DeepseekV2TopkRouter ignores norm_topk_prob
        scale=unreported.number("routed_scaling_factor", Derived(1.0, where)),
        num_groups=groups,
        groups_per_token=chosen,
        fp32_logits=True,
    )
    spec = decoder(keys, _layers(keys, latent_attention(keys, where=where), dense, moe))
    return spec, numerics(keys, where=where, rope_interleaved=True, routing=routing)


def _deepseek_v3(keys: Keys) -> Described:
    where = "DeepseekV3Config"
    attention = latent_attention(keys, where=where)
    dense = gated(keys)
    shared = shared_experts(keys, "n_shared_experts")
    moe = experts(keys, "n_routed_experts", shared=shared, score_correction="buffer")
    num_mtp = keys.integer("num_nextn_predict_layers", Derived(0, "none stated"), least=0, most=MAX_LAYERS)
    unreported = keys.unreported()
    limits = group_limits(unreported, moe, least_per_group=2, absent=(Derived(8, where), Derived(4, where)))
    routing = Routing(
        scoring="sigmoid",
        normalize=unreported.flag("norm_topk_prob", Derived(True, where)),
        scale=unreported.number("routed_scaling_factor", Derived(2.5, where)),
        num_groups=limits[0],
        groups_per_token=limits[1],
        group_score="top2",
        fp32_logits=True,
    )
    spec = decoder(
        keys,
        _layers(keys, attention, dense, moe),
        mtp_layers=(LayerSpec(attention=attention, ffn=moe),) * num_mtp,
    )
    interleaved = unreported.flag("rope_interleave", Derived(True, where))
    return spec, numerics(keys, where=where, rope_interleaved=interleaved, routing=routing)


def latent_attention(keys: Keys, *, where: str) -> LatentAttention:
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


def _layers(keys: Keys, attention: LatentAttention, dense: FeedForward, moe: FeedForward) -> list[LayerSpec]:
    return [LayerSpec(attention=attention, ffn=ffn) for ffn in dense_then_moe(keys, dense, moe)]


def sigmoid_routed(keys: Keys, where: str) -> tuple[MoeFfn, Routing]:
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


LATENT = ("q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
ROUTED = ("n_routed_experts", "num_experts_per_tok", "n_shared_experts", "moe_intermediate_size")
SIGMOID_ROUTED = (*GROUPED, *ROUTED, "first_k_dense_replace")
# The other names that `transformers` has for these keys.
ROUTED_ALIASES = {"num_local_experts": "n_routed_experts"}
MTP_ALIASES = {"num_mtp_layers": "num_nextn_predict_layers"}
_DEEPSEEK = (*SHAPE, *LATENT, *ROUTED, "first_k_dense_replace")

FAMILIES: Mapping[str, Family] = {
    "deepseek_v2": Family(
        "DeepseekV2ForCausalLM", _DEEPSEEK, _deepseek_v2, aliases={"num_experts": "n_routed_experts"}
    ),
    "deepseek_v3": Family("DeepseekV3ForCausalLM", _DEEPSEEK, _deepseek_v3, aliases=ROUTED_ALIASES | MTP_ALIASES),
}
