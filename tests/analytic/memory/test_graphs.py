"""Several graphs at once, and checkpoints inside a checkpoint, against what is tracked on the meta device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
from torch.nn.functional import silu
from torch.utils.checkpoint import checkpoint

from analytic.memory import ops
from analytic.memory.decoder import decoder_layer
from analytic.memory.implementation import Context
from analytic.memory.model import backward, forward
from analytic.memory.tape import Tape
from analytic.memory.tensors import Leaf, Tensor
from analytic.model.training import TrainingSetup
from empirical.models.programs import LayerProgram, Named, StepProgram
from empirical.proof.memory import first_divergence, scheduled_changes, tracked_changes
from empirical.witnesses.memory import Tracked
from tests.configurations import parsed
from tests.memory_cases import SMALL, SMALL_DEEPSEEK_V3, SMALL_MIXTRAL, predicted


@dataclass
class Interleaved:
    """Two micro-batches of a model: both forward passes, then both backward passes."""

    step: StepProgram

    def base(self) -> Named:
        return self.step.base()

    def phases(self) -> Iterator[str]:
        first = self.step.model(**self.step.inputs, use_cache=False).loss
        second = self.step.model(**self.step.inputs, use_cache=False).loss
        first.backward()
        del first
        second.backward()
        del second
        yield "both"

    def reset(self) -> None:
        self.step.reset()


@pytest.mark.parametrize("checkpointing", ["none", "full"])
@pytest.mark.parametrize("raw", [SMALL, SMALL_MIXTRAL, SMALL_DEEPSEEK_V3], ids=lambda raw: raw["model_type"])
@pytest.mark.parametrize("is_tied", [False, True])
def test_two_forwards_before_two_backwards_equal_the_tracker(
    raw: dict[str, Any], checkpointing: Any, is_tied: bool
) -> None:
    """As a pipeline runs micro-batches; the second backward adds to the gradients of the first.

    Three layers: a schedule has the inner ones of more once.
    """
    config = parsed(raw | {"tie_word_embeddings": is_tied, "num_hidden_layers": 3})
    setup = TrainingSetup(seq_len=24, micro_batch=2, checkpointing=checkpointing, optimizer="none")
    t = Tape(setup.itemsize)
    first = forward(t, config.spec, predicted(config), setup)
    second = forward(t, config.spec, predicted(config), setup)
    backward(t, first)
    del first
    backward(t, second)
    del second
    t.check_balance()
    tracked = Tracked().measure(Interleaved(StepProgram.build(config, setup, "meta")))
    assert first_divergence(scheduled_changes(t.events), tracked_changes(tracked["both"].events)) is None


@dataclass
class Nested:
    """A checkpoint around two checkpointed calls, of a layer and of two functions, with one before and one after."""

    layer: LayerProgram

    def base(self) -> Named:
        return self.layer.base()

    def phases(self) -> Iterator[str]:
        run: Callable[..., Any] = partial(checkpoint, use_reentrant=False, preserve_rng_state=False)

        def call(x: torch.Tensor) -> Any:
            return self.layer.layer(x, **self.layer.arguments)

        def twice(x: torch.Tensor) -> torch.Tensor:
            return silu(silu(x))

        def both(x: torch.Tensor) -> torch.Tensor:
            return silu(run(twice, run(call, silu(x))))

        out = run(both, self.layer.x)
        out.backward(torch.zeros_like(out))
        del out
        yield "nested"

    def reset(self) -> None:
        self.layer.reset()


@pytest.mark.parametrize("raw", [SMALL, SMALL_MIXTRAL], ids=lambda raw: raw["model_type"])
def test_checkpoints_inside_a_checkpoint_equal_the_tracker(raw: dict[str, Any]) -> None:
    config = parsed(raw)
    setup = TrainingSetup(seq_len=24, micro_batch=2, optimizer="none")
    t = Tape(setup.itemsize)
    call = partial(decoder_layer, t, config.spec.layers[0], context=Context(setup, predicted(config)))

    def twice(x: Tensor) -> Tensor:
        return ops.silu(t, ops.silu(t, x, "once"), "twice")

    def both(x: Tensor) -> Tensor:
        return ops.silu(t, t.checkpoint(twice, t.checkpoint(call, ops.silu(t, x, "before"))), "after")

    leaf = Leaf("x")  # keeps its gradient
    out = t.checkpoint(both, Tensor(None, setup.tokens, config.spec.hidden_size, setup.itemsize, leaf))
    gradient = t.start_backward(out)
    t.backward(out)
    del gradient, out
    run = config.spec.runs[0]
    tracked = Tracked().measure(Nested(LayerProgram.build(config, run, setup, "meta")))
    assert first_divergence(scheduled_changes(t.events), tracked_changes(tracked["nested"].events)) is None
