"""What is live before a step begins: parameters, gradients, optimizer states, inputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from analytic.memory import ops
from analytic.memory.implementation import Implementation
from analytic.memory.peaks import Live
from analytic.memory.tensors import Category
from analytic.model.optimizer import cost_of
from analytic.model.params import layer_params, model_params
from analytic.model.spec import GroupedQueryAttention, LayerSpec, ModelSpec, MoeFfn
from analytic.model.training import TrainingSetup


def layer_base(layer: LayerSpec, hidden_size: int, implementation: Implementation, setup: TrainingSetup) -> Live:
    """What is live before a single layer runs: its parameters (and gradients), input, tables, mask."""
    live: Live = Live()
    for name, numel in layer_params(layer, hidden_size).items():
        size_bytes = setup.rounded(numel * setup.itemsize)
        live[Category.PARAMETERS, name] += size_bytes
        if setup.is_accumulating:
            live[Category.GRADIENTS, f"{name}.grad"] += size_bytes
    for name, numel in _layer_buffers(layer):
        live[Category.PARAMETERS, name] += setup.rounded(numel * setup.itemsize)
    live[Category.INPUTS, "layer input"] = setup.rounded(setup.tokens * hidden_size * setup.itemsize)
    for name, size_bytes in _rotary_tables(layer, implementation, setup):
        live[Category.INPUTS, name] = setup.rounded(size_bytes)
    if setup.attention_kernel == "eager":
        live[Category.INPUTS, "attention mask"] = mask_bytes(setup)
    return live


def model_base(spec: ModelSpec, setup: TrainingSetup) -> Live:
    """What is live before a training step: parameters, gradients if there are any, optimizer states, token ids."""
    live = tensors_base(model_tensors(spec), setup)
    for name, size_bytes, count in model_buffers(spec, setup.itemsize):
        live[Category.PARAMETERS, name] += setup.rounded(size_bytes) * count
    live[Category.INPUTS, "token ids and labels"] = 2 * setup.rounded(setup.tokens * ops.INT64)
    if setup.attention_kernel == "eager":
        live[Category.INPUTS, "attention mask"] = mask_bytes(setup)
    return live


def tensors_base(tensors: Iterable[tuple[str, int]], setup: TrainingSetup) -> Live:
    """Parameter tensors, their gradients if there are any, and the optimizer's states of them."""
    live: Live = Live()
    for (name, numel), count in Counter(tensors).items():
        one = setup.rounded(numel * setup.itemsize)
        live[Category.PARAMETERS, name] += one * count
        if setup.is_accumulating:
            live[Category.GRADIENTS, f"{name}.grad"] += one * count
        for state, size_bytes in _optimizer_state(numel, setup):
            live[Category.OPTIMIZER, state] += size_bytes * count
    return live


def least_states(spec: ModelSpec, setup: TrainingSetup) -> dict[Category, int]:
    """Bytes that a step holds at the end of backward at the least: what needs no schedule.

    Of any model, from its count of parameters; without buffers, inputs and rounding.
    """
    numel, state = model_params(spec).total, setup.state
    return {
        Category.PARAMETERS: numel * state.weights,
        Category.GRADIENTS: numel * state.gradients,
        Category.OPTIMIZER: numel * (state.master_weights + state.optimizer),
    }


def model_tensors(spec: ModelSpec) -> Iterator[tuple[str, int]]:
    """Every parameter tensor: its name within its layer, and its elements; layer by layer."""
    table = spec.vocab_size * spec.hidden_size
    yield "embed_tokens", table
    for run in spec.runs:
        terms = tuple(layer_params(run.layer, spec.hidden_size).items())
        for _ in range(run.count):
            yield from terms
    yield "norm", spec.hidden_size
    if not spec.tie_word_embeddings:
        yield "lm_head", table


def rotary_dim(layer: LayerSpec) -> int:
    """Features of one head that are turned."""
    attention = layer.attention
    return attention.head_dim if isinstance(attention, GroupedQueryAttention) else attention.qk_rope_head_dim


def _optimizer_state(numel: int, setup: TrainingSetup) -> Iterator[tuple[str, int]]:
    """Master weights, and the optimizer's own states, of one parameter tensor."""
    if setup.has_master_weights:
        yield "master weights", setup.rounded(numel * ops.FP32)
    for name, size_bytes in cost_of(setup.optimizer).state_bytes(numel, setup.optimizer_itemsize).items():
        yield name, setup.rounded(size_bytes)


def mask_bytes(setup: TrainingSetup) -> int:
    """One additive mask for all sequences, in the compute type."""
    return setup.rounded(setup.seq_len**2 * setup.itemsize)


def _rotary_tables(layer: LayerSpec, implementation: Implementation, setup: TrainingSetup) -> Iterator[tuple[str, int]]:
    numel = setup.seq_len * rotary_dim(layer)
    if implementation.rotary == "complex":
        yield "rotary table", numel * ops.FP32
    else:
        yield "rotary cos", numel * setup.itemsize
        yield "rotary sin", numel * setup.itemsize


def _layer_buffers(layer: LayerSpec) -> Iterator[tuple[str, int]]:
    if isinstance(layer.ffn, MoeFfn) and layer.ffn.score_correction == "buffer":
        yield "mlp.gate.e_score_correction_bias", layer.ffn.num_experts


def model_buffers(spec: ModelSpec, itemsize: int) -> Iterator[tuple[str, int, int]]:
    """Router biases in the type that `from_config` builds the model in, and the rotary frequencies, twice.

    Each with its bytes, and how often it is there.
    """
    for run in spec.runs:
        for name, numel in _layer_buffers(run.layer):
            yield name, numel * itemsize, run.count
    yield "rotary_emb.inv_freq", rotary_dim(spec.layers[0]) // 2 * ops.FP32, 2
