"""What the parsers of several families share: heads, experts, windows, norms, the model around its layers.

An absent key is derived only as written here or in the family's parser, with its source. An unlisted class
default is never used: a file that carries a known `model_type` beside another schema's keys is an error, not
a model of default size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict

from analytic.errors import SpecError
from analytic.huggingface.weight_names import LLAMA, Names
from analytic.io.keys import Derived, Keys
from analytic.limits import MAX_LAYERS
from analytic.model.spec import (
    PRE_NORM,
    RMS_NORM,
    DenseFfn,
    FeedForward,
    GroupedQueryAttention,
    LayerSpec,
    ModelSpec,
    MoeFfn,
    Norm,
    NormSlot,
    Numerics,
    QkNorm,
)

SHAPE = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
GROUPED = (*SHAPE, "num_key_value_heads")
WITHOUT_FFN = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
LOCAL_EXPERTS = ("num_local_experts", "num_experts_per_tok")
# Other names of a key in `transformers`; either of the two is in its files.
NUM_EXPERTS_ALIAS = {"num_experts": "num_local_experts"}
LOCAL_EXPERTS_ALIAS = {"num_local_experts": "num_experts"}

ONE_NORM = (NormSlot.BEFORE_ATTENTION,)
WEIGHT_ONLY = Norm(kind="layer")

Described = tuple[ModelSpec, Numerics]


class Biases(TypedDict):
    """Options of `attention`."""

    qkv_bias: bool
    output_bias: bool


@dataclass(frozen=True, slots=True)
class Family:
    """One `model_type`.

    Attributes:
        transformers_class: the class that is counted. required: the keys that a config must state.
        aliases: other spellings of a key that `transformers` takes for it, or that published files have in its
            place, by spelling; the class is handed the key itself, too.
        nested_defaults: class defaults that stand for absent keys of a `text_config`, which `transformers`
            used to write as differences from them.
        names: how the class names its weights. post_norm_names: where its layers normalize after each network.
    """

    transformers_class: str
    required: tuple[str, ...]
    parse: Callable[[Keys], Described]
    aliases: Mapping[str, str] = field(default_factory=dict)
    nested_defaults: Mapping[str, int] = field(default_factory=dict)
    names: Names = LLAMA
    post_norm_names: Names | None = None


def same_if_stated(keys: Keys, spellings: Mapping[str, str]) -> None:
    """Refuse another spelling of a key that contradicts it: `transformers` takes the one's word or the other's."""
    for spelling, key in spellings.items():
        keys.must_be(spelling, keys.config[key], f"as {key} says")


def num_layers(keys: Keys, key: str = "num_hidden_layers") -> int:
    return keys.integer(key, most=MAX_LAYERS)


def divided_head_dim(keys: Keys, hidden_key: str = "hidden_size", heads_key: str = "num_attention_heads") -> int:
    """Features of a head where the family's class takes the hidden state's, divided by the heads."""
    hidden, heads = keys.integer(hidden_key), keys.integer(heads_key)
    if hidden % heads:
        raise SpecError(f"{hidden_key} = {hidden}: expected a multiple of {heads_key} = {heads}", key=hidden_key)
    return hidden // heads


def stated_head_dim(keys: Keys, *, where: str) -> int:
    """`head_dim`, or hidden_size / num_attention_heads where it is absent and the family's class divides so."""
    if keys.config.get("head_dim") is not None:
        return keys.integer("head_dim")
    source = f"hidden_size / num_attention_heads ({where})"
    return keys.integer("head_dim", Derived(divided_head_dim(keys), source))


def head_dim_or_default(keys: Keys, default: int, *, where: str) -> int:
    """`head_dim`; the class's own where it is absent, and hidden_size / num_attention_heads where it is null."""
    if "head_dim" not in keys.config:
        return keys.integer("head_dim", Derived(default, where))
    return stated_head_dim(keys, where=where)


def refuse_other_head_dim(keys: Keys) -> None:
    """For a class whose norms on queries and keys are as wide as hidden_size / num_attention_heads says."""
    keys.must_be("head_dim", divided_head_dim(keys), "hidden_size / num_attention_heads, as its norms take it")


def kv_heads(keys: Keys, *, where: str) -> int:
    """`num_key_value_heads`, or multi-head attention where it is absent and the family's class takes it so."""
    heads = keys.integer("num_attention_heads")
    return keys.integer("num_key_value_heads", Derived(heads, f"= num_attention_heads ({where})"))


def attention(
    keys: Keys,
    *,
    where: str,
    head_dim: int | None = None,
    window: int | None = None,
    qkv_bias: bool = False,
    output_bias: bool = False,
    qk_norm: QkNorm | None = None,
    sinks: bool = False,
) -> GroupedQueryAttention:
    """Attention by the keys that most families have; `head_dim` where these do not say."""
    heads, groups = keys.integer("num_attention_heads"), kv_heads(keys, where=where)
    if heads % groups:
        raise SpecError(
            f"num_key_value_heads = {groups}: expected a divisor of num_attention_heads = {heads}",
            key="num_key_value_heads",
        )
    return GroupedQueryAttention(
        num_heads=heads,
        num_kv_heads=groups,
        head_dim=stated_head_dim(keys, where=where) if head_dim is None else head_dim,
        sliding_window=window,
        qkv_bias=qkv_bias,
        output_bias=output_bias,
        qk_norm=qk_norm,
        sinks=sinks,
    )


def multi_head(
    keys: Keys, hidden_key: str = "hidden_size", heads_key: str = "num_attention_heads", **options: Any
) -> GroupedQueryAttention:
    """Attention of a family that shares no keys and divides the hidden state by the heads."""
    heads = keys.integer(heads_key)
    head_dim = divided_head_dim(keys, hidden_key, heads_key)
    return GroupedQueryAttention(num_heads=heads, num_kv_heads=heads, head_dim=head_dim, **options)


