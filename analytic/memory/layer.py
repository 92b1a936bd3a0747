"""Peak memory of one decoder layer, from its schedule."""

from __future__ import annotations

from dataclasses import dataclass, replace

from analytic.memory.decoder import decoder_layer, layer_in_training
from analytic.memory.implementation import Context, Implementation
from analytic.memory.peaks import Peak, breakdown, live_after, peak, peak_of
from analytic.memory.static import layer_base
from analytic.memory.tape import Tape
from analytic.memory.tensors import Event, Leaf, Tensor
from analytic.model.breakdown import Breakdown
from analytic.model.spec import LayerSpec
from analytic.model.training import TrainingSetup


@dataclass(frozen=True, slots=True)
class LayerMemory:
    """What one layer needs, in bytes; all but `base` is above the base.

    Attributes:
        implementation: the code that this is the schedule of.
        base: live before: parameters, their gradients where accumulating, the input, rotary tables, the
            mask of eager attention.
        forward_transient: the most that a forward pass allocates when nothing is saved (without
            gradients, or under checkpointing).
        boundary: what a checkpointed layer leaves behind, its output.
        saved: what it keeps for backward without checkpointing, the output apart.
        backward_peak: the most that is live from the arrival of the output's gradient on; under
            checkpointing that includes recomputation, without it what was saved.
    """

    implementation: str
    base: Breakdown
    forward_transient: Peak
    boundary: Breakdown
    saved: Breakdown
    backward_peak: Peak


def layer_memory(
    layer: LayerSpec, hidden_size: int, implementation: Implementation, setup: TrainingSetup
) -> LayerMemory:
    """Schedule one layer: forward alone, forward with what it saves, and backward."""
    forward = transient_events(layer, hidden_size, implementation, setup)
    saved = saved_events(layer, hidden_size, implementation, setup)
    training, start = training_events(layer, hidden_size, implementation, setup)
    return LayerMemory(
        implementation=implementation.name,
        base=peak("base", layer_base(layer, hidden_size, implementation, setup)).live,
        forward_transient=peak_of(forward, "forward"),
        boundary=breakdown({"layer output": sum(size_bytes for _, size_bytes in forward)}),
        saved=peak("saved", live_after(saved)).live,
        backward_peak=peak_of(training, "backward", start),
    )


def transient_events(
    layer: LayerSpec, hidden_size: int, implementation: Implementation, setup: TrainingSetup
) -> list[Event]:
    """The events of a forward pass that saves nothing; the output is live at their end."""
    t = _tape(setup)
    t.is_recording = False
    out = decoder_layer(t, layer, _input(hidden_size, setup, None), Context(setup, implementation))
    events = list(t.events)
    del out
    return events


def saved_events(
    layer: LayerSpec, hidden_size: int, implementation: Implementation, setup: TrainingSetup
) -> list[Event]:
    """The events of a forward pass that saves everything; the output is gone at their end."""
    t = _tape(setup)
    plain = replace(setup, checkpointing="none")
    out = _recorded(t, layer, hidden_size, implementation, plain)
    events = list(t.events)
    del out
    return events


def training_events(
    layer: LayerSpec, hidden_size: int, implementation: Implementation, setup: TrainingSetup
) -> tuple[list[Event], int]:
    """The events of forward and backward, and the index at which backward begins: the output is gone by then."""
    t = _tape(setup)
    out = _recorded(t, layer, hidden_size, implementation, setup)
    start = len(t.events)
    t.start_backward(out)
    t.backward(out)
    return list(t.events), start


def _recorded(
    t: Tape, layer: LayerSpec, hidden_size: int, implementation: Implementation, setup: TrainingSetup
) -> Tensor:
    """Run the layer as in training. What is returned has no storage any more: the rest of a model frees it."""
    x = _input(hidden_size, setup, Leaf("layer input"))
    out = layer_in_training(t, layer, x, Context(setup, implementation))
    out.storage = None
    return out


def _tape(setup: TrainingSetup) -> Tape:
    return Tape(setup.itemsize, rounding=setup.rounding_bytes, is_accumulating=setup.is_accumulating)


def _input(hidden_size: int, setup: TrainingSetup, leaf: Leaf | None) -> Tensor:
    return Tensor(None, setup.tokens, hidden_size, setup.itemsize, leaf)
