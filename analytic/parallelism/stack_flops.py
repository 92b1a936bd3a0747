"""FLOPs of the busiest rank of `megatron-te` and torchtitan in a step.

With sequence parallelism and a balanced context-parallel ring, tensor and context parallelism divide every product of
a layer, routers and latent down-projections too. The head has this rank's rows of the padded vocabulary. Experts are
assumed to be balanced.
"""

from __future__ import annotations

from collections.abc import Callable

from analytic.model.breakdown import Breakdown
from analytic.model.checkpointing import last_projection_flops
from analytic.model.flops import AttentionConvention, doubled_pairs, layer_flops
from analytic.model.spec import LatentAttention, LayerSpec
from analytic.model.training import TrainingSetup
from analytic.parallelism import megatron, torchtitan
from analytic.parallelism.layout import Layout
from analytic.parallelism.rank_flops import SCORES, RankFlops
from analytic.parallelism.shapes import Range, Recompute, StackModel, padded_vocab

# From a layer and its forward FLOPs to those that its backward runs again.
_Again = Callable[[LayerSpec, Breakdown], int]


def megatron_flops(
    model: StackModel,
    setup: TrainingSetup,
    layout: Layout,
    recompute: Recompute | None = None,
    convention: AttentionConvention = "full",
) -> RankFlops:
    """The busiest pipeline rank. `selective` runs attention's core again, `full` every layer whole (reentrant)."""
    policy = recompute or setup.checkpointing
    again = {"none": _nothing, "selective": _attention_core, "full": _whole_layer}[policy]
    rows = padded_vocab(model.spec.vocab_size, layout.tp, megatron.VOCAB_MULTIPLE) // layout.tp
    stages = (megatron.stage_ranges(model.num_layers, layout, stage) for stage in range(layout.pp))
    every = [_stage(model, setup, layout, ranges, rows, again, convention) for ranges in stages]
    return max(every, key=lambda flops: flops.total)


def torchtitan_flops(
    model: StackModel,
    setup: TrainingSetup,
    layout: Layout,
    recompute: Recompute | None = None,
    convention: AttentionConvention = "full",
) -> RankFlops:
    """The busiest pipeline rank. `selective` runs wk, wo and w3 again, `full` a layer but for its last product."""
    policy = recompute or setup.checkpointing
    again = {"none": _nothing, "selective": _every_second_product, "full": _but_last_product}[policy]
    rows = padded_vocab(model.spec.vocab_size, layout.tp) // layout.tp
    stages = (torchtitan.stage_ranges(model.num_layers, layout, rank) for rank in range(layout.pp))
    every = [_stage(model, setup, layout, ranges, rows, again, convention) for ranges in stages]
    return max(every, key=lambda flops: flops.total)


def _stage(
    model: StackModel,
    setup: TrainingSetup,
    layout: Layout,
    ranges: list[Range],
    head_rows: int,
    again: _Again,
    convention: AttentionConvention,
) -> RankFlops:
    """One pipeline rank: forward, twice that and QK^T once more in backward, what is recomputed."""
    h, sequences, split = model.spec.hidden_size, setup.micro_batch * layout.micro_batches, layout.tp * layout.cp
    forward = backward = recompute = Breakdown("flops", {})
    for path, kind, layers in model.pieces(ranges):
        times, a = len(layers) * sequences, kind.layer.attention
        one = layer_flops(kind.layer, h, setup.seq_len, convention)
        local = Breakdown("flops", {name: flops * times // split for name, flops in one.items()})
        width = a.num_heads * (a.qk_head_dim if isinstance(a, LatentAttention) else a.head_dim)
        scores = doubled_pairs(setup.seq_len, convention, a.sliding_window) * width * times // split
        forward += local.under(path)
        backward += (local.times(2) + Breakdown("flops", {SCORES: scores})).under(path)
        recompute += Breakdown("flops", {path: again(kind.layer, one) * times // split})
    if ranges[-1][1] == model.num_layers:
        products = 2 * setup.seq_len // layout.cp * sequences * h * head_rows
        forward += Breakdown("flops", {"lm_head": products})
        backward += Breakdown("flops", {"lm_head": 2 * products})
    return RankFlops(forward=forward, backward=backward, recompute=recompute)


def _nothing(layer: LayerSpec, forward: Breakdown) -> int:
    return 0


def _attention_core(layer: LayerSpec, forward: Breakdown) -> int:
    return forward[SCORES]


def _whole_layer(layer: LayerSpec, forward: Breakdown) -> int:
    return forward.total


def _every_second_product(layer: LayerSpec, forward: Breakdown) -> int:
    return forward["self_attn.k_proj"] + forward["self_attn.o_proj"] + forward["mlp.up_proj"]


def _but_last_product(layer: LayerSpec, forward: Breakdown) -> int:
    return forward.total - last_projection_flops(layer, forward)
