"""What a rank of torchtitan sends and receives in a step, by formula.

Sources: torchtitan parallelisms/parallelize_llama.py of December 2024 (plans, apply_fsdp, `_save_list`; rotation of
context parallelism by all-gather); torch distributed/tensor/parallel/loss.py,
distributed/tensor/experimental/_attention.py, distributed/fsdp/_fully_shard.
"""

from __future__ import annotations

from analytic.model.optimizer import FP32_BYTES
from analytic.model.training import TrainingSetup
from analytic.parallelism.communication import Collective
from analytic.parallelism.layout import Layout
from analytic.parallelism.pipeline import Pipeline
from analytic.parallelism.shapes import LayerShape, Recompute, StackModel
from analytic.parallelism.tally import Tally
from analytic.parallelism.torchtitan import end_params, last_rank, stage_ranges, stored_bytes

_HALF = 2


def torchtitan_collectives(
    model: StackModel, setup: TrainingSetup, layout: Layout, rank: int, recompute: Recompute | None = None
) -> tuple[Collective, ...]:
    """Every collective of a rank in one step."""
    tally, policy = Tally(), recompute or setup.checkpointing
    stage, tokens, m = layout.coordinate(rank, "pp"), setup.tokens // layout.cp, layout.micro_batches
    for path, kind, layers in model.pieces(stage_ranges(model.num_layers, layout, stage)):
        times = len(layers) * m
        _tensor_parallel(tally, path, kind, model.spec.hidden_size, tokens, times, layout, policy)
        _rotation(tally, path, kind, tokens, times, layout, policy)
        one = kind.whole_params + kind.split_params // layout.tp
        keeps_last = layers.stop == model.num_layers
        _sharded(tally, path, one, len(layers), len(layers) - keeps_last, layout)
    _around(tally, model, tokens, layout, stage)
    ends = end_params(model, layout, stage)
    _sharded(tally, "root", ends, 1, 0, layout)
    _pipeline(tally, model, tokens, layout, stage)
    return tally.collectives()


def _tensor_parallel(
    tally: Tally, path: str, kind: LayerShape, h: int, tokens: int, times: int, layout: Layout, policy: Recompute
) -> None:
    """Each network gathers its input, which it keeps, and scatters its output; backward does both for gradients.

    Recomputation gathers both again; under `full` it also scatters what attention returns.
    """
    size = _HALF * tokens * h
    again = 0 if policy == "none" else 2
    tally.add("tp", "all_gather", path, layout.tp, times * (4 + again), size)
    tally.add("tp", "reduce_scatter", path, layout.tp, times * (5 if policy == "full" else 4), size)
    tally.add("tp", "all_reduce", path, layout.tp, times, _HALF * kind.whole_params)


def _rotation(
    tally: Tally, path: str, kind: LayerShape, tokens: int, times: int, layout: Layout, policy: Recompute
) -> None:
    """Keys and values are gathered in forward and in backward; their fp32 gradients go around."""
    size = _HALF * tokens * kind.attention.local_kv_features(layout.tp)
    passes, cp = 3 if policy == "full" else 2, layout.cp
    tally.add("cp", "all_gather", f"{path}.self_attn", cp, times * passes, cp * size)
    tally.add("cp", "all_to_all", f"{path}.self_attn", cp, times * cp, 2 * size)


def _around(tally: Tally, model: StackModel, tokens: int, layout: Layout, stage: int) -> None:
    """Embedding, head, and the maximum, sum and chosen logit of a loss whose logits are split."""
    times, size = layout.micro_batches, _HALF * tokens * model.spec.hidden_size
    if stage == 0:
        tally.add("tp", "reduce_scatter", "embed_tokens", layout.tp, times, size)
        tally.add("tp", "all_gather", "embed_tokens", layout.tp, times, size)
    if stage == last_rank(layout):
        tally.add("tp", "all_gather", "lm_head", layout.tp, times, size)
        tally.add("tp", "reduce_scatter", "lm_head", layout.tp, times, size)
        tally.add("tp", "all_reduce", "loss", layout.tp, 3 * times, FP32_BYTES * tokens)
        tally.add("tp", "all_reduce", "norm", layout.tp, times, _HALF * model.last_params)


def _pipeline(tally: Tally, model: StackModel, tokens: int, layout: Layout, rank: int) -> None:
    """Hidden states forward and their gradients back, between stages on different ranks."""
    pipeline = Pipeline.of(layout)
    size = _HALF * tokens * model.spec.hidden_size // layout.tp
    for stage in pipeline.stages_of(rank):
        for other in (stage - 1, stage + 1):
            if 0 <= other < pipeline.num_stages and pipeline.rank_of(other) != rank:
                tally.add("pp", "send", "hidden_states", layout.pp, layout.micro_batches, size)
                tally.add("pp", "recv", "hidden_states", layout.pp, layout.micro_batches, size)


def _sharded(tally: Tally, path: str, params: int, groups: int, again: int, layout: Layout) -> None:
    """FSDP2: gathered in forward, `again` of the groups in backward, and reduced in each micro-batch.

    With a pipeline parameters stay gathered and gradients are reduced once in a step.
    """
    shards, m = layout.dp_shard * layout.cp, layout.micro_batches if layout.pp == 1 else 1
    padded = -(-params // shards) * shards
    gathers = groups + (again if layout.pp == 1 else 0)
    tally.add("dp_shard", "all_gather", path, shards, gathers * m, _HALF * padded)
    tally.add("dp_shard", "reduce_scatter", path, shards, groups * m, stored_bytes(layout) * padded)
    shard = stored_bytes(layout) * padded // shards
    tally.add("dp_replicate", "all_reduce", path, layout.dp_replicate, groups * m, shard)