def stated_bias(keys: Keys, *, where: str, key: str = "attention_bias", absent: bool = False) -> Biases:
    """One flag for the biases of all four projections, as options of `attention`."""
    bias = keys.flag(key, Derived(absent, where))
    return Biases(qkv_bias=bias, output_bias=bias)


def layers_of(
    keys: Keys,
    ffn: FeedForward | Sequence[FeedForward],
    *,
    where: str,
    windows: Sequence[int | None] | None = None,
    norm: Norm = RMS_NORM,
    norm_slots: tuple[NormSlot, ...] = PRE_NORM,
    parallel: bool = False,
    residual_dropout: bool = False,
    **of_attention: Any,
) -> list[LayerSpec]:
    """Layers that differ at most in window and feed-forward network; other options are those of `attention`."""
    count = num_layers(keys)
    of_layers = windows if windows is not None else [None] * count
    by_window = {window: attention(keys, where=where, window=window, **of_attention) for window in set(of_layers)}
    networks = [ffn] * count if isinstance(ffn, FeedForward) else ffn
    return [
        LayerSpec(
            attention=by_window[window],
            ffn=network,
            norm=norm,
            norm_slots=norm_slots,
            parallel=parallel,
            residual_dropout=residual_dropout,
        )
        for window, network in zip(of_layers, networks, strict=True)
    ]


def gated(keys: Keys, *, bias: bool = False) -> DenseFfn:
    return DenseFfn(intermediate_size=keys.integer("intermediate_size"), bias=bias)


def plain(width: int, *, bias: bool) -> DenseFfn:
    """One matrix up, one down, and no gate."""
    return DenseFfn(intermediate_size=width, gated=False, bias=bias)


def windows(keys: Keys, window: int | None, is_sliding: Callable[[int], bool] = lambda _: True) -> list[int | None]:
    """The window of each layer: as `layer_types` says, or where that is absent those that the class chooses."""
    count = num_layers(keys)
    if keys.config.get("layer_types") is not None:
        kinds = keys.texts("layer_types", length=count, among=("full_attention", "sliding_attention"))
        return [window if kind == "sliding_attention" else None for kind in kinds]
    return [window if is_sliding(i) else None for i in range(count)]


def sliding_window(keys: Keys, absent: int | None, *, where: str) -> int | None:
    return keys.optional_integer("sliding_window", Derived(absent, "none" if absent is None else where))


def used_window(keys: Keys, *, where: str, absent: int | None = 4096) -> int | None:
    """Qwen's sliding window: `sliding_window` counts only where `use_sliding_window` is true."""
    if not keys.flag("use_sliding_window", Derived(False, f"off ({where})")):
        return None
    return sliding_window(keys, absent, where=where)


def experts(
    keys: Keys,
    count_key: str,
    *,
    per_token_key: str = "num_experts_per_tok",
    width_key: str = "moe_intermediate_size",
    **more: Any,
) -> MoeFfn:
    """Routed experts; other options are those of `MoeFfn`."""
    count, per_token = keys.integer(count_key), keys.integer(per_token_key)
    if per_token > count:
        raise SpecError(f"{per_token_key} = {per_token}: expected at most {count_key} = {count}", key=per_token_key)
    width = keys.integer(width_key)
    return MoeFfn(num_experts=count, num_experts_per_token=per_token, expert_intermediate_size=width, **more)


def shared_experts(keys: Keys, count_key: str, *, bias: bool = False) -> DenseFfn | None:
    """So many experts of the routed ones' width, as one wide network."""
    width = keys.integer(count_key, least=0) * keys.integer("moe_intermediate_size")
    return DenseFfn(intermediate_size=width, bias=bias) if width else None


def dense_then_moe(keys: Keys, dense: FeedForward, moe: FeedForward) -> list[FeedForward]:
    """The first networks dense, the rest MoE; `transformers` ignores `moe_layer_freq`, so another is refused."""
    keys.must_be("moe_layer_freq", 1, "transformers builds every layer after the dense ones as MoE")
    num_dense = keys.integer("first_k_dense_replace", least=0, most=MAX_LAYERS)
    return [dense if i < num_dense else moe for i in range(num_layers(keys))]


def by_mlp_layer_types(keys: Keys, dense: FeedForward, moe: FeedForward, *, num_dense: int) -> list[FeedForward]:
    """Dense or MoE as `mlp_layer_types` says, or where that is absent the first `num_dense` dense."""
    count = num_layers(keys)
    if keys.config.get("mlp_layer_types") is None:
        return [dense if i < num_dense else moe for i in range(count)]
    kinds = keys.texts("mlp_layer_types", length=count, among=("dense", "sparse"))
    return [dense if kind == "dense" else moe for kind in kinds]


def group_limits(
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


def decoder(
    keys: Keys,
    layers: list[LayerSpec],
    *,
    norm: Norm = RMS_NORM,
    tied: bool = False,
    head_bias: bool = False,
    has_rotary: bool = True,
    mtp_layers: tuple[LayerSpec, ...] = (),
) -> ModelSpec:
    """The usual model around its layers; `tied` is what the family's class takes an absent key for."""
    absent = Derived(tied, f"{'tied' if tied else 'untied'} (the family's configuration class)")
    return ModelSpec(
        hidden_size=keys.integer("hidden_size"),
        vocab_size=keys.integer("vocab_size"),
        layers=tuple(layers),
        final_norm=norm,
        head_bias=head_bias,
        tie_word_embeddings=keys.flag("tie_word_embeddings", absent),
        has_rotary=has_rotary,
        mtp_layers=mtp_layers,
    )
