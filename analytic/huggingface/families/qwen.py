"""Qwen 2 and 3, dense and of experts."""

from __future__ import annotations

from collections.abc import Mapping

from analytic.huggingface.families.common import (
    GROUPED,
    LOCAL_EXPERTS_ALIAS,
    Described,
    Family,
    decoder,
    experts,
    gated,
    layers_of,
    num_layers,
    stated_bias,
    used_window,
    windows,
)
from analytic.huggingface.numerics import numerics
from analytic.huggingface.weight_names import LLAMA, renamed
from analytic.io.keys import Derived, Keys
from analytic.model.spec import (
    DenseFfn,
    FeedForward,
    MoeFfn,
    QkNorm,
    Routing,
)


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


def _qwen2_moe(keys: Keys) -> Described:
    where = "Qwen2MoeConfig"
    keys.integer("num_key_value_heads")  # a null is taken for no other number
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


def qwen_windows(keys: Keys, *, where: str) -> list[int | None]:
    """The window of each layer: those from `max_window_layers` on, unless `layer_types` says which."""
    window = used_window(keys, where=where)
    if window is None or keys.config.get("layer_types") is not None:
        return windows(keys, window)
    first = keys.integer("max_window_layers", Derived(28, where), least=0)
    return windows(keys, window, lambda i: i >= first)


def _sparse_steps(keys: Keys, moe: MoeFfn, dense: DenseFfn, *, where: str) -> list[FeedForward]:
    """Qwen's choice: experts in every `decoder_sparse_step`-th layer that is not in `mlp_only_layers`."""
    count = num_layers(keys)
    step = keys.integer("decoder_sparse_step", Derived(1, where))
    dense_only = keys.indices("mlp_only_layers", Derived([], where), below=count)
    return [moe if i not in dense_only and (i + 1) % step == 0 else dense for i in range(count)]


_QWEN = (*GROUPED, "num_experts", "num_experts_per_tok", "moe_intermediate_size")
_QWEN2_MOE_NAMES = renamed(
    LLAMA,
    {f"mlp.shared_expert.{name}": f"mlp.shared_experts.{name}" for name in ("gate_proj", "up_proj", "down_proj")},
)

FAMILIES: Mapping[str, Family] = {
    "qwen2": Family("Qwen2ForCausalLM", GROUPED, _qwen2),
    "qwen2_moe": Family(
        "Qwen2MoeForCausalLM",
        (*_QWEN, "shared_expert_intermediate_size"),
        _qwen2_moe,
        names=_QWEN2_MOE_NAMES,
    ),
    "qwen3": Family("Qwen3ForCausalLM", GROUPED, _qwen3),
    "qwen3_moe": Family("Qwen3MoeForCausalLM", _QWEN, _qwen3_moe, aliases=LOCAL_EXPERTS_ALIAS),
}
