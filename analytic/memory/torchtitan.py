"""The peak of a rank of torchtitan: FSDP2 with tensor, sequence, context and pipeline parallelism, by formula.

Transformer blocks are compiled one by one, the loss is not, as in the published runs (torchtitan of December 2024,
train.py). Figures are bytes allocated; the published peaks are bytes reserved, the allocator's cache included.

Selective recomputation saves attention's output and every second matrix product's (parallelize_llama.py,
`_save_list`): those of wq, wv, w1 and, in eager mode, w2, and what tensor parallelism reduced and scattered.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from operator import mul

from analytic.memory.rank_peak import RankPeak
from analytic.model.optimizer import FP32_BYTES, cost_of
from analytic.model.training import TrainingSetup
from analytic.parallelism.layout import Layout, PipelineSchedule
from analytic.parallelism.pipeline import Pipeline
from analytic.parallelism.shapes import LayerShape, Recompute, StackModel, padded_vocab
from analytic.parallelism.torchtitan import end_params, last_rank, stage_ranges, stored_bytes

HALF = 2
# Cross entropy in backward: the fp32 log-softmax, its gradient and the logits' (train.py, loss_fn).
_LOSS_BYTES = 3 * FP32_BYTES

# Bytes reserved over bytes allocated: the one constant fitted to the published peaks, which are bytes reserved.
RESERVED = 1.15
ORIGIN = f"by formula, median |error| 1.0% on 10 published rows ({RESERVED} x allocated, as they are bytes reserved)"
UNLIKE = f"by formula ({RESERVED} x allocated); tp > 1 and pp > 1 are in no published row it was compared with"


def torchtitan_peak(
    model: StackModel,
    setup: TrainingSetup,
    layout: Layout,
    recompute: Recompute | None = None,
    *,
    is_compiled: bool = True,
) -> RankPeak:
    """The peak of the worst rank. `check_torchtitan` says whether the stack runs the layout.

    `recompute`: `selective` saves every second matrix product, `full` each layer's input; None is the setup's.
    """
    policy = recompute or setup.checkpointing
    kept = [_kept(kind, model, setup.tokens // layout.cp, layout, policy, is_compiled) for kind in model.kinds]
    return max(_peaks(model, setup, layout, policy, kept), key=lambda peak: peak.peak_bytes)


def _peaks(
    model: StackModel, setup: TrainingSetup, layout: Layout, policy: Recompute, kept: Sequence[int]
) -> Iterator[RankPeak]:
    """The peaks of the pipeline's ranks that one of is the highest."""
    key = layout.pp, layout.virtual_stages, layout.pipeline_schedule, layout.micro_batches
    for rank, counts, in_flight in _candidates(model, *key):
        held = sum(map(mul, counts, kept)) * in_flight // layout.virtual_stages
        yield _peak(model, setup, layout, policy, rank, counts, held)


@lru_cache(maxsize=1024)
def _candidates(
    model: StackModel, pp: int, virtual_stages: int, schedule: PipelineSchedule, micro_batches: int
) -> tuple[tuple[int, tuple[int, ...], int], ...]:
    """Pipeline ranks with their layers by kind and the stages in flight, each with more of these than one before it.

    Found once for every pipeline: it is the same whatever the other axes are.
    """
    layout = Layout(pp=pp, virtual_stages=virtual_stages, pipeline_schedule=schedule, micro_batches=micro_batches)
    pipeline, last = Pipeline.of(layout), last_rank(layout)
    most: dict[tuple[int, ...], int] = {}
    found = []
    for rank in range(layout.pp):
        counts = model.counts(stage_ranges(model.num_layers, layout, rank))
        in_flight = pipeline.in_flight(rank) if layout.pp > 1 else layout.virtual_stages
        if rank == last or most.get(counts, 0) < in_flight:
            most[counts] = in_flight
            found.append((rank, counts, in_flight))
    return tuple(found)


def _peak(
    model: StackModel,
    setup: TrainingSetup,
    layout: Layout,
    policy: Recompute,
    rank: int,
    counts: tuple[int, ...],
    held: int,
) -> RankPeak:
    tokens, shards, stored = setup.tokens // layout.cp, layout.dp_shard * layout.cp, stored_bytes(layout)
    ends = end_params(model, layout, rank)
    layers = [kind.whole_params + kind.split_params // layout.tp for kind in model.kinds]
    own = sum(map(mul, counts, layers)) + ends
    shard = -(-own // shards)
    unreduced = stored * own if layout.pp > 1 else 0  # summed over micro-batches before they are reduced
    gathered = HALF * own if layout.pp > 1 else HALF * ends
    passing, moment = _layer_backward(model, counts, tokens, layout, policy)
    if rank == last_rank(layout):
        loss = _LOSS_BYTES * tokens * padded_vocab(model.spec.vocab_size, layout.tp) // layout.tp
        after = HALF * max(layers) if layout.pp == 1 else 0  # the last layer is not resharded after forward
        passing, moment = max((passing, moment), (loss + after, "backward of the loss"))
    return RankPeak(
        rank=rank * (layout.num_gpus // layout.pp),
        parameters_bytes=stored * shard,
        gradients_bytes=stored * shard + unreduced,
        optimizer_bytes=stored * shard * len(cost_of(setup.optimizer).states),
        activations_bytes=held,
        temporaries_bytes=gathered + passing,
        moment=moment,
        origin=ORIGIN if layout.tp == layout.pp == 1 else UNLIKE,
    )


def _kept(
    kind: LayerShape, model: StackModel, tokens: int, layout: Layout, policy: Recompute, is_compiled: bool = True
) -> int:
    """What one layer keeps of one micro-batch for backward.

    Tensor-parallel products save their gathered inputs whole, in each of the two networks.
    """
    h, tp, a = model.spec.hidden_size, layout.tp, kind.attention
    log_sum_exp = FP32_BYTES * tokens * a.heads // tp
    match policy:
        case "full":
            return HALF * tokens * h // tp
        case "selective":
            scattered = 2 * h // tp if tp > 1 else 0
            last = 0 if is_compiled else h  # w2's output: no gradient needs it, eager mode keeps it all the same
            features = (h + a.query + a.value + kind.dense + a.output) // tp + last + scattered
            return HALF * tokens * features + log_sum_exp
        case "none":
            features = 2 * h // tp + 2 * h + a.kept_features(tp) + kind.matrices * kind.dense // tp
            return HALF * tokens * features + log_sum_exp


def _layer_backward(
    model: StackModel, counts: tuple[int, ...], tokens: int, layout: Layout, policy: Recompute
) -> tuple[int, str]:
    """What else is live in backward of the largest layer: what it restores, gradients and FSDP's buffers.

    Gradients of the feed-forward products and of the head's weight; without a pipeline two gathered layers, and one
    layer's 16-bit gradients and the input of their reduction.
    """
    h, tp = model.spec.hidden_size, layout.tp
    most, largest = 0, 0
    for i, kind in enumerate(model.kinds):
        if counts[i]:
            size = HALF * tokens * ((kind.matrices - 1) * kind.dense // tp + h)
            if policy != "none":
                size += _kept(kind, model, tokens, layout, "none")
            if layout.pp == 1:
                layer = kind.whole_params + kind.split_params // tp
                size += (3 * HALF + stored_bytes(layout)) * layer
            if size > most:
                most, largest = size, i
    head = HALF * padded_vocab(model.spec.vocab_size, tp) // tp * h if layout.pp == 1 else 0
    return most + head, f"backward of a {model.kinds[largest].layer.kind} layer"
