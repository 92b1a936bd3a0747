"""One stage of a pipeline on the tape: what `PipelineStage` of torch 2.15 does, and keeps, for each micro-batch.

Source: `torch/distributed/pipelining/stage.py`, line by line: what a list or a variable holds there, one holds here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from analytic.memory.blocks import rms_norm
from analytic.memory.decoder import layer_in_training
from analytic.memory.implementation import Implementation
from analytic.memory.model import BACKWARD, EMBEDDING, FORWARD, LOSS, causal_lm_loss, embed, lm_head, positions
from analytic.memory.static import model_tensors
from analytic.memory.tape import Tape
from analytic.memory.tensors import Leaf, Storage, Tensor
from analytic.model.spec import ModelSpec
from analytic.model.training import TrainingSetup
from analytic.parallelism.stages import Stage, stage_spec

Message = list[Storage]  # what a send or a receive holds: one tensor, or none at the ends of the pipeline


@dataclass(slots=True)
class _Chunk:
    """What a stage keeps of one micro-batch from its forward to its backward (`_ForwardChunkState`).

    Attributes:
        root: where backward starts, without a storage. output: the output itself until it is sent.
        given: the input and where its gradient goes.
    """

    root: Tensor
    output: Tensor | None
    given: tuple[Tensor, Leaf] | None


class StageRun:
    """A stage as it runs its micro-batches on a tape."""

    def __init__(
        self, t: Tape, spec: ModelSpec, stage: Stage, implementation: Implementation, setup: TrainingSetup
    ) -> None:
        self.stage = stage
        self._t, self._spec, self._implementation, self._setup = t, spec, implementation, setup
        self._chunks: dict[int, _Chunk] = {}
        self._inputs: dict[int, Storage] = {}
        self._gradients: dict[int, Storage] = {}
        self._input_gradients: dict[int, Storage] = {}
        self._phase = ""
        self._losses: list[tuple[Tensor, Tensor | None]] = []

    def receive_input(self, i: int) -> Message:
        """A buffer for the hidden state of micro-batch i."""
        return [] if self.stage.is_first else self._buffer(self._inputs, i, "received hidden state")

    def receive_gradient(self, i: int) -> Message:
        """A buffer for the gradient of the output of micro-batch i."""
        return [] if self.stage.is_last else self._buffer(self._gradients, i, "received gradient")

    def take_input(self, i: int, message: Message) -> None:
        """The hidden state of micro-batch i, from the stage above on the same rank."""
        (self._inputs[i],) = message

    def take_gradient(self, i: int, message: Message) -> None:
        """The gradient of the output of micro-batch i, from the stage below on the same rank."""
        (self._gradients[i],) = message

    def forward(self, i: int) -> Tensor:
        """The output: a hidden state, or logits."""
        given, x = None, None
        if not self.stage.is_first:
            leaf = Leaf("stage input")
            x = Tensor(self._inputs.pop(i), self._setup.tokens, self._spec.hidden_size, self._t.itemsize, leaf)
            given = x, leaf
        self._phase = f"micro-batch {i}: {FORWARD}"
        output = self._module(x)
        root = Tensor(None, output.rows, output.width, output.itemsize, output.node)
        self._chunks[i] = _Chunk(root, output, given)
        return output

    def compute_loss(self, i: int, output: Tensor) -> None:
        """On the last stage. Every loss is kept until the step ends, and with its graph the input that it leads to."""
        if self.stage.is_last:
            given = self._chunks[i].given
            loss = causal_lm_loss(self._t, output, self._setup)
            self._losses.append((loss, None if given is None else given[0]))

    def end_step(self) -> None:
        """Losses are let go of."""
        self._losses.clear()

    def send_output(self, i: int) -> Message:
        """The output of micro-batch i."""
        output = self._chunks[i].output
        assert output is not None
        return [] if self.stage.is_last or output.storage is None else [output.storage]

    def release_output(self, i: int) -> None:
        """It is sent: only autograd may still hold it. The last stage keeps its logits until backward."""
        if not self.stage.is_last and i in self._chunks:
            self._chunks[i].output = None

    def backward(self, i: int) -> None:
        """All gradients of micro-batch i; that of its input waits to be sent."""
        chunk = self._chunks.pop(i)
        region = LOSS if self.stage.is_last else self._layer(self.stage.layers.stop - 1)
        self._t.mark(f"micro-batch {i}: {BACKWARD}", region)
        if self.stage.is_last:
            loss, _ = self._losses[i]
            gradient = self._t.start_backward(loss)
            self._t.backward(loss)
        else:
            gradient = self._t.start_backward(chunk.root, self._gradients.pop(i))
            self._t.backward(chunk.root)
        if chunk.given is not None:
            _, leaf = chunk.given
            assert leaf.gradient is not None
            self._input_gradients[i] = leaf.gradient.storage
            leaf.gradient = None
        del gradient

    def send_gradient(self, i: int) -> Message:
        """The gradient of the input of micro-batch i."""
        return [] if self.stage.is_first else [self._input_gradients.pop(i)]

    def _buffer(self, held: dict[int, Storage], i: int, name: str) -> Message:
        size_bytes = self._setup.tokens * self._spec.hidden_size * self._t.itemsize
        held[i] = self._t.allocate(name, size_bytes)
        return [held[i]]

    def _module(self, x: Tensor | None) -> Tensor:
        """The layers, and on the last stage the head."""
        hidden = self._base(x)
        if not self.stage.is_last:
            return hidden
        weight = self._t.parameter("lm_head", self._spec.vocab_size, self._spec.hidden_size)
        return lm_head(self._t, hidden, weight, self._implementation)

    def _base(self, x: Tensor | None) -> Tensor:
        """`LlamaModel.forward`, which holds what goes into the first layer until it returns."""
        t, setup = self._t, self._setup
        if x is None:
            t.mark(self._phase, EMBEDDING)
            table = t.parameter("embed_tokens", self._spec.vocab_size, self._spec.hidden_size)
            x = embed(t, table, setup.tokens, self._implementation)
        hidden, context = x, positions(t, self._spec, self._implementation, setup)
        for index in self.stage.layers:
            t.mark(self._phase, self._layer(index))
            with t.module(self._layer(index)):
                hidden = layer_in_training(t, self._spec.layers[index], hidden, context)
        if not self.stage.is_last:
            return hidden
        t.mark(self._phase, LOSS)
        with t.module("norm"):
            return rms_norm(t, hidden, "norm")

    @staticmethod
    def _layer(index: int) -> str:
        return f"layers.{index}"


def stage_tensors(spec: ModelSpec, stage: Stage) -> Iterator[tuple[str, int]]:
    """Every parameter tensor of a stage: its name within its layer, and its elements."""
    for name, numel in model_tensors(stage_spec(spec, stage)):
        if {"embed_tokens": stage.is_first, "norm": stage.is_last, "lm_head": stage.is_last}.get(name, True):
            yield name, numel
