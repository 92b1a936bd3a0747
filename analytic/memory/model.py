"""A forward and backward pass of a whole `transformers` model, on the tape."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from analytic.memory import collectives, ops
from analytic.memory.blocks import rms_norm
from analytic.memory.decoder import layer_in_training
from analytic.memory.implementation import Context, Implementation
from analytic.memory.static import rotary_dim
from analytic.memory.tape import Tape
from analytic.memory.tensors import Category, Flow, Parameter, Shape, Tensor
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
    loss = forward(t, spec, implementation, setup)
    backward(t, loss)
    del loss
    t.check_balance()


def forward(t: Tape, spec: ModelSpec, implementation: Implementation, setup: TrainingSetup) -> Tensor:
    """`model(ids, labels=labels).loss`"""
    t.mark(FORWARD, EMBEDDING)
    table = t.parameter("embed_tokens", spec.vocab_size, spec.hidden_size)
    hidden = _model(t, spec, table, implementation, setup)
    weight = table if spec.tie_word_embeddings else t.parameter("lm_head", spec.vocab_size, spec.hidden_size)
    return _loss(t, hidden, weight, implementation, setup)


def backward(t: Tape, loss: Tensor) -> None:
    """`loss.backward()`, which holds the gradient of the loss to its end."""
    t.mark(BACKWARD, LOSS)
    gradient = t.start_backward(loss)
    t.backward(loss)
    del gradient


def _model(t: Tape, spec: ModelSpec, table: Parameter, implementation: Implementation, setup: TrainingSetup) -> Tensor:
    """`LlamaModel.forward`, which holds the embeddings, the positions and the rotary tables until it returns."""
    embedded = embed(t, table, setup.tokens, implementation)
    context = positions(t, spec, implementation, setup)
    x = embedded
    for scheduled in scheduled_layers(spec):
        t.mark(FORWARD, scheduled.label)
        with t.module(scheduled.label):
            x = layer_in_training(t, scheduled.layer, x, context)
    t.mark(FORWARD, LOSS)
    with t.module("norm"):
        return rms_norm(t, x, "norm")


def embed(t: Tape, table: Parameter, tokens: int, implementation: Implementation) -> Tensor:
    """Rows of the table."""
    with t.module("embed_tokens"):
        if implementation.tp > 1:
            return collectives.embedding(t, table, tokens, implementation.vocab_size)
        node = t.record(table.name, [Flow(table, table.numel * t.itemsize)])
        return t.new(table.name, (tokens, table.width), t.itemsize, node)


def positions(t: Tape, spec: ModelSpec, implementation: Implementation, setup: TrainingSetup) -> Context:
    """Position ids and rotary tables (`LlamaRotaryEmbedding.forward`, `DeepseekV2RotaryEmbedding.forward`)."""
    seq_len, dim = setup.seq_len, rotary_dim(spec.layers[0])
    numbers = t.allocate("arange", seq_len * ops.INT64)
    position_ids = t.new("position_ids", (1, seq_len), ops.INT64, category=Category.INPUTS)
    del numbers
    as_float = t.allocate("rotary: positions in fp32", seq_len * ops.FP32)
    angles = t.new("rotary: angles", (seq_len, dim // 2), ops.FP32)
    del as_float
    is_complex = implementation.rotary == "complex"
    tables = _complex_table(t, angles) if is_complex else _cos_and_sin(t, (seq_len, dim))
    return Context(setup, implementation, tables, position_ids)


def _complex_table(t: Tape, angles: Tensor) -> tuple[Tensor, ...]:
    ones = t.like(angles, "rotary: ones")
    unscaled = t.new("rotary: unscaled table", (angles.rows, angles.width), 2 * ops.FP32)
    del ones
    table = t.new("rotary: table", (angles.rows, angles.width), unscaled.itemsize, category=Category.INPUTS)
    return (table,)


def _cos_and_sin(t: Tape, shape: Shape) -> tuple[Tensor, ...]:
    doubled = t.new("rotary: angles, doubled", shape, ops.FP32)
    fp32_tables = []
    for name in ("cos", "sin"):
        unscaled = t.like(doubled, f"rotary: unscaled {name}")
        fp32_tables.append(t.new(f"rotary: {name}", shape, ops.FP32, category=Category.INPUTS))
        del unscaled
    if t.itemsize == ops.FP32:
        return tuple(fp32_tables)
    return tuple(t.new(f"rotary: {name}", shape, t.itemsize, category=Category.INPUTS) for name in ("cos", "sin"))


def _loss(t: Tape, hidden: Tensor, weight: Parameter, implementation: Implementation, setup: TrainingSetup) -> Tensor:
    logits = lm_head(t, hidden, weight, implementation)
    return causal_lm_loss(t, logits, setup)


def lm_head(t: Tape, hidden: Tensor, weight: Parameter, implementation: Implementation) -> Tensor:
    """Logits of every position; tensor-parallel ranks gather their columns, so that each has all of them."""
    with t.module("lm_head"):
        if implementation.tp == 1:
            return ops.linear(t, hidden, weight, name="lm_head")
        columns = ops.linear(t, collectives.sum_gradient(t, hidden, "lm_head"), weight, name="lm_head")
        return collectives.gather_columns(t, columns, implementation.tp, implementation.vocab_size, "lm_head")


def causal_lm_loss(t: Tape, logits: Tensor, setup: TrainingSetup) -> Tensor:
    """`ForCausalLMLoss`, with labels shifted by padding them."""
    logits32 = ops.cast(t, logits, ops.FP32, "loss: logits in fp32")
    padded = t.new("loss: padded labels", (setup.micro_batch, setup.seq_len + 1), ops.INT64)
    labels = padded
    if setup.micro_batch > 1:
        labels = t.new("loss: shifted labels", (setup.micro_batch, setup.seq_len), ops.INT64)
    log_probabilities = ops.softmax(t, logits32, "loss: log-softmax")
    return ops.nll_loss(t, log_probabilities, labels, "loss")
