"""FLOPs of one rank in a step: the formulas of `analytic.model.flops` on local shapes.

Data axes change nothing: a rank computes what one GPU does with its tokens. Tensor parallelism divides the projections
that it splits, attention scores and experts exactly; the head by this rank's part of the vocabulary. What it does not
split (routers, latent down-projections, all attention of DeepSeek-V3) runs in full on each of its ranks.
Under expert parallelism a rank runs as many (token, expert) pairs as it sends: balanced routing is the assumption.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from analytic.model.breakdown import Breakdown
from analytic.model.checkpointing import recomputation
from analytic.model.flops import AttentionConvention, doubled_pairs, layer_flops
from analytic.model.spec import Attention, GroupedQueryAttention, LatentAttention, LayerSpec
from analytic.model.training import TrainingSetup
from analytic.parallelism.layout import Layout
from analytic.parallelism.parameters import EXPERTS, DistributedModel, layer_tensors
from analytic.parallelism.sharding import own_shard

SCORES = "self_attn"


@dataclass(frozen=True, slots=True, kw_only=True)
class RankFlops:
    """Executed FLOPs of a step, by module; equal layers are summed.

    Attributes:
        backward: twice forward, and QK^T once more where a fused kernel forms it again (arXiv:2307.08691,
            section 3.1). recompute: of checkpointed layers, by run of equal ones, as torch executes it.
    """

    forward: Breakdown
    backward: Breakdown
    recompute: Breakdown

    @property
    def total(self) -> int:
        """All three."""
        return self.forward.total + self.backward.total + self.recompute.total


def rank_flops(
    model: DistributedModel,
    setup: TrainingSetup,
    layout: Layout,
    rank: int,
    convention: AttentionConvention = "full",
) -> RankFlops:
    """What one rank executes in all micro-batches of a step."""
    sequences = setup.micro_batch * layout.micro_batches
    forward = backward = recompute = Breakdown("flops", {})
    for run in model.spec.runs:
        path, times = f"layers.{run.label}", run.count * sequences
        one = _forward(model, run.layer, setup, layout, convention)
        forward += one.times(times).under(path)
        backward += (one.times(2) + _scores_again(model, run.layer, setup, layout, convention)).times(times).under(path)
        recompute += Breakdown("flops", {path: recomputation(setup.checkpointing, run.layer, one).executed * times})
    vocabulary = own_shard(model.spec.vocab_size, layout.tp, layout.coordinate(rank, "tp"))
    head = Breakdown("flops", {"lm_head": 2 * setup.seq_len * model.spec.hidden_size * vocabulary * sequences})
    return RankFlops(forward=forward + head, backward=backward + head.times(2), recompute=recompute)


def excess_flops(
    model: DistributedModel, setup: TrainingSetup, layout: Layout, convention: AttentionConvention = "full"
) -> Breakdown:
    """Forward FLOPs that a tensor-parallel group spends more than one GPU would, by module: what each rank repeats."""
    sequences = setup.micro_batch * layout.micro_batches
    total = Breakdown("flops", {})
    for run in model.spec.runs:
        split = _split_modules(model, run.layer)
        whole = layer_flops(run.layer, model.spec.hidden_size, setup.seq_len, convention)
        repeated = {name: flops for name, flops in whole.items() if name not in split}
        times = (layout.tp - 1) * run.count * sequences
        total += Breakdown("flops", repeated).times(times).under(f"layers.{run.label}")
    return total


def _forward(
    model: DistributedModel, layer: LayerSpec, setup: TrainingSetup, layout: Layout, convention: AttentionConvention
) -> Breakdown:
    """One layer and sequence on one rank."""
    split = _split_modules(model, layer)
    whole = layer_flops(layer, model.spec.hidden_size, setup.seq_len, convention)
    return Breakdown("flops", {name: flops // layout.tp if name in split else flops for name, flops in whole.items()})


def _split_modules(model: DistributedModel, layer: LayerSpec) -> set[str]:
    """Modules whose FLOPs tensor parallelism divides. With expert parallelism its ranks share out the tokens."""
    tensors = layer_tensors(layer, model.spec.hidden_size, model.splits_attention)
    split = {tensor.name for tensor in tensors if tensor.split is not None}
    return split | {EXPERTS} | ({SCORES} if model.splits_attention else set())


def _scores_again(
    model: DistributedModel, layer: LayerSpec, setup: TrainingSetup, layout: Layout, convention: AttentionConvention
) -> Breakdown:
    """QK^T in a fused kernel's backward."""
    if setup.attention_kernel == "eager":
        return Breakdown("flops", {})
    a = layer.attention
    pairs = doubled_pairs(setup.seq_len, convention, a.sliding_window)
    heads = a.num_heads // (layout.tp if model.splits_attention else 1)
    return Breakdown("flops", {SCORES: pairs * heads * _query_width(a)})


def _query_width(a: Attention) -> int:
    match a:
        case GroupedQueryAttention():
            return a.head_dim
        case LatentAttention():
            return a.qk_head_dim
        case _:
            assert_never(a)
