"""The peak of a rank of nanotron, by formula: for the table of published peaks alone, no stack that a plan names.

Sources: nanotron of July 2024, src/nanotron/models/llama.py, parallel/tensor_parallel/functional.py; the benchmark's
options (fp32 accumulation, ZeRO-1, 1F1B, reduce-scatter mode) from huggingface/bench_cluster.
"""

from __future__ import annotations

from analytic.model.optimizer import FP32_BYTES
from analytic.model.training import TrainingSetup
from analytic.parallelism.layout import Layout
from analytic.parallelism.shapes import StackModel, padded_vocab

HALF = 2
_STATES = 3 * FP32_BYTES  # master weights and Adam's two moments
_LOGIT_BYTES = 2 * FP32_BYTES  # the logits in fp32, and their exponentials
# torch's and the second handle's cuBLAS workspaces: aten/src/ATen/cuda/CublasHandlePool.cpp, parseChosenWorkspaceSize
_WORKSPACES = 2 * 32 * 2**20


def nanotron_peak_bytes(model: StackModel, setup: TrainingSetup, layout: Layout) -> int:
    """Bytes allocated at the peak of the worst rank of a dense model of one kind of layer, nothing recomputed."""
    return max(_stage_bytes(model, setup, layout, stage) for stage in {0, layout.pp - 1})


def _stage_bytes(model: StackModel, setup: TrainingSetup, layout: Layout, stage: int) -> int:
    spec, tp, tokens = model.spec, layout.tp, setup.tokens
    kind, h = model.kinds[0], spec.hidden_size
    rows = padded_vocab(spec.vocab_size, tp) // tp
    table = rows * h * (2 if layout.pp == 1 and not spec.tie_word_embeddings else 1)
    layers = _layers(model, layout, stage)
    params = layers * (kind.whole_params + kind.split_params // tp) + table
    held = layers * _kept(model, setup, layout) * min(layout.micro_batches, layout.pp - stage)
    logits = _LOGIT_BYTES * tokens * rows if stage == layout.pp - 1 else 0
    passing = HALF * tokens * ((kind.matrices - 1) * kind.dense // tp + h)
    stored = (HALF + FP32_BYTES) * params + _STATES * -(-params // layout.dp_shard)
    return stored + held + max(logits, passing) + _WORKSPACES


def _layers(model: StackModel, layout: Layout, stage: int) -> int:
    """Layers of a stage: the head counts as the layers that have as many parameters (get_block_compute_costs)."""
    if layout.pp == 1:
        return model.num_layers
    one = model.kinds[0].split_params
    head = model.spec.vocab_size * model.spec.hidden_size
    first = -(-(model.num_layers * one + head) // (layout.pp * one))
    return first if stage == 0 else max(0, model.num_layers - first * (layout.pp - 1))


def _kept(model: StackModel, setup: TrainingSetup, layout: Layout) -> int:
    """What one layer keeps: column-parallel products keep gathered inputs, eager SiLU and rotary their own.

    With more than one sequence the attention's output is copied for the projection, as it lies transposed.
    """
    kind, h, tp = model.kinds[0], model.spec.hidden_size, layout.tp
    a = kind.attention
    norms = 2 * h // tp + 2 * h
    copies = a.output if setup.micro_batch > 1 else 0
    features = a.query + a.output + copies + 2 * (a.key + a.value) + 4 * kind.dense
    return HALF * setup.tokens * (norms + features // tp) + FP32_BYTES * setup.tokens * a.heads // tp
