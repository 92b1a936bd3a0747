"""What Megatron-Core with TransformerEngine runs, and how it cuts a model into pipeline stages.

Sources: Megatron-LM megatron/core/transformer/transformer_config.py, megatron/training/arguments.py,
megatron/core/pipeline_parallel/schedules.py.
"""

from __future__ import annotations

from analytic.model.optimizer import FP32_BYTES
from analytic.model.spec import PRE_NORM, GroupedQueryAttention, LayerSpec, ModelSpec, MoeFfn
from analytic.model.training import TrainingSetup
from analytic.parallelism.layout import Layout
from analytic.parallelism.shapes import AttentionShape, Range, StackModel, expect, expect_divides, padded_vocab

VOCAB_MULTIPLE = 128  # --make-vocab-size-divisible-by


def stage_ranges(num_layers: int, layout: Layout, stage: int) -> list[Range]:
    """Layers of a pipeline rank: as many on each, its virtual stages pp apart.

    Where that does not come out even, embedding and head count as a layer each
    (--account-for-embedding-in-pipeline-split, --account-for-loss-in-pipeline-split).

    >>> stage_ranges(16, Layout(pp=2, virtual_stages=2, pipeline_schedule="interleaved-1f1b", micro_batches=2), 1)
    [(4, 8), (12, 16)]
    >>> [stage_ranges(126, Layout(pp=4, micro_batches=4), stage) for stage in (0, 1, 3)]
    [[(0, 31)], [(31, 63)], [(95, 126)]]
    """
    stages = layout.pp * layout.virtual_stages
    before = 0 if num_layers % stages == 0 else 1
    size = (num_layers + 2 * before) // stages
    firsts = (index * size - before for index in range(stage, stages, layout.pp))
    return [(max(first, 0), min(first + size, num_layers)) for first in firsts]


def gradient_bytes(layout: Layout) -> int:
    """Bytes of one accumulated gradient: fp32 (--accumulate-allreduce-grads-in-fp32), or that of the parameters."""
    return FP32_BYTES if layout.mixed_precision else 2


def stages_in_flight(layout: Layout, stage: int) -> int:
    """The most (virtual stage, micro-batch) pairs whose activations a pipeline rank holds.

    1F1B warms up with pp - 1 - rank forward passes, interleaved with 2 (pp - 1 - rank) + (v - 1) pp, and then runs one
    more before each backward: `forward_backward_pipelining_with_interleaving`, `num_warmup_microbatches`.

    >>> stages_in_flight(Layout(pp=4, micro_batches=8), 0)
    4
    """
    pp, m, v = layout.pp, layout.micro_batches, layout.virtual_stages
    if v == 1:
        return min(m, pp - stage)
    return min(m * v, 2 * (pp - 1 - stage) + (v - 1) * pp + 1)


def end_params(model: StackModel, layout: Layout, stage: int) -> int:
    """Parameters around the layers on one rank. Both ends of a pipeline hold a tied embedding."""
    spec = model.spec
    table = padded_vocab(spec.vocab_size, layout.tp, VOCAB_MULTIPLE) // layout.tp * spec.hidden_size
    first = table + model.first_params if stage == 0 else 0
    if stage < layout.pp - 1:
        return first
    return first + model.last_params + (0 if stage == 0 and spec.tie_word_embeddings else table)


def check_megatron(spec: ModelSpec, setup: TrainingSetup, layout: Layout) -> None:
    """Raise a UsageError that names the dimension unless Megatron-Core runs the layout."""
    _check_setup(setup)
    _check_model(spec)
    _check_pipeline(len(spec.layers), layout)
    _check_sequence(setup, layout)
    for layer in spec.kinds:
        _check_layer(layer, spec.hidden_size, layout)
    if not spec.has_experts:
        for name in ("ep", "etp"):
            size = getattr(layout, name)
            expect(size == 1, f"{name} = {size}: expected 1, as the model has no experts")


