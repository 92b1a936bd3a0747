"""Peak bytes of a program, by three backends with one interface.

`Tracked` follows live storages on the meta device: exact for the operators that run, on any machine and at
any size. `CpuAllocator` and `CudaAllocator` ask the allocator of a real device. Everything but the numbers
of the last is the same on every device, so that its code runs on a machine without a GPU, too.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch.profiler import ProfilerActivity, profile

from empirical.models.programs import Named
from empirical.witnesses.meta_kernels import as_on_cuda
from empirical.witnesses.tracker import StorageTracker, TrackedEvent, TrackedPeak

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler would log every start on stderr


# what cuBLAS and torch's CPU allocator say of memory that does not suffice, in errors of no type of their own
_OUT_OF_MEMORY = ("CUBLAS_STATUS_ALLOC_FAILED", "DefaultCPUAllocator: can't allocate memory")


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error is memory that does not suffice."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(said in str(error) for said in _OUT_OF_MEMORY)


class Program(Protocol):
    """What can be measured: phases that follow each other, and what exists before them."""

    def base(self) -> Named: ...
    def phases(self) -> Iterator[str]: ...
    def reset(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Phase:
    """Bytes above the base: the most that was live in a phase, and what was when it ended.

    Attributes:
        allocated_bytes: CUDA: the peak with the allocator's rounding and splitting.
        reserved_bytes: CUDA: the most that the allocator held of the device, in all.
        tracked: the tracker: what was live at the peak. events: the tracker: every allocation and free.
    """

    name: str
    peak_bytes: int
    end_bytes: int
    allocated_bytes: int | None = None
    reserved_bytes: int | None = None
    tracked: TrackedPeak | None = None
    events: Sequence[TrackedEvent] = ()


@dataclass(frozen=True, slots=True)
class MemoryMeasurement:
    """A program's phases on one backend. `base_bytes` is None where the backend cannot tell it apart."""

    backend: str
    base_bytes: int | None
    phases: tuple[Phase, ...]

    def __getitem__(self, name: str) -> Phase:
        return next(phase for phase in self.phases if phase.name == name)

    @property
    def peak_bytes(self) -> int:
        """The most of all phases, above the base."""
        return max(phase.peak_bytes for phase in self.phases)


class Backend(Protocol):
    """How bytes are measured."""

    name: str
    device: torch.device

    def measure(self, program: Program) -> MemoryMeasurement: ...


class Tracked:
    """Live storages on the meta device, with the operators that CUDA would run."""

    def __init__(self, rounding: int = 1) -> None:
        self.name = "tracked on meta"
        self.device = torch.device("meta")
        self.rounding = rounding

    def measure(self, program: Program) -> MemoryMeasurement:
        tracker = StorageTracker(self.device, rounding=self.rounding)
        for name, tensor in program.base():
            tracker.register(name, tensor)
        base, first, phases = tracker.current_bytes, len(tracker.events), []
        tracker.reset_peak()
        with as_on_cuda(), tracker:
            for phase in program.phases():
                peak, events = tracker.peak, tracker.events[first:]
                end_bytes = tracker.current_bytes - base
                phases.append(Phase(phase, peak.peak_bytes - base, end_bytes, tracked=peak, events=events))
                first = len(tracker.events)
                tracker.reset_peak()
        program.reset()
        return MemoryMeasurement(self.name, base, tuple(phases))


class CpuAllocator:
    """torch's own CPU allocator, through the profiler's memory events. Bytes are those requested."""

    def __init__(self) -> None:
        self.name = "CPU allocator"
        self.device = torch.device("cpu")

    def measure(self, program: Program) -> MemoryMeasurement:
        for _ in program.phases():  # what is allocated once and kept is not the program's
            pass
        program.reset()
        gc.collect()
        phases, live = [], 0
        running = program.phases()
        while True:
            with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profiled:
                name = next(running, None)
            if name is None:
                break
            peak, end = running_total(profiled)
            phases.append(Phase(name, live + peak, live + end))
            live += end
        program.reset()
        return MemoryMeasurement(self.name, None, tuple(phases))


def running_total(profiled: profile) -> tuple[int, int]:
    """The highest sum and the last, of the allocations (positive) and frees (negative) in time."""
    kineto: Any = profiled.profiler
    events = [event for event in kineto.kineto_results.events() if event.name() == "[memory]"]
    total = highest = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        total += event.nbytes()
        highest = max(highest, total)
    return highest, total


class CudaAllocator:
    """The caching allocator's counters. To be run in a process of its own, with
    `PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True`, so that blocks are not split.

    On a device without such counters the same steps are taken and every figure is zero.
    """

    WARM_UPS = 2

    def __init__(self, device: torch.device) -> None:
        self.name = f"{device.type} allocator"
        self.device = device

    def measure(self, program: Program) -> MemoryMeasurement:
        for _ in range(self.WARM_UPS):
            for _ in program.phases():
                pass
            program.reset()
        gc.collect()
        self._synchronize()
        torch.cuda.empty_cache()
        base, phases = self._counters(), []
        self._reset_peaks()
        for phase in program.phases():
            self._synchronize()
            now = self._counters()
            phases.append(
                Phase(
                    phase,
                    now["requested_bytes.all.peak"] - base["requested_bytes.all.current"],
                    now["requested_bytes.all.current"] - base["requested_bytes.all.current"],
                    allocated_bytes=now["allocated_bytes.all.peak"] - base["allocated_bytes.all.current"],
                    reserved_bytes=now["reserved_bytes.all.peak"],
                )
            )
            self._reset_peaks()
        program.reset()
        return MemoryMeasurement(self.name, base["requested_bytes.all.current"], tuple(phases))

    def _counters(self) -> dict[str, int]:
        if self.device.type == "cuda":
            return dict(torch.cuda.memory_stats(self.device))
        kinds = ("requested_bytes", "allocated_bytes", "reserved_bytes")
        return {f"{kind}.all.{when}": 0 for kind in kinds for when in ("current", "peak")}

    def _synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _reset_peaks(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
