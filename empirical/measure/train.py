"""Train the model that a plan for this machine designs, on synthetic tokens, for as long as the plan says.

Every step is a real one: new tokens, loss, both passes, AdamW on fp32 copies of the weights.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from analytic.performance.calibration import Case
from empirical.measure.machine import energy_joules
from empirical.measure.throughput import build, holding_attention, refusal, seconds_of
from empirical.models.programs import StepProgram
from empirical.witnesses.memory import CpuAllocator, CudaAllocator

BLOCK_SECONDS = 1.0  # between two readings of the clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """The result of a training run.

    Attributes:
        steps, seconds: of whole blocks of steps; the first steps, which are cold, came before them.
        peak_bytes: of one of those first steps, with all that was live before it, in bytes requested.
        energy_joules: of the card over the blocks; None where it cannot be read.
        error: what ended it, such as memory that does not suffice; before the first step, or after some.
    """

    case: Case
    steps: int
    seconds: float
    peak_bytes: int | None
    energy_joules: float | None
    was_interrupted: bool
    error: str = ""

    @property
    def tokens(self) -> int:
        return self.steps * self.case.setup.tokens

    @property
    def tokens_per_s(self) -> float | None:
        return self.tokens / self.seconds if self.steps else None

    @property
    def step_seconds(self) -> float | None:
        return self.seconds / self.steps if self.steps else None

    @property
    def flops_per_s(self) -> float | None:
        """Model FLOPs, full attention, a second."""
        return self.case.model_flops() * self.steps / self.seconds if self.steps else None

    def as_json(self) -> dict[str, Any]:
        return {
            "steps": self.steps,
            "seconds": self.seconds,
            "tokens": self.tokens,
            "tokens_per_s": self.tokens_per_s,
            "step_seconds": self.step_seconds,
            "flops_per_s": self.flops_per_s,
            "peak_bytes": self.peak_bytes,
            "energy_joules": self.energy_joules,
            "was_interrupted": self.was_interrupted,
            "error": self.error,
        }


def train(case: Case, device: torch.device, seconds: float, on_progress: Callable[[int, float], None]) -> Trained:
    """Train for so many seconds, or until an interrupt; `on_progress` gets steps and seconds after every block."""
    blocks: list[tuple[int, float]] = []
    peak_bytes, energy, was_interrupted, error = None, None, False, ""
    try:
        with holding_attention(case):
            program = build(case, device)
            assert isinstance(program, StepProgram)
            peak_bytes = _peak_bytes(program, device)
            before = energy_joules(device)
            try:
                _train(program, device, seconds, blocks, on_progress)
            except KeyboardInterrupt:
                was_interrupted = True
            finally:
                after = energy_joules(device)
                energy = None if before is None or after is None else after - before
    except Exception as failure:  # whatever a library refuses on this device is the run's result
        error = refusal(case, failure)
    return Trained(
        case=case,
        steps=sum(steps for steps, _ in blocks),
        seconds=math.fsum(took for _, took in blocks),
        peak_bytes=peak_bytes,
        energy_joules=energy,
        was_interrupted=was_interrupted,
        error=error,
    )


def _train(
    program: StepProgram,
    device: torch.device,
    seconds: float,
    blocks: list[tuple[int, float]],
    on_progress: Callable[[int, float], None],
) -> None:
    """A first step, then blocks of about a second, the last one as long as is left."""
    left, runs, begun = seconds, 1, time.perf_counter()
    while left > 0:
        if blocks:
            each = blocks[-1][1] / blocks[-1][0]
            runs = max(1, round(min(BLOCK_SECONDS, left) / each))
        blocks.append((runs, runs * seconds_of(lambda: step(program), device, runs)))
        left = begun + seconds - time.perf_counter()
        on_progress(sum(done for done, _ in blocks), math.fsum(took for _, took in blocks))


def step(program: StepProgram) -> None:
    """One step, on tokens that were not seen before."""
    ids: Tensor = program.inputs["input_ids"]
    ids.random_(program.model.config.vocab_size)
    program.inputs["labels"].copy_(ids)
    for _ in program.phases():
        pass
    program.reset()


def _peak_bytes(program: StepProgram, device: torch.device) -> int:
    """What is live before a step plus the most that it adds; the steps that this takes also warm up."""
    base = sum(tensor.numel() * tensor.element_size() for _, tensor in program.base())
    allocator = CudaAllocator(device) if device.type == "cuda" else CpuAllocator()
    return base + allocator.measure(program).peak_bytes
