"""A model as the closed forms of stacks read it: kinds of layers, how tensor parallelism splits them, and stages.

Built once for a model (`StackModel.of`), so that a layout costs a few sums over kinds of layers. Matrices that tensor
parallelism leaves whole are those of Megatron's own modules: norms, the router, the down-projections of latent
attention. Source: Megatron-LM megatron/core/transformer (moe/router.py, multi_latent_attention.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, assert_never

from analytic.errors import UsageError
from analytic.model.params import (
    attention_matrices,
    embedding_matrices,
    expert_params,
    layer_params,
    model_params,
)
from analytic.model.spec import (
    Attention,
    DenseFfn,
    GroupedQueryAttention,
    LatentAttention,
    LayerSpec,
    ModelSpec,
    MoeFfn,
)

Range = tuple[int, int]  # layers from the first to before the second
# `selective` is each stack's own: attention's core (Megatron), every second matrix product (torchtitan).
Recompute = Literal["none", "selective", "full"]

_WHOLE_MATRICES = ("q_a_proj", "kv_a_proj_with_mqa")
_SPLIT_VECTORS = ("q_proj.bias", "k_proj.bias", "v_proj.bias", "sinks", "gate_proj.bias", "up_proj.bias")


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionShape:
    """Features of one layer's attention for one token, over all heads.

    Attributes:
        heads, kv_heads: that tensor parallelism splits; latent attention has no shared key-value heads.
        query, key, value, output: what the kernel reads and writes.
        latent: compressed vectors and their norms' outputs, which latent attention keeps.
        normed: queries and keys before their norm, where there is one.
        split_matrices, whole_matrices: parameters of the projections, split by tensor parallelism or not.
    """

    heads: int
    kv_heads: int
    query: int
    key: int
    value: int
    output: int
    latent: int
    normed: int
    split_matrices: int
    whole_matrices: int

    def kept_features(self, tp: int) -> int:
        """Queries, keys, values and output on one tensor-parallel rank."""
        return (self.query + self.output + self.latent + self.normed) // tp + self.local_kv_features(tp)

    def local_kv_features(self, tp: int) -> int:
        """Keys and values on one tensor-parallel rank, which has at least one of their heads."""
        return (self.key + self.value) // self.kv_heads * max(self.kv_heads // tp, 1)

    @classmethod
    def of(cls, attention: Attention, hidden_size: int) -> AttentionShape:
        matrices = attention_matrices(attention, hidden_size)
        whole = sum(matrices.get(name, 0) for name in _WHOLE_MATRICES)
        sizes = {"split_matrices": sum(matrices.values()) - whole, "whole_matrices": whole}
        match attention:
            case GroupedQueryAttention(num_heads=heads, num_kv_heads=kv_heads, head_dim=d):
                q, k = heads * d, kv_heads * d
                normed = q + k if attention.qk_norm else 0
                return cls(
                    heads=heads,
                    kv_heads=kv_heads,
                    query=q,
                    key=k,
                    value=k,
                    output=q,
                    latent=0,
                    normed=normed,
                    **sizes,
                )
            case LatentAttention(num_heads=heads):
                q, v = heads * attention.qk_head_dim, heads * attention.v_head_dim
                latent = 2 * (attention.q_lora_rank or 0) + 2 * attention.kv_lora_rank + attention.qk_rope_head_dim
                return cls(
                    heads=heads, kv_heads=heads, query=q, key=q, value=v, output=v, latent=latent, normed=0, **sizes
                )
            case _:
                assert_never(attention)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerShape:
    """One kind of layer.

    Attributes:
        norms: outputs of norms and inputs of the two networks, in hidden vectors kept for backward.
        dense: features of the dense or shared feed-forward network (`matrices` of them, 3 if gated), or 0.
        experts, top_k, expert: routed experts, those a token visits, and features of one; 0 where there are none.
        split_params, whole_params: split by tensor parallelism, or on each of its ranks. expert_params: all experts.
    """

    layer: LayerSpec
    attention: AttentionShape
    norms: int
    dense: int
    matrices: int
    experts: int
    top_k: int
    expert: int
    split_params: int
    whole_params: int
    expert_params: int

    @classmethod
    def of(cls, layer: LayerSpec, hidden_size: int) -> LayerShape:
        ffn = layer.ffn
        shape = AttentionShape.of(layer.attention, hidden_size)
        routed = ffn if isinstance(ffn, MoeFfn) else None
        dense = ffn if isinstance(ffn, DenseFfn) else ffn.shared
        matrices = 0 if dense is None else 3 if dense.gated else 2
        in_experts = sum(expert_params(routed, hidden_size, routed.num_experts).values()) if routed else 0
        total = layer_params(layer, hidden_size)
        split = shape.split_matrices + (matrices * hidden_size * dense.intermediate_size if dense else 0)
        split += sum(value for name, value in total.items() if name.endswith(_SPLIT_VECTORS))
        return cls(
            layer=layer,
            attention=shape,
            norms=(1 if layer.parallel else 2) + len(layer.norm_slots),
            dense=dense.intermediate_size if dense else 0,
            matrices=matrices,
            experts=routed.num_experts if routed else 0,
            top_k=routed.num_experts_per_token if routed else 0,
            expert=routed.expert_intermediate_size if routed else 0,
            split_params=split,
            whole_params=total.total - split - in_experts,
            expert_params=in_experts,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StackModel:
    """A model's kinds of layers, where each is, and what is around the layers.

    Attributes:
        runs: first layer, one past the last, and the kind of each run of equal layers.
        first_params, last_params: before the layers without the embedding (positions), and after them without the head.
    """

    spec: ModelSpec
    kinds: tuple[LayerShape, ...]
    runs: tuple[tuple[int, int, int], ...]
    num_layers: int
    first_params: int
    last_params: int

    @classmethod
    def of(cls, spec: ModelSpec) -> StackModel:
        """The model, without its multi-token-prediction layers."""
        h, number = spec.hidden_size, {layer: i for i, layer in enumerate(spec.kinds)}
        params = model_params(spec)
        norms = sum(params.terms.get(name, 0) for name in ("norm", "norm.bias", "lm_head.bias"))
        around = sum(embedding_matrices(spec).values())
        first = params["embed_positions"] + sum(value for name, value in params.items() if "embedding_norm" in name)
        return cls(
            spec=spec,
            kinds=tuple(LayerShape.of(layer, h) for layer in spec.kinds),
            runs=tuple((run.first, run.first + run.count, number[run.layer]) for run in spec.runs),
            num_layers=len(spec.layers),
            first_params=first,
            last_params=norms + around,
        )

    def pieces(self, ranges: Iterable[Range]) -> Iterator[tuple[str, LayerShape, range]]:
        """Equal layers in a row within some ranges: their path, such as `layers.4-7`, their kind and which they are."""
        for start, stop in ranges:
            for first, end, kind in self.runs:
                low, high = max(start, first), min(stop, end)
                if low < high:
                    label = str(low) if high == low + 1 else f"{low}-{high - 1}"
                    yield f"layers.{label}", self.kinds[kind], range(low, high)

    def counts(self, ranges: Iterable[Range]) -> tuple[int, ...]:
        """How many layers of each kind are in some ranges of layers."""
        counts = [0] * len(self.kinds)
        for start, stop in ranges:
            for first, end, kind in self.runs:
                if first < stop and start < end:
                    counts[kind] += min(stop, end) - max(start, first)
        return tuple(counts)


def padded_vocab(vocab_size: int, tp: int, divisible_by: int = 1) -> int:
    """Rows of the embedding over all tensor-parallel ranks: a multiple of `divisible_by` x tp.

    Megatron pads to 128 x tp: megatron/training/arguments.py, --make-vocab-size-divisible-by.

    >>> padded_vocab(128_256, 4, 128), padded_vocab(50_257, 8)
    (128512, 50264)
    """
    multiple = divisible_by * tp
    return -(-vocab_size // multiple) * multiple


def expect(is_so: bool, message: str) -> None:
    """Raise a UsageError with the message unless something is so."""
    if not is_so:
        raise UsageError(message)


def expect_divides(axis: str, size: int, name: str, value: int, *, twice: bool = False) -> None:
    """Raise a UsageError unless an axis divides a dimension, or twice the axis does."""
    if value % (2 * size if twice else size):
        raise UsageError(
            f"{axis} = {size}: expected {f'2 x {axis} to divide' if twice else 'a divisor of'} {name} = {value}"
        )