def _check_setup(setup: TrainingSetup) -> None:
    expect(setup.precision != "fp32", f"precision = {setup.precision}: megatron-te trains in 16 bits, expected bf16")
    expect(
        setup.attention_kernel in ("flash", "cudnn"),
        f"attention kernel {setup.attention_kernel}: megatron-te runs TransformerEngine's, expected flash or cudnn",
    )
    expect(
        setup.optimizer != "adamw_foreach",
        f"optimizer = {setup.optimizer}: megatron-te shards TransformerEngine's fused Adam, expected adamw_fused",
    )


def _check_model(spec: ModelSpec) -> None:
    refused = {
        "embedding_size": spec.embedding_size is not None,
        "embedding_norm": spec.embedding_norm is not None,
        "final_norm = none": spec.final_norm is None,
        "ALiBi": not spec.has_rotary and spec.num_positions == 0,
        "parallel attention and feed-forward": any(layer.parallel for layer in spec.kinds),
        "norms after attention or feed-forward": any(layer.norm_slots != PRE_NORM for layer in spec.kinds),
        "norms without weights": any(not layer.norm.weight for layer in spec.kinds),
        "a norm over all heads at once": any(_norms_all_heads(layer) for layer in spec.kinds),
    }
    for name, is_there in refused.items():
        expect(not is_there, f"model with {name}: megatron-te has no such layer")


def _norms_all_heads(layer: LayerSpec) -> bool:
    attention = layer.attention
    if not isinstance(attention, GroupedQueryAttention) or attention.qk_norm is None:
        return False
    return attention.qk_norm.span == "all_heads"


def _check_pipeline(num_layers: int, layout: Layout) -> None:
    pp, v, m = layout.pp, layout.virtual_stages, layout.micro_batches
    wanted = "1f1b" if v == 1 else "interleaved-1f1b"
    expect(
        layout.pipeline_schedule == wanted,
        f"pipeline_schedule = {layout.pipeline_schedule}: expected {wanted} with virtual_stages = {v} on megatron-te",
    )
    expect(v == 1 or pp > 1, f"virtual_stages = {v}: expected 1 without a pipeline (pp = 1)")
    stages, with_ends = pp * v, num_layers + 2
    expect(
        num_layers % stages == 0 or (with_ends % stages == 0 and with_ends > stages),
        f"pp = {pp}, virtual_stages = {v}: expected a product that divides {num_layers} layers, or {with_ends} with "
        "embedding and head",
    )
    expect(v == 1 or m % pp == 0, f"micro_batches = {m}: expected a multiple of pp = {pp} with virtual stages")


def _check_sequence(setup: TrainingSetup, layout: Layout) -> None:
    if layout.cp > 1:
        expect_divides("cp", layout.cp, "seq_len", setup.seq_len, twice=True)
    local = setup.seq_len // layout.cp
    expect_divides("tp", layout.tp, "the positions of a rank (sequence parallelism)", local)


def _check_layer(layer: LayerSpec, hidden_size: int, layout: Layout) -> None:
    tp, shape, ffn = layout.tp, AttentionShape.of(layer.attention, hidden_size), layer.ffn
    expect_divides("tp", tp, "heads", shape.heads)
    groups = shape.kv_heads
    expect(
        groups % tp == 0 or tp % groups == 0, f"tp = {tp}: expected a divisor or a multiple of {groups} key-value heads"
    )
    expect_divides("tp", tp, "hidden_size", hidden_size)
    dense = ffn.shared if isinstance(ffn, MoeFfn) else ffn
    if dense is not None:
        expect_divides("tp", tp, "intermediate_size", dense.intermediate_size)
    if isinstance(ffn, MoeFfn):
        expect_divides("ep", layout.ep, "experts", ffn.num_experts)
        expect_divides("etp", layout.etp, "the experts' intermediate_size", ffn.expert_intermediate_size)
