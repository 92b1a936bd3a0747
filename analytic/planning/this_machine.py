"""A plan for the very machine that a calibration was made on: what one device trains in so many minutes.

The planner designs the model as for any machine time. The optimizer steps after every micro-batch, so that
no gradients accumulate: this is what can be run as planned.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from analytic.defaults import DEFAULT_MFU, RESERVE_BYTES
from analytic.errors import UsageError
from analytic.hardware.gpus import Gpu, GpuMemory
from analytic.hardware.table import Hardware
from analytic.memory.implementation import NotPredicted
from analytic.memory.schedule import schedule_of
from analytic.model.training import Precision, fused_kernel
from analytic.performance.calibration import Calibration, Case
from analytic.performance.calibration_file import case_to_json
from analytic.performance.mfu import Assumed, Mfu
from analytic.performance.predict import Calibrated, Shape
from analytic.performance.regression import Stack
from analytic.planning.architectures import Family
from analytic.planning.budget import MachineTime
from analytic.planning.forward import Plan, make_plan
from analytic.planning.market import single, with_calibration
from analytic.planning.placement import MICRO_BATCHES
from analytic.planning.request import Request
from analytic.scaling.laws import ScalingLaw

CUDA_FAMILY = Family(kind="dense", vocab_size=32_000, seq_len=4096)
CPU_FAMILY = Family(kind="dense", vocab_size=1024, seq_len=128)  # what a CPU can train in seconds
PRECISION: Precision = "bf16"


@dataclass(frozen=True, slots=True, kw_only=True)
class MachinePlan:
    """What a device is to train.

    Attributes:
        plan: as made for the budget. flat: the same at an assumed 40%. case: the plan's training step, to be run.
        peak_source: what the MFU is a share of. tdp_watts: None where the device is in no table.
        why_assumed: why no calibrated MFU could be had, if none could.
    """

    plan: Plan
    flat: Plan
    case: Case
    minutes: float
    peak_source: str
    tdp_watts: int | None
    why_assumed: str = ""

    @property
    def mfu(self) -> Mfu:
        return self.plan.option.mfu

    @property
    def tokens_per_s(self) -> float:
        """Peak x MFU / training FLOPs a token."""
        return float(self.plan.option.effective_flops_per_s / self.plan.outcome.candidate.flops_per_token)

    @property
    def step_seconds(self) -> float:
        return self.case.setup.tokens / self.tokens_per_s

    @property
    def peak_bytes(self) -> int | None:
        """Of the training step, by its schedule, with all that is live before; in bytes requested."""
        return _peak_bytes(self.case)

    @property
    def energy_joules(self) -> float | None:
        """Of the board at its TDP for the whole time."""
        return None if self.tdp_watts is None else self.tdp_watts * self.minutes * 60

    def as_json(self) -> dict[str, Any]:
        outcome = self.plan.outcome
        return {
            "minutes": self.minutes,
            "num_gpus": 1,
            "mfu": {"value": self.mfu.value, "source": self.mfu.origin},
            "why_assumed": self.why_assumed,
            "peak_flops_per_s": self.plan.option.gpu.peak(PRECISION),
            "peak_source": self.peak_source,
            "params": self.plan.params.total,
            "flops_per_token": outcome.candidate.flops_per_token,
            "tokens": outcome.tokens,
            "tokens_per_s": self.tokens_per_s,
            "step_seconds": self.step_seconds,
            "peak_bytes": self.peak_bytes,
            "energy_joules": self.energy_joules,
            "case": case_to_json(self.case),
        }


def machine_plan(
    calibration: Calibration, minutes: float, family: Family, law: ScalingLaw, hardware: Hardware
) -> MachinePlan:
    """The best plan of any micro-batch that fits: by the calibration, or at 40% where it says nothing of such sizes.

    Raises:
        UsageError: no peak, published or measured; nothing that fits; or minutes that do not pay for one token.
    """
    gpu, peak_source = _gpu(calibration, hardware)
    market = single(gpu, PRECISION, Assumed(value=DEFAULT_MFU, by="default"), None)
    budget = MachineTime(num_gpus=1, hours=minutes / 60)
    request = Request(budget=budget, market=market, law=law, family=family)
    with_own = replace(hardware, gpus={**hardware.gpus, gpu.key: gpu})
    calibrated, refused = Calibrated(calibration), list[str]()
    flat = make_plan(request, (), is_rehearsal=True)
    by_shape = replace(request, market=with_calibration(market, calibrated, with_own))
    found = list(_calibrated(by_shape, calibration, refused))
    if found:
        plan, case = min(found, key=lambda each: each[0].outcome.loss)
    else:
        plan, case = flat, _case(flat, request.micro_batch, None)
        if not _fits(case, calibration):
            raise UsageError(f"{calibration.name}: not even {case.label} fits {calibration.machine.device}")
    return MachinePlan(
        plan=plan,
        flat=flat,
        case=case,
        minutes=minutes,
        peak_source=peak_source,
        tdp_watts=gpu.tdp_watts,
        why_assumed="" if found else refused[0],
    )


def _gpu(calibration: Calibration, hardware: Hardware) -> tuple[Gpu, str]:
    """As published; a device that no table has counts by the best matrix product that was measured on it."""
    machine = calibration.machine
    peak = calibration.peak(PRECISION, hardware)
    if peak is None:
        raise UsageError(f"{calibration.name}: no {PRECISION} matrix product was timed on {machine.device}")
    known = hardware.of_device(machine.device)
    if known is not None and PRECISION in known.peak_flops_per_s:
        return known, peak[1]
    own = Gpu(
        link_bytes_per_s=None,
        link_gpus=1,
        key=machine.device,
        name=machine.device,
        aliases=(),
        device_names=(machine.device.removeprefix("NVIDIA "),),
        peak_flops_per_s={PRECISION: round(peak[0])},
        memory=GpuMemory(total_bytes=machine.memory_bytes, source=f"total_memory of {machine.device}"),
        bandwidth_bytes_per_s=round(calibration.ceiling("copy", PRECISION) or 0),
        tdp_watts=None,
        source=peak[1],
        unverified=(),
    )
    return own, peak[1]


def _calibrated(request: Request, calibration: Calibration, refused: list[str]) -> Iterator[tuple[Plan, Case]]:
    """A plan for each micro-batch that fits and whose MFU is known; why it is not is appended to `refused`."""
    for micro_batch in MICRO_BATCHES:
        try:
            plan = make_plan(replace(request, micro_batch=micro_batch), (), is_rehearsal=True)
        except UsageError as error:
            refused.append(str(error))
            continue
        assert plan.found.memory is not None  # a calibrated MFU is of a stack
        case = _case(plan, micro_batch, plan.found.memory.stack)
        if not _fits(case, calibration):
            refused.append(f"{case.label} does not fit")
            return
        yield plan, case


def _case(plan: Plan, micro_batch: int, stack: Stack | None) -> Case:
    seq_len = plan.request.family.seq_len
    stack = stack or Stack(
        built_by="transformers",
        precision=PRECISION,
        attention_kernel=fused_kernel(plan.spec),
        is_compiled=False,
        routing="none",
    )
    case = Shape(plan.found.config, seq_len, micro_batch, PRECISION).case(stack)
    return replace(case, setup=replace(case.setup, is_accumulating=False, rounding_bytes=1))


def _fits(case: Case, calibration: Calibration) -> bool:
    peak = _peak_bytes(case)
    return peak is None or peak <= calibration.machine.memory_bytes - RESERVE_BYTES


def _peak_bytes(case: Case) -> int | None:
    schedule = schedule_of(case.config, case.setup)
    return None if isinstance(schedule, NotPredicted) else schedule.peak_bytes()
