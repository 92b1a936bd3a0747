"""A forward and backward pass of a whole `transformers` model, on the tape."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from analytic.memory import ops
from analytic.memory.blocks import rms_norm
from analytic.memory.decoder import layer_in_training
from analytic.memory.implementation import Context, Implementation
from analytic.memory.static import rotary_dim
from analytic.memory.tape import Tape
from analytic.memory.tensors import Category, Flow, Parameter, Tensor
from analytic.model.spec import LayerSpec, ModelSpec
from analytic.model.training import TrainingSetup

FORWARD, BACKWARD = "forward", "backward"
EMBEDDING, LOSS = "embedding", "loss"


@dataclass(frozen=True, slots=True)
class ScheduledLayer:
    """A layer in place of `count` equal ones in a row: first, inner and last ones are scheduled apart.

    The first of a run differs from the next ones in what came before it, the last in what comes after.
    """

    first: int
    count: int
    layer: LayerSpec

    @property
    def label(self) -> str:
        """`layers.3`, or `layers.4-59` for several."""
        last = self.first + self.count - 1
        return f"layers.{self.first}" if self.count == 1 else f"layers.{self.first}-{last}"


def scheduled_layers(spec: ModelSpec) -> Iterator[ScheduledLayer]:
    """Every run of equal layers as up to three: its first layer, its inner layers and its last."""
    for run in spec.runs:
        yield ScheduledLayer(run.first, 1, run.layer)
        if run.count > 2:
            yield ScheduledLayer(run.first + 1, run.count - 2, run.layer)
        if run.count > 1:
            yield ScheduledLayer(run.first + run.count - 1, 1, run.layer)


def forward_and_backward(t: Tape, spec: ModelSpec, implementation: Implementation, setup: TrainingSetup) -> None:
    """`loss = model(ids, labels=labels).loss; loss.backward()`, where nobody holds the logits in between."""
    t.mark(FORWARD, EMBEDDING)
    hidden = _model(t, spec, implementation, setup)
    loss = _head_and_loss(t, spec, hidden, setup)
    del hidden
    t.mark(BACKWARD, LOSS)
    gradient = t.start_backward(loss, ops.FP32)
    t.backward()
    del gradient  # `torch.autograd.backward` holds it to the end


def _model(t: Tape, spec: ModelSpec, implementation: Implementation, setup: TrainingSetup) -> Tensor:
    """`LlamaModel.forward`, which holds the embeddings, the positions and the rotary tables until it returns."""
    table = _embedding(spec)
    numel = setup.tokens * spec.hidden_size
    node = t.record(table.name, [Flow(table, table.numel * t.itemsize)])
    embedded = t.new(table.name, numel, t.itemsize, node)
    context = _positions(t, spec, implementation, setup)
    x = embedded
    for scheduled in scheduled_layers(spec):
        t.mark(FORWARD, scheduled.label)
        x = layer_in_training(t, scheduled.layer, x, context)
    t.mark(FORWARD, LOSS)
    return rms_norm(t, x, spec.hidden_size, "norm")


def _embedding(spec: ModelSpec) -> Parameter:
    return Parameter("embed_tokens", spec.vocab_size * spec.hidden_size, uses=2 if spec.tie_word_embeddings else 1)


def _positions(t: Tape, spec: ModelSpec, implementation: Implementation, setup: TrainingSetup) -> Context:
    """Position ids and rotary tables (`LlamaRotaryEmbedding.forward`, `DeepseekV2RotaryEmbedding.forward`)."""
    seq_len, dim = setup.seq_len, rotary_dim(spec.layers[0])
    numbers = t.allocate("arange", seq_len * ops.INT64)
    position_ids = t.new("position_ids", seq_len, ops.INT64, category=Category.INPUTS)
    del numbers
    as_float = t.allocate("rotary: positions in fp32", seq_len * ops.FP32)
    angles = t.new("rotary: angles", seq_len * dim // 2, ops.FP32)
    del as_float
    is_complex = implementation.rotary == "complex"
    tables = _complex_table(t, angles) if is_complex else _cos_and_sin(t, seq_len * dim)
    return Context(setup, implementation, tables, position_ids)


def _complex_table(t: Tape, angles: Tensor) -> tuple[Tensor, ...]:
    ones = t.new("rotary: ones", angles.numel, ops.FP32)
    unscaled = t.new("rotary: unscaled table", angles.numel, 2 * ops.FP32)
    del ones
    table = t.new("rotary: table", unscaled.numel, unscaled.itemsize, category=Category.INPUTS)
    return (table,)


def _cos_and_sin(t: Tape, numel: int) -> tuple[Tensor, ...]:
    doubled = t.new("rotary: angles, doubled", numel, ops.FP32)
    fp32_tables = []
    for name in ("cos", "sin"):
        unscaled = t.new(f"rotary: unscaled {name}", numel, ops.FP32)
        fp32_tables.append(t.new(f"rotary: {name}", doubled.numel, ops.FP32, category=Category.INPUTS))
        del unscaled
    if t.itemsize == ops.FP32:
        return tuple(fp32_tables)
    return tuple(t.new(f"rotary: {name}", numel, t.itemsize, category=Category.INPUTS) for name in ("cos", "sin"))


def _head_and_loss(t: Tape, spec: ModelSpec, hidden: Tensor, setup: TrainingSetup) -> Tensor:
    """`lm_head` and `ForCausalLMLoss`, with labels shifted by padding them."""
    weight = _embedding(spec) if spec.tie_word_embeddings else Parameter("lm_head", spec.vocab_size * spec.hidden_size)
    logits = ops.linear(t, hidden, weight, setup.tokens, name="lm_head")
    logits32 = ops.cast(t, logits, ops.FP32, "loss: logits in fp32")
    padded = t.new("loss: padded labels", setup.micro_batch * (setup.seq_len + 1), ops.INT64)
    labels = padded
    if setup.micro_batch > 1:
        labels = t.new("loss: shifted labels", setup.tokens, ops.INT64)
    log_probabilities = ops.softmax(t, logits32, "loss: log-softmax")
    return ops.nll_loss(t, log_probabilities, labels, "loss")
