"""What one rank of a simulated world holds, computes and sends in a training step, counted on the meta device.

case = RankCase(config, setup, Layout(dp_shard=8), rank=0)
(seen,) = in_own_process(observe, [case])
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from analytic.parallelism.communication import Collective
from empirical.models.distributed import RankCase, RankProgram, local
from empirical.models.meta_world import on_meta, start_world
from empirical.models.programs import Named
from empirical.witnesses.communication import CollectiveCounter
from empirical.witnesses.local_flops import LocalFlops
from empirical.witnesses.memory import MemoryMeasurement, Phase
from empirical.witnesses.meta_kernels import as_on_cuda
from empirical.witnesses.rank_tracker import RankTracker
from empirical.witnesses.running_module import RunningModule

NUM_STEPS = 2


@dataclass(frozen=True, slots=True)
class RankObservation:
    """One rank's figures. Bytes are of local storages, padding included.

    Attributes:
        stored: bytes of each parameter, by its name in transformers.
        gradient_bytes: of all gradients at the end of backward.
        moments: bytes of the optimizer's states, by parameter.
        collectives: of the last step.
        flops_forward, flops_total: of the last step; the optimizer's are none.
        steps: memory of each step: `base_bytes` are live before it, and each phase has its peak, its end and its
            events above that. The optimizer's states are made in the first.
    """

    stored: dict[str, int]
    gradient_bytes: int
    moments: dict[str, int]
    collectives: tuple[Collective, ...]
    flops_forward: int
    flops_total: int
    steps: tuple[MemoryMeasurement, ...]


def observe(case: RankCase) -> RankObservation:
    """Two training steps of a rank. To be run in a process of its own, as torch caches a world's groups."""
    start_world(case.layout.num_gpus, case.rank)
    with on_meta(), as_on_cuda():
        tracker = RankTracker(torch.device("meta"), rounding=case.setup.rounding_bytes)
        return observe_program(RankProgram.build(case), tracker)


def observe_program(program: RankProgram, tracker: RankTracker, num_steps: int = NUM_STEPS) -> RankObservation:
    """Training steps of a rank in the world that this process is in."""
    for name, tensor in program.base():
        tracker.register(name, tensor)
    steps, running = [], RunningModule(program.model)
    for _ in range(num_steps):
        counter, flops = CollectiveCounter(program.axes, running), LocalFlops()
        # the tracker is entered last: it counts references, of which every mode above it would hold one
        with running, counter, flops, tracker:
            memory, flops_forward, gradient_bytes = _step(program, tracker, flops)
        steps.append(memory)
    return RankObservation(
        stored={name: local(p).untyped_storage().nbytes() for name, p in program.model.named_parameters()},
        gradient_bytes=gradient_bytes,
        moments=_by_name(program.moments()),
        collectives=counter.collectives,
        flops_forward=flops_forward,
        flops_total=flops.total,
        steps=tuple(steps),
    )


def _step(program: RankProgram, tracker: RankTracker, flops: LocalFlops) -> tuple[MemoryMeasurement, int, int]:
    """The step's memory, the FLOPs of its forward passes, and the bytes of the gradients that backward leaves."""
    base, first, phases = tracker.current_bytes, len(tracker.events), []
    flops_before = flops_forward = gradient_bytes = 0
    tracker.reset_peak()
    for name in program.phases():
        if name == "forward":
            flops_forward += flops.total - flops_before
        if name == "backward":
            gradient_bytes = _storage_bytes(local(p.grad) for p in program.model.parameters() if p.grad is not None)
        flops_before = flops.total
        peak, events = tracker.peak, tracker.events[first:]
        phases.append(Phase(name, peak.peak_bytes - base, tracker.current_bytes - base, tracked=peak, events=events))
        first = len(tracker.events)
        tracker.reset_peak()
    program.reset()
    return MemoryMeasurement(f"tracked on {tracker.device_type}", base, tuple(phases)), flops_forward, gradient_bytes


def _storage_bytes(tensors: Iterable[torch.Tensor]) -> int:
    """Of distinct storages: gradients of one FSDP group are views of one."""
    storages = {id(s): s.nbytes() for s in (tensor.untyped_storage() for tensor in tensors)}
    return sum(storages.values())


def _by_name(named: Named) -> dict[str, int]:
    sums: dict[str, int] = {}
    for name, tensor in named:
        sums[name] = sums.get(name, 0) + tensor.untyped_storage().nbytes()
    return sums
