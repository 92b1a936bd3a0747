"""What one tensor-parallel rank has of a model: fewer heads, narrower networks, a part of the vocabulary."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import assert_never

from analytic.errors import UsageError
from analytic.memory.implementation import Implementation
from analytic.model.spec import (
    Attention,
    DenseFfn,
    FeedForward,
    GroupedQueryAttention,
    LatentAttention,
    LayerSpec,
    ModelSpec,
    MoeFfn,
)
from analytic.parallelism.sharding import own_shard


@lru_cache(maxsize=64)
def on_tp_rank(
    spec: ModelSpec, implementation: Implementation, tp: int, coordinate: int = 0
) -> tuple[ModelSpec, Implementation]:
    """The model in the shapes of one of `tp` ranks, and the implementation with their collectives.

    A schedule of the two is that of the rank; what is not split is whole on each. The vocabulary need not be shared
    equally: the last ranks have less of it.

    Raises:
        UsageError: a dimension that the ranks cannot share equally, or a rank without a part of the vocabulary.
    """
    vocab_size = own_shard(spec.vocab_size, tp, coordinate)
    if not vocab_size:
        raise UsageError(f"tp = {tp}: rank {coordinate} has no part of vocab_size = {spec.vocab_size}")
    local = replace(implementation, tp=tp, vocab_size=spec.vocab_size)
    layers = {layer: _layer(layer, local) for layer in set(spec.layers)}
    return replace(spec, vocab_size=vocab_size, layers=tuple(layers[layer] for layer in spec.layers)), local


def _layer(layer: LayerSpec, implementation: Implementation) -> LayerSpec:
    attention = _attention(layer.attention, implementation.attention_ranks)
    return replace(layer, attention=attention, ffn=_ffn(layer.ffn, implementation.tp))


def _attention(a: Attention, ranks: int) -> Attention:
    heads = _share("num_attention_heads", a.num_heads, ranks)
    match a:
        case GroupedQueryAttention():
            kv_heads = _share("num_key_value_heads", a.num_kv_heads, ranks)
            return replace(a, num_heads=heads, num_kv_heads=kv_heads)
        case LatentAttention():
            return replace(a, num_heads=heads)
        case _:
            assert_never(a)


def _ffn(f: FeedForward, ranks: int) -> FeedForward:
    match f:
        case DenseFfn():
            return _dense(f, ranks)
        case MoeFfn():
            width = _share("the experts' intermediate size", f.expert_intermediate_size, ranks)
            shared = None if f.shared is None else _dense(f.shared, ranks)
            return replace(f, expert_intermediate_size=width, shared=shared)
        case _:
            assert_never(f)


def _dense(f: DenseFfn, ranks: int) -> DenseFfn:
    return replace(f, intermediate_size=_share("intermediate_size", f.intermediate_size, ranks))


def _share(name: str, size: int, ranks: int) -> int:
    if size % ranks:
        raise UsageError(f"tp = {ranks}: expected a divisor of {name} = {size}")
    return size // ranks
