"""A second witness: the ranks as real processes on the CPU, which send real bytes over gloo.

What is tracked there is what is tracked in the simulated world, on tensors that have bytes. Of the CPU alone are
scalars of the optimizer and two copies that gloo makes out of sight of the dispatcher: the flat output of an
all-gather, and the input of a reduce-scatter, which it runs as an all-reduce.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.profiler import ProfilerActivity, profile

from empirical.models.distributed import RankCase, RankProgram
from empirical.models.meta_world import watching_groups, watching_waits
from empirical.witnesses.memory import MemoryMeasurement, running_total
from empirical.witnesses.own_process import at_once
from empirical.witnesses.rank import RankObservation, observe_program
from empirical.witnesses.rank_tracker import RankTracker
from empirical.witnesses.tracker import LiveTensor, TrackedEvent

# What gloo's thread frees late can only add to a step: of several the best one counts.
NUM_STEPS, NUM_PROFILED_STEPS = 4, 8
_TIMEOUT = timedelta(seconds=60)
_PAUSE_S = 0.004
_COPY = "gloo's copy"
# A storage that is first seen as the result of one of these was allocated elsewhere: gloo's copy, a Python number.
_UNSEEN = ("aten.split.Tensor", "aten.lift_fresh.default")
_COPIED = {torch.ops.c10d._allgather_base_.default: 0, torch.ops.c10d._reduce_scatter_base_.default: 1}


@dataclass(frozen=True, slots=True)
class RealRank:
    """One rank's figures in `NUM_STEPS` steps.

    Attributes:
        allocator_peak: the most that torch's CPU allocator held in one of `NUM_PROFILED_STEPS` further steps, above
            what it held before; the lowest.
    """

    observation: RankObservation
    allocator_peak: int


def real_ranks(case: RankCase, folder: Path) -> list[RealRank]:
    """Every rank of the case's layout, in processes that run at once and meet in `folder`."""
    ranks = range(case.layout.num_gpus)
    return at_once(_real_rank, [(replace(case, rank=rank), str(folder / "store")) for rank in ranks])


def without_copies(events: Iterable[TrackedEvent]) -> Iterator[TrackedEvent]:
    """Events of a real rank that the simulated one has, too."""
    return (event for event in events if event[0].source not in (*_UNSEEN, _COPY))


def peak_with_copies(step: MemoryMeasurement) -> int:
    """The most that was live in a step, gloo's copies included, above what was live before it."""
    changes = (size for phase in step.phases for live, size in phase.events if live.source not in _UNSEEN)
    return max(accumulate(changes))


def _real_rank(job: tuple[RankCase, str]) -> RealRank:
    case, path = job
    torch.set_num_threads(1)
    world: dict[str, Any] = {"rank": case.rank, "world_size": case.layout.num_gpus, "timeout": _TIMEOUT}
    dist.init_process_group("gloo", init_method=f"file://{path}", **world)
    program, tracker = RankProgram.build(case, "cpu"), _GlooTracker(torch.device("cpu"))
    with watching_groups(lambda _: None, _pause), watching_waits(_pause):
        observation = observe_program(program, tracker, NUM_STEPS)
        allocator_peak = min(_profiled_peak(program) for _ in range(NUM_PROFILED_STEPS))
    dist.barrier()
    dist.destroy_process_group()
    return RealRank(observation, allocator_peak)


def _pause() -> None:
    """Let gloo's thread drop what a collective held: it does so a moment after the collective has ended."""
    time.sleep(_PAUSE_S)


def _profiled_peak(program: RankProgram) -> int:
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profiled:
        for _ in program.phases():
            pass
        program.reset()
    return running_total(profiled)[0]


class _GlooTracker(RankTracker):
    """Adds the copies that gloo makes for as long as a collective runs, as events."""

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in _COPIED:
            copied: torch.Tensor = args[_COPIED[func]]
            size_bytes = copied.numel() * copied.element_size()
            copy = LiveTensor(_COPY, tuple(copied.shape), str(copied.dtype), size_bytes)
            self.events += [(copy, size_bytes), (copy, -size_bytes)]
        return super().__torch_dispatch__(func, types, args, kwargs)
