"""The peak of a rank of `megatron-te`: Megatron-Core with TransformerEngine, by formula.

What a rank stores follows from the layout. What it keeps for backward is listed below by the operator that saves it.
Every term has its source, but one (`_kept`): attention over a ring keeps one more tensor as wide as its output, which
the published rows show and no line of the source was found for.

Assumed: 16-bit parameters, gradients in fp32 with `mixed_precision` and else in 16 bits, an fp32 distributed optimizer
(ZeRO-1 over dp_shard x cp), sequence parallelism wherever tp > 1, fused weight gradients, TransformerEngine's fused
cross entropy, balanced experts.
Not counted: the allocator's rounding, and buffers of a few megabytes (token ids, rotary tables, split sizes).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from operator import mul

from analytic.memory.rank_peak import RankPeak
from analytic.model.optimizer import FP32_BYTES, cost_of
from analytic.model.training import TrainingSetup
from analytic.parallelism.layout import Layout
from analytic.parallelism.megatron import VOCAB_MULTIPLE, end_params, gradient_bytes, stage_ranges, stages_in_flight
from analytic.parallelism.shapes import LayerShape, Recompute, StackModel, padded_vocab

HALF = 2  # bytes of bf16 and fp16
# torch aten/src/ATen/cuda/CublasHandlePool.cpp, parseChosenWorkspaceSize (compute capability 9.0 and above), and
# TransformerEngine pytorch/cpp_extensions/gemm.py, get_cublas_workspace_size_bytes. Both are torch allocations.
_TORCH_WORKSPACE = 32 * 2**20
_TE_WORKSPACE = 32 * 2**20 + 1024
_GROUPED_STREAMS = 4  # TransformerEngine common/util/multi_stream.cpp, nvte_get_num_compute_streams

# analytic.memory.published, which these rows also showed what to look for: bf16, nothing recomputed, pp of 2 at most.
ORIGIN = "by formula, median |error| 0.0% on 10 published rows"
UNLIKE = "by formula; recompute, pp > 2, virtual stages and etp are in no published row it was compared with"


def megatron_peak(
    model: StackModel, setup: TrainingSetup, layout: Layout, recompute: Recompute | None = None
) -> RankPeak:
    """The peak of the worst rank. `check_megatron` says whether the stack runs the layout.

    `recompute`: `selective` runs attention's core again, `full` every layer; None is the setup's checkpointing.
    """
    policy = recompute or setup.checkpointing
    return max(_stages(model, setup, layout, policy), key=lambda peak: peak.peak_bytes)


def _is_compared(layout: Layout, policy: Recompute) -> bool:
    """Whether published rows are of such layouts."""
    return policy == "none" and layout.pp <= 2 and layout.virtual_stages == layout.etp == 1


def _stages(model: StackModel, setup: TrainingSetup, layout: Layout, policy: Recompute) -> Iterator[RankPeak]:
    """The peaks of the pipeline's ranks that one of is the highest."""
    tokens = setup.tokens // layout.cp
    own = [kind.whole_params + kind.split_params // layout.tp for kind in model.kinds]
    experts = [kind.expert_params // (layout.ep * layout.etp) for kind in model.kinds]
    kept = [_kept(kind, model, tokens, layout, policy) for kind in model.kinds]
    states = len(cost_of(setup.optimizer).states)
    per_param = FP32_BYTES * (1 + states) if states else 0
    for stage, counts, in_flight in _candidates(model, layout.pp, layout.virtual_stages, layout.micro_batches):
        is_last = stage == layout.pp - 1
        dense = sum(map(mul, counts, own)) + end_params(model, layout, stage)
        routed = sum(map(mul, counts, experts))
        held = sum(map(mul, counts, kept)) * in_flight // layout.virtual_stages
        passing, moment = _passing(model, counts, tokens, layout, policy)
        if is_last:
            head = _head(model, tokens, layout)
            passing, moment = max((passing, moment), (head, "backward of lm_head"))
        shared = -(-dense // (layout.dp_shard * layout.cp)) + -(-routed // layout.efsdp)
        yield RankPeak(
            rank=stage * (layout.num_gpus // layout.pp),
            parameters_bytes=HALF * (dense + routed),
            gradients_bytes=gradient_bytes(layout) * (dense + routed),
            optimizer_bytes=per_param * shared,
            activations_bytes=held,
            temporaries_bytes=passing + _lasting(model, counts, layout),
            moment=moment,
            origin=ORIGIN if _is_compared(layout, policy) else UNLIKE,
        )


@lru_cache(maxsize=1024)
def _candidates(
    model: StackModel, pp: int, virtual_stages: int, micro_batches: int
) -> tuple[tuple[int, tuple[int, ...], int], ...]:
    """Pipeline ranks with their layers by kind and the stages in flight: the first with such layers, and the last.

    Later ones have fewer in flight. Found once for every pipeline: it is the same whatever the other axes are.
    """
    layout = Layout(pp=pp, virtual_stages=virtual_stages, micro_batches=micro_batches)
    seen = set()
    found = []
    for stage in range(layout.pp):
        counts = model.counts(stage_ranges(model.num_layers, layout, stage))
        if counts not in seen or stage == layout.pp - 1:
            seen.add(counts)
            found.append((stage, counts, stages_in_flight(layout, stage)))
    return tuple(found)


def _kept(kind: LayerShape, model: StackModel, tokens: int, layout: Layout, policy: Recompute) -> int:
    """What one layer keeps of one micro-batch for backward.

    Inputs and outputs of norms, queries, keys, values and what attention returns, the first product's output and the
    second one's input, all split by tensor or sequence parallelism; the kernel's fp32 log-sum-exp. Experts: the rows
    they receive, likewise; fp32 router probabilities.
    """
    h, tp, a = model.spec.hidden_size, layout.tp, kind.attention
    if policy == "full":
        return HALF * tokens * h // tp
    kept = HALF * tokens * ((kind.norms * h + kind.matrices * kind.dense) // tp + a.kept_features(tp))
    if policy == "none":
        kept += FP32_BYTES * tokens * a.heads // tp
        if layout.cp > 1:
            kept += HALF * tokens * a.output // tp
    if kind.experts:
        rows = tokens // tp * kind.top_k * layout.etp
        kept += HALF * rows * (h + 3 * kind.expert // layout.etp) + FP32_BYTES * (tokens // tp) * kind.experts
    return kept


def _passing(
    model: StackModel, counts: tuple[int, ...], tokens: int, layout: Layout, policy: Recompute
) -> tuple[int, str]:
    """The gradients that are live as the backward pass of a stage's largest layer begins, and the moment.

    Of the feed-forward network's first product and of its gathered output; of experts' rows before and after their
    exchange. Under full recomputation, what the layer keeps of its own too.
    """
    h, tp = model.spec.hidden_size, layout.tp
    most, largest = -1, 0
    for i, kind in enumerate(model.kinds):
        if not counts[i]:
            continue
        size = HALF * tokens * ((kind.matrices - 1) * kind.dense // tp + h) if kind.dense else HALF * tokens * h
        if kind.experts:
            rows = tokens // tp * kind.top_k * layout.etp
            size = max(size, HALF * rows * (2 * h + 2 * kind.expert // layout.etp) + HALF * tokens * h // tp)
        if policy == "full":
            size += _kept(kind, model, tokens, layout, "none")
        if size > most:
            most, largest = size, i
    return max(most, 0), f"backward of a {model.kinds[largest].layer.kind} layer"


def _head(model: StackModel, tokens: int, layout: Layout) -> int:
    """What is live in backward of the head, on the last stage.

    The logits' gradient, which TransformerEngine writes over the logits (pytorch/triton/cross_entropy.py), a dummy
    gradient of the head's weight (megatron/core/tensor_parallel/layers.py), the final norm's input and output, the
    gradient of its output and, under sequence parallelism, its gathered output and the gradient's own shard.
    """
    h, tp = model.spec.hidden_size, layout.tp
    rows = padded_vocab(model.spec.vocab_size, tp, VOCAB_MULTIPLE) // tp
    whole, shard = HALF * tokens * h, HALF * tokens * h // tp
    gathered = whole + shard if tp > 1 else 0
    return HALF * rows * (tokens + h) + whole + 2 * shard + gathered


def _lasting(model: StackModel, counts: tuple[int, ...], layout: Layout) -> int:
    """What is allocated once: workspaces, and one 16-bit dummy gradient for each shape of weight.

    TransformerEngine pytorch/module/base.py, get_dummy_wgrad.
    """
    h, tp = model.spec.hidden_size, layout.tp
    sizes, has_experts = {}, False
    for kind, count in zip(model.kinds, counts, strict=True):
        if count:
            a = kind.attention
            sizes["attention", a.split_matrices, a.whole_matrices] = a.split_matrices // tp + a.whole_matrices
            sizes["dense", kind.dense, kind.matrices] = kind.matrices * h * kind.dense // tp
            sizes["expert", kind.expert, 3] = 3 * h * kind.expert // layout.etp
            has_experts = has_experts or bool(kind.experts)
    workspaces = _TORCH_WORKSPACE + _TE_WORKSPACE * (1 + _GROUPED_STREAMS * has_experts)
    return HALF * sum(sizes.values()) + workspaces
