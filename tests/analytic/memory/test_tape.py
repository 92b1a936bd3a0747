"""The tape itself: hooks in program order, several graphs at once, checkpoints inside checkpoints, the balance."""

from __future__ import annotations

from functools import partial

import pytest

from analytic.memory import ops
from analytic.memory.model import backward, forward, forward_and_backward
from analytic.memory.tape import Hooks, Tape
from analytic.memory.tensors import Category, Leaf, Parameter, Tensor
from analytic.model.training import TrainingSetup
from tests.configurations import parsed
from tests.memory_cases import SMALL, predicted

BF16 = 2


class Log(Hooks):
    """What was called, and how many events had happened."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def forward_entered(self, t: Tape, module: str) -> None:
        self.calls.append(f"forward of {module}")

    def forward_left(self, t: Tape, module: str) -> None:
        self.calls.append(f"end of forward of {module}")

    def backward_entered(self, t: Tape, module: str) -> None:
        self.calls.append(f"backward of {module}")

    def backward_left(self, t: Tape, module: str) -> None:
        self.calls.append(f"end of backward of {module}")

    def gradient_ready(self, t: Tape, parameter: Parameter) -> None:
        self.calls.append(parameter.name)


@pytest.mark.parametrize("checkpointing", ["none", "full"])
def test_hooks_are_called_in_program_order(checkpointing: str) -> None:
    """A checkpointed layer is entered once in each direction, whatever runs again."""
    config = parsed(SMALL | {"num_hidden_layers": 2, "tie_word_embeddings": True})
    setup = TrainingSetup(seq_len=4, checkpointing=checkpointing)  # type: ignore[arg-type]
    log = Log()
    forward_and_backward(Tape(BF16, hooks=log), config.spec, predicted(config), setup)
    modules = ["embed_tokens", "layers.0", "layers.1", "norm", "lm_head"]
    entered = [call for call in log.calls if call.startswith(("forward", "end of forward"))]
    assert entered == [f"{when} of {module}" for module in modules for when in ("forward", "end of forward")]
    layer = [
        *("mlp.down_proj", "mlp.up_proj", "mlp.gate_proj", "post_attention_layernorm"),
        *(f"self_attn.{part}_proj" for part in "ovkq"),
        "input_layernorm",
    ]
    of_module = {"lm_head": [], "norm": ["norm"], "layers.1": layer, "layers.0": layer}
    of_module["embed_tokens"] = ["embed_tokens"]  # tied: it waits for the gradient of the look-up
    expected = [
        call
        for module, ready in of_module.items()
        for call in (f"backward of {module}", *ready, f"end of backward of {module}")
    ]
    assert [call for call in log.calls if call not in entered] == expected


class Reducing(Hooks):
    """Each module's gradients become one buffer when its backward is left, as FSDP2 reduces them."""

    def __init__(self) -> None:
        self.ready: list[Parameter] = []

    def gradient_ready(self, t: Tape, parameter: Parameter) -> None:
        self.ready.append(parameter)

    def backward_left(self, t: Tape, module: str) -> None:
        assert all(parameter.grad is not None for parameter in self.ready)
        buffer = t.allocate(f"{module}: reduce-scatter input", BF16 * sum(p.numel for p in self.ready))
        for parameter in self.ready:
            parameter.grad = None
        self.ready = []
        del buffer


def test_a_hook_can_free_gradients_where_a_module_is_left() -> None:
    config = parsed(SMALL | {"num_hidden_layers": 2})
    t = Tape(BF16, hooks=Reducing())
    forward_and_backward(t, config.spec, predicted(config), TrainingSetup(seq_len=4))
    assert sum(size_bytes for _, size_bytes in t.events) == 0
    names = [label.name for label, size_bytes in t.events if size_bytes < 0 and label.category is Category.GRADIENTS]
    assert names[:2] == ["lm_head.grad", "norm.grad"]
    assert names[-1] == "embed_tokens.grad"
    assert len(names) == 3 + 2 * 9


def linear_twice(t: Tape, weight: Parameter, x: Tensor) -> Tensor:
    return ops.linear(t, ops.linear(t, x, weight, name="first"), weight, name="second")


