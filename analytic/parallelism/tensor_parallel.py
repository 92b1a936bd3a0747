"""Collectives of tensor parallelism, as the plans of `transformers` 5.23 wire it (`transformers.distributed`).

Activations are whole on every rank between modules. A column-wise projection (`q_proj`, `up_proj`) sends nothing in
forward and sums its input's gradient in backward; a row-wise one (`o_proj`, `down_proj`) sums its output in forward.
The embedding is cut by vocabulary and sums its rows; the head gathers its logits, which stay whole on every rank.
Recomputation repeats the sums of forward, except for a layer's last one, of which nothing is saved for backward.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple, assert_never

from analytic.model.checkpointing import recomputes_layers
from analytic.model.optimizer import FP32_BYTES
from analytic.model.spec import Attention, DenseFfn, GroupedQueryAttention, LatentAttention, MoeFfn
from analytic.model.training import TrainingSetup
from analytic.parallelism.communication import Collective
from analytic.parallelism.layout import Layout
from analytic.parallelism.parameters import EXPERTS, DistributedModel
from analytic.parallelism.sharding import padded_shard


class Sum(NamedTuple):
    """An all-reduce of a module in one micro-batch: how often, and the bytes of each."""

    module: str
    times: int
    size_bytes: int


def tp_collectives(model: DistributedModel, setup: TrainingSetup, layout: Layout) -> Iterator[Collective]:
    """All collectives of one rank and step over `tp`, but for those of experts under expert parallelism."""
    if layout.tp == 1:
        return
    spec, hidden = model.spec, setup.tokens * model.spec.hidden_size * setup.itemsize
    yield _collective(layout, "all_reduce", Sum("embed_tokens", 1, hidden), 1)
    for run in spec.runs:
        sums = [*_attention(model, run.layer.attention, setup)]
        match run.layer.ffn:
            case DenseFfn():
                sums += _dense("mlp", run.layer.ffn, hidden)
            case MoeFfn():
                sums += _experts(model, run.layer.ffn, setup, layout)
            case _:
                assert_never(run.layer.ffn)
        for one in sums:
            path = f"layers.{run.label}.{one.module}"
            yield _collective(layout, "all_reduce", one._replace(module=path), run.count)
    logits = setup.tokens * padded_shard(spec.vocab_size, layout.tp) * layout.tp * setup.itemsize
    yield _collective(layout, "all_gather", Sum("lm_head", 1, logits), 1)
    yield _collective(layout, "all_reduce", Sum("lm_head", 1, hidden), 1)


def router_weight_itemsize(model: DistributedModel, setup: TrainingSetup) -> int:
    """Bytes of one weight with which a router scales an expert's output."""
    return FP32_BYTES if model.has_router_weights_in_fp32 else setup.itemsize


def _attention(model: DistributedModel, a: Attention, setup: TrainingSetup) -> Iterator[Sum]:
    """The gradients of norms over single heads are summed too: each rank has those of its own heads."""
    if not model.splits_attention:
        return
    token = setup.tokens * setup.itemsize
    hidden = token * model.spec.hidden_size
    match a:
        case GroupedQueryAttention():
            for name in ("q_proj", "k_proj", "v_proj"):
                yield Sum(f"self_attn.{name}", 1, hidden)
            if a.qk_norm:
                for name in ("q_norm", "k_norm"):
                    yield Sum(f"self_attn.{name}", 1, a.head_dim * setup.itemsize)
        case LatentAttention():
            if a.q_lora_rank is None:
                yield Sum("self_attn.q_proj", 1, hidden)
            else:
                yield Sum("self_attn.q_b_proj", 1, token * a.q_lora_rank)
            # rotary features of the keys by-pass kv_b_proj (`MlaKvAProjParallel`)
            yield Sum("self_attn.kv_a_proj_with_mqa", 1, token * a.qk_rope_head_dim)
            yield Sum("self_attn.kv_b_proj", 1, token * a.kv_lora_rank)
        case _:
            assert_never(a)
    yield Sum("self_attn.o_proj", 1 + recomputes_layers(setup.checkpointing), hidden)


def _dense(path: str, f: DenseFfn, hidden: int) -> Iterator[Sum]:
    for name in ("gate_proj", "up_proj") if f.gated else ("up_proj",):
        yield Sum(f"{path}.{name}", 1, hidden)
    yield Sum(f"{path}.down_proj", 1, hidden)


def _experts(model: DistributedModel, f: MoeFfn, setup: TrainingSetup, layout: Layout) -> Iterator[Sum]:
    """Routed experts sum their output in forward; their input's gradient and that of the router's weights in backward.

    Shared experts run after them, so that recomputation repeats the routed ones' sum.
    """
    hidden = setup.tokens * model.spec.hidden_size * setup.itemsize
    if layout.ep == 1:
        weights = setup.tokens * f.num_experts_per_token * router_weight_itemsize(model, setup)
        repeats = recomputes_layers(setup.checkpointing) and f.shared is not None
        yield Sum(EXPERTS, 2 + repeats, hidden)
        yield Sum(EXPERTS, 1, weights)
    if f.shared is not None:
        yield from _dense("mlp.shared_experts", f.shared, hidden)


def _collective(layout: Layout, kind: Literal["all_reduce", "all_gather"], one: Sum, layers: int) -> Collective:
    count = one.times * layers * layout.micro_batches
    return Collective(
        axis="tp",
        kind=kind,
        module=one.module,
        group_size=layout.tp,
        count=count,
        size_bytes=count * one.size_bytes,
    )
