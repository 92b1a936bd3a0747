"""What torchtitan runs, and how it cuts a model into pipeline stages.

Sources: torchtitan distributed/pipeline_parallel.py, distributed/parallel_dims.py, models/common/decoder.py;
parallelisms/parallelize_llama.py of December 2024, to which the published peaks belong.
"""

from __future__ import annotations

from analytic.model.optimizer import FP32_BYTES
from analytic.model.spec import PRE_NORM, DenseFfn, GroupedQueryAttention, LayerSpec, ModelSpec
from analytic.model.training import TrainingSetup
from analytic.parallelism.layout import Layout
from analytic.parallelism.pipeline import Pipeline
from analytic.parallelism.shapes import Range, StackModel, expect, expect_divides, padded_vocab

_AROUND = 2  # layers that torchtitan counts embedding and head as: pipeline_parallel_first_stage_less_layers, ..._last


def stage_ranges(num_layers: int, layout: Layout, rank: int) -> list[Range]:
    """Layers of a pipeline rank: embedding and head count as one layer each, the first stages take what is left over.

    >>> [stage_ranges(32, Layout(pp=4, micro_batches=4), rank) for rank in range(4)]
    [[(0, 8)], [(8, 17)], [(17, 25)], [(25, 32)]]
    """
    pipeline = Pipeline.of(layout)
    size, over = divmod(num_layers + _AROUND, pipeline.num_stages)
    ranges = []
    for stage in pipeline.stages_of(rank):
        first, end = (index * size + min(index, over) - 1 for index in (stage, stage + 1))
        ranges.append((max(first, 0), min(end, num_layers)))
    return ranges


def last_rank(layout: Layout) -> int:
    """The pipeline rank that holds the head: the first one where the schedule is V-shaped."""
    pipeline = Pipeline.of(layout)
    return pipeline.rank_of(pipeline.num_stages - 1)


def end_params(model: StackModel, layout: Layout, rank: int) -> int:
    """Parameters around the layers on one pipeline rank: FSDP's root group, which stays gathered."""
    spec = model.spec
    table = padded_vocab(spec.vocab_size, layout.tp) // layout.tp * spec.hidden_size
    first = table if rank == 0 else 0
    last = model.last_params + (0 if spec.tie_word_embeddings else table) if rank == last_rank(layout) else 0
    return first + last


def stored_bytes(layout: Layout) -> int:
    """Bytes of one element of stored parameters, their gradients and moments."""
    return FP32_BYTES if layout.mixed_precision else 2


def check_torchtitan(spec: ModelSpec, setup: TrainingSetup, layout: Layout) -> None:
    """Raise a UsageError that names the dimension unless torchtitan's Llama runs the layout."""
    expect(setup.precision == "bf16", f"precision = {setup.precision}: expected bf16 on torchtitan")
    expect(setup.attention_kernel != "eager", "attention kernel eager: torchtitan calls SDPA, expected flash or cudnn")
    _check_model(spec)
    _check_axes(spec, setup, layout)
    _check_pipeline(spec, layout)
    is_cast = layout.num_gpus == 1 or layout.dp_shard * layout.cp > 1
    split = f"tp = {layout.tp}, pp = {layout.pp}"
    expect(is_cast, f"{split}: expected dp_shard or cp > 1 with them, as FSDP alone casts to bf16")


def _check_model(spec: ModelSpec) -> None:
    refused = {
        "embeddings of positions or ALiBi": not spec.has_rotary or spec.num_positions > 0,
        "embedding_size": spec.embedding_size is not None,
        "embedding_norm": spec.embedding_norm is not None,
        "final_norm = none": spec.final_norm is None,
    }
    for name, is_there in refused.items():
        expect(not is_there, f"model with {name}: torchtitan's Llama has none")
    for layer in spec.kinds:
        expect(_is_llama(layer), f"layers {layer.kind}: torchtitan is predicted for Llama's and dense Qwen3's layers")


def _is_llama(layer: LayerSpec) -> bool:
    a, f = layer.attention, layer.ffn
    if not isinstance(a, GroupedQueryAttention) or not isinstance(f, DenseFfn):
        return False
    has_biases = a.qkv_bias or a.output_bias or f.bias or a.sinks or a.sliding_window is not None
    is_plain = layer.norm_slots == PRE_NORM and layer.norm.kind == "rms" and layer.norm.weight and not layer.parallel
    return f.gated and is_plain and not has_biases and (a.qk_norm is None or a.qk_norm.span == "head")


def _check_axes(spec: ModelSpec, setup: TrainingSetup, layout: Layout) -> None:
    for name in ("ep", "etp"):
        size = getattr(layout, name)
        expect(size == 1, f"{name} = {size}: expected 1, as torchtitan is predicted without experts")
    is_split = layout.dp_replicate > 1 and layout.dp_shard == 1
    expect(not is_split, f"dp_replicate = {layout.dp_replicate}: expected dp_shard > 1 with it (HSDP), not classic DDP")
    tp = layout.tp
    for layer in spec.kinds:
        if isinstance(layer.attention, GroupedQueryAttention):
            expect_divides("tp", tp, "heads", layer.attention.num_heads)
            expect_divides("tp", tp, "key-value heads", layer.attention.num_kv_heads)
    if layout.cp > 1:
        expect_divides("cp", layout.cp, "seq_len", setup.seq_len, twice=True)
    expect_divides("tp", tp, "the positions of a rank (sequence parallelism)", setup.seq_len // layout.cp)


def _check_pipeline(spec: ModelSpec, layout: Layout) -> None:
    pp, v, schedule = layout.pp, layout.virtual_stages, layout.pipeline_schedule
    if pp == 1:
        expect(v == 1, f"virtual_stages = {v}: expected 1 without a pipeline (pp = 1)")
        return
    expect(not spec.tie_word_embeddings, f"pp = {pp}: expected 1, as the embedding is tied to the head")
    is_single = schedule in ("gpipe", "1f1b")
    expect(is_single or v > 1, f"virtual_stages = {v}: expected at least 2 with pipeline_schedule = {schedule}")
    most = (len(spec.layers) + _AROUND) // 2
    expect(
        pp * v <= most,
        f"pp = {pp}, virtual_stages = {v}: expected a product of at most {most}, so that every stage has a layer",
    )
    Pipeline.of(layout)
