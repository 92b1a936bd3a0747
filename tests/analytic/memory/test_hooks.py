"""Hooks of the tape suffice for FSDP2: gathers and reduce-scatters in program order, against a tracked rank."""

from __future__ import annotations

from itertools import chain

import pytest

from analytic.memory.model import backward, forward
from analytic.memory.tape import Hooks, Tape
from analytic.memory.tensors import Parameter, Storage
from analytic.model.training import TrainingSetup
from analytic.parallelism.layout import Layout
from empirical.models.distributed import RankCase
from empirical.proof.memory import first_divergence, scheduled_changes, tracked_changes
from empirical.witnesses.own_process import in_own_process
from empirical.witnesses.rank import observe
from tests.configurations import parsed
from tests.memory_cases import SMALL, predicted

RANKS = 3
BF16 = 2
MODULES = ("embed_tokens", "layers.0", "layers.1", "layers.2", "tail")
# hidden 96, feed-forward 160, 4 heads: [out, in] of each parameter
LAYER = [(96, 1)] * 2 + [(96, 96)] * 4 + [(160, 96)] * 2 + [(96, 160)]
SHAPES = dict.fromkeys(MODULES, LAYER) | {"embed_tokens": [(256, 96)], "tail": [(96, 1), (256, 96)]}


def padded(module: str) -> list[int]:
    """Bytes of each parameter, its rows padded to equal shards."""
    return [-(-out // RANKS) * RANKS * width * BF16 for out, width in SHAPES[module]]


class FullyShard(Hooks):
    """`fully_shard` of every layer, of the embedding and of norm and head, which are gathered once."""

    def __init__(self) -> None:
        self.gathered: Storage | None = None
        self.unsharded: list[Storage] = []
        self.reducing: Storage | None = None
        self.ready: list[Parameter] = []
        self.sharded: list[Storage] = []

    def gather(self, t: Tape, module: str) -> Storage:
        return t.allocate(f"{module}: all-gather output", sum(padded(module)))

    def copy_out(self, t: Tape, module: str) -> None:
        self.unsharded = [t.allocate(f"{module}: unsharded", size_bytes) for size_bytes in padded(module)]

    def forward_entered(self, t: Tape, module: str) -> None:
        if module != "lm_head":
            module = "tail" if module == "norm" else module
            self.gathered = self.gather(t, module)
            self.copy_out(t, module)

    def forward_left(self, t: Tape, module: str) -> None:
        if module not in ("norm", "lm_head"):
            self.unsharded = []

    def backward_entered(self, t: Tape, module: str) -> None:
        """Gather the module before, while this one runs; the tail is still there from forward."""
        if module == "lm_head":
            self.gathered = self.gather(t, MODULES[-2])
        elif module != "norm":
            self.copy_out(t, module)
            self.gathered = None
            if module != MODULES[0]:
                self.gathered = self.gather(t, MODULES[MODULES.index(module) - 1])

    def gradient_ready(self, t: Tape, parameter: Parameter) -> None:
        self.ready.append(parameter)

    def backward_left(self, t: Tape, module: str) -> None:
        if module == "lm_head":
            return
        module = "tail" if module == "norm" else module
        self.unsharded = []
        self.reducing = None
        size_bytes = sum(padded(module))
        self.reducing = t.allocate(f"{module}: reduce-scatter input", size_bytes)
        for parameter in self.ready:
            parameter.grad = None
        self.ready = []
        self.sharded.append(t.allocate(f"{module}: sharded gradients", size_bytes // RANKS))
        if module == MODULES[0]:
            self.reducing = None


@pytest.mark.parametrize("checkpointing", ["none", "full"])
def test_fsdp2_by_hooks_equals_the_tracked_rank_at_every_rise_and_fall(checkpointing: str) -> None:
    config = parsed(SMALL | {"num_hidden_layers": 3})
    setup = TrainingSetup(seq_len=24, micro_batch=2, optimizer="none", checkpointing=checkpointing)  # type: ignore[arg-type]
    hooks = FullyShard()
    t = Tape(BF16, hooks=hooks)
    loss = forward(t, config.spec, predicted(config), setup)
    hooks.gathered = None  # where the root's forward ends
    backward(t, loss)
    del loss
    t.check_balance(*hooks.sharded)
    layout = Layout(dp_shard=RANKS, mixed_precision=False)
    (seen,) = in_own_process(observe, [RankCase(config, setup, layout, RANKS - 1)])
    tracked = chain(seen.steps[-1]["forward"].events, seen.steps[-1]["backward"].events)
    assert first_divergence(scheduled_changes(t.events), tracked_changes(tracked)) is None