def test_a_weight_that_is_used_twice_has_one_gradient_when_both_have_come() -> None:
    """[8, 8] in bf16, 128 bytes: that of the second use waits for that of the first, and both are added in a third."""
    log = Log()
    t = Tape(BF16, hooks=log)
    weight = t.parameter("weight", 8, 8)
    out = linear_twice(t, weight, Tensor(None, 3, 8, BF16))
    t.start_backward(out)
    t.backward(out)
    assert log.calls == ["weight"]
    of_weight = [(label.name, size_bytes) for label, size_bytes in t.events if abs(size_bytes) == 128]
    second, first, total = "second: gradient", "first: gradient", "weight.grad"
    assert of_weight == [(second, 128), (first, 128), (total, 128), (second, -128), (first, -128)]
    del out
    t.check_balance()


def test_a_second_micro_batch_adds_to_the_gradient_of_the_first() -> None:
    """3 rows of 8 in bf16 are 48 bytes; each graph saves its first product until its own backward."""
    t = Tape(BF16)
    weight = t.parameter("weight", 8, 8)
    first = linear_twice(t, weight, Tensor(None, 3, 8, BF16))
    second = linear_twice(t, weight, Tensor(None, 3, 8, BF16))
    assert sum(size_bytes for _, size_bytes in t.events) == 2 * (48 + 48)
    for out in (first, second):
        kept = weight.grad
        t.start_backward(out)
        t.backward(out)
    assert weight.grad is kept is not None
    assert sum(size_bytes for _, size_bytes in t.events) == 48 + 48 + 128
    del first, second, out, kept
    assert sum(size_bytes for _, size_bytes in t.events) == 128


def test_what_came_in_from_outside_keeps_its_gradient_until_it_is_taken() -> None:
    """As a pipeline stage's input does until it is sent on."""
    t = Tape(BF16)
    leaf = Leaf("received")
    out = ops.neg(t, Tensor(None, 3, 8, BF16, leaf), "out")
    t.start_backward(out)
    t.backward(out)
    del out
    assert leaf.gradient is not None
    storage = leaf.gradient.storage
    t.check_balance(storage)
    with pytest.raises(AssertionError, match="48 bytes are live at the end of a schedule: expected 0"):
        t.check_balance()
    del storage
    leaf.gradient = None
    t.check_balance()


def test_a_forgotten_reference_is_found_at_the_end() -> None:
    config = parsed(SMALL | {"num_hidden_layers": 1})
    t = Tape(BF16)
    loss = forward(t, config.spec, predicted(config), TrainingSetup(seq_len=4))
    backward(t, loss)
    with pytest.raises(AssertionError, match="expected"):
        t.check_balance()  # the loss is still referenced
    del loss
    t.check_balance()


def test_a_checkpoint_inside_another_saves_nothing_of_its_own() -> None:
    """Four negated silus, the inner two a checkpoint of their own: rows of 24 bytes.

    After forward only the outer input and the output are live. In backward the outer one runs again up to the
    last tensor it saves, the inner one again after that.
    """
    t = Tape(BF16)

    def inner(x: Tensor) -> Tensor:
        return ops.silu(t, ops.silu(t, x, "inner 1"), "inner 2")

    def outer(x: Tensor) -> Tensor:
        return ops.silu(t, t.checkpoint(inner, ops.silu(t, x, "outer 1")), "outer 2")

    leaf = Leaf("x")
    x = ops.neg(t, Tensor(None, 1, 12, BF16, leaf), "x")
    out = t.checkpoint(outer, x)
    del x
    assert [label.name for label, size in t.events if size > 0] == ["x", "outer 1", "inner 1", "inner 2", "outer 2"]
    assert sum(size_bytes for _, size_bytes in t.events) == 2 * 24
    start = len(t.events)
    t.start_backward(out)
    t.backward(out)
    again = [label.name for label, size in t.events[start:] if size > 0 and not label.name.endswith("gradient")]
    assert again == ["gradient of the output", "outer 1", "inner 1", "inner 2", "inner 1"]
    del out
    leaf.gradient = None
    t.check_balance()


def test_recomputation_calls_for_the_same_parameter() -> None:
    t = Tape(BF16)

    def call(x: Tensor) -> Tensor:
        return ops.linear(t, x, t.parameter("weight", 8, 8))

    with t.module("layers.0"):
        out = t.checkpoint(partial(call), Tensor(None, 3, 8, BF16))
        weight = t.parameter("weight", 8, 8)
    t.start_backward(out)
    t.backward(out)
    assert weight.grad is not None
    assert t.parameter("weight", 8, 8) is not weight  # of no module
