"""A second witness: the ranks as real processes on the CPU, which send real bytes over gloo.

What is tracked there is the simulated rank's, on tensors that have bytes. Three things are the CPU's or gloo's own:
scalars of the optimizer, which live on the CPU in either world; and two copies that gloo makes out of sight of the
dispatcher, the flat output of an all-gather and the input of a reduce-scatter, which it runs as an all-reduce.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.profiler import ProfilerActivity, profile

from empirical.models.distributed import RankCase, RankProgram
from empirical.witnesses.memory import running_total
from empirical.witnesses.own_process import at_once
from empirical.witnesses.rank import RankObservation, observe_program
from empirical.witnesses.rank_tracker import RankTracker
from empirical.witnesses.tracker import TrackedEvent

_TIMEOUT = timedelta(seconds=60)
_c10d = torch.ops.c10d
# A storage that is first seen as the result of one of these was allocated elsewhere: gloo's copy, a Python number.
_OWN = ("aten.split.Tensor", "aten.lift_fresh.default")


@dataclass(frozen=True, slots=True)
class RealRank:
    """One rank's figures, and the most that torch's CPU allocator held in a further step, above what it held before.

    Attributes:
        peak_with_copies: of the second step, tracked, with gloo's copies.
        allocator_peak: of a third step, by the profiler.
    """

    observation: RankObservation
    peak_with_copies: int
    allocator_peak: int


def real_ranks(case: RankCase, folder: Path) -> list[RealRank]:
    """Every rank of the case's layout, in two processes or more at once, which meet in `folder`."""
    cases = [RankCase(case.config, case.setup, case.layout, rank) for rank in range(case.layout.num_gpus)]
    return at_once(_real_rank, [(each, str(folder / "store")) for each in cases])


def without_own_copies(events: Iterable[TrackedEvent]) -> Iterator[TrackedEvent]:
    """Events of a real rank that the simulated one has, too."""
    return (event for event in events if event[0].source not in _OWN)


def _real_rank(job: tuple[RankCase, str]) -> RealRank:
    case, path = job
    torch.set_num_threads(1)
    store = dist.FileStore(path, case.layout.num_gpus)
    dist.init_process_group("gloo", store=store, rank=case.rank, world_size=case.layout.num_gpus, timeout=_TIMEOUT)
    program, tracker = RankProgram.build(case, "cpu"), _GlooTracker(torch.device("cpu"))
    observation = observe_program(program, tracker)
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profiled:
        for _ in program.phases():
            pass
        program.reset()
    step = observation.steps[-1]
    assert step.base_bytes is not None
    peak = max(step.peak_bytes, tracker.peak_with_copies - step.base_bytes)
    dist.barrier()
    dist.destroy_process_group()
    return RealRank(observation, peak, running_total(profiled)[0])


class _GlooTracker(RankTracker):
    """Adds the copies that gloo makes for as long as a collective runs."""

    peak_with_copies = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in (_c10d._allgather_base_.default, _c10d._reduce_scatter_base_.default):
            copied = args[0] if func is _c10d._allgather_base_.default else args[1]
            size_bytes = copied.numel() * copied.element_size()
            self.peak_with_copies = max(self.peak_with_copies, self.current_bytes + size_bytes)
        return super().__torch_dispatch__(func, types, args, kwargs)
