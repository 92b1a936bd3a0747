"""Throughput: which model FLOPs utilization a GPU reaches on a job, with its origin, or why that is not known.

One road for every source: a flat figure, what others published, or a calibration of one's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast, get_args

from analytic.errors import UsageError
from analytic.hardware.gpus import Gpu
from analytic.huggingface.config import ModelConfig
from analytic.model.flops import AttentionConvention
from analytic.model.params import parameter_counts
from analytic.model.training import Precision
from analytic.performance.measured_memory import MeasuredMemory
from analytic.performance.mfu import Mfu
from analytic.performance.predict import Calibrated, Shape
from analytic.performance.published import PublishedRun, nearest


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What GPUs of one kind train.

    Attributes:
        peak_flops_per_s: dense, at `dtype`. gpu: None where the table lacks it.
        micro_batch: sequences that a GPU takes at a time.
        optimizer_steps_shared_by: GPUs x accumulation steps, which share the time of one optimizer step.
        convention: of attention in the FLOPs that the MFU is a share of.
    """

    config: ModelConfig
    seq_len: int
    micro_batch: int
    dtype: str
    gpu: Gpu | None
    peak_flops_per_s: int
    optimizer_steps_shared_by: int = 1
    convention: AttentionConvention = "full"


@dataclass(frozen=True, slots=True)
class Unknown:
    """No MFU can be had, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Flat:
    """The same for every job."""

    value: Mfu

    def mfu(self, _: Job) -> Mfu | Unknown:
        return self.value


@dataclass(frozen=True, slots=True)
class Stated:
    """As published for the same GPU and dtype: the run that is nearest in size."""

    runs: tuple[PublishedRun, ...]

    def mfu(self, job: Job) -> Mfu | Unknown:
        run = None
        if job.gpu is not None:
            run = nearest(self.runs, job.gpu, job.dtype, parameter_counts(job.config.spec).active)
        return Unknown("no published run on this GPU at this dtype") if run is None else run.mfu(job.convention)


@dataclass(frozen=True, slots=True)
class Timed:
    """By a calibration: the job's own step where that was timed, else predicted by its shape."""

    calibrated: Calibrated

    def mfu(self, job: Job) -> Mfu | Unknown:
        try:
            return self.calibrated.mfu(_shape(job), job.peak_flops_per_s, job.convention)
        except UsageError as error:
            return Unknown(str(error))

    def memory(self, job: Job) -> MeasuredMemory:
        """What was measured on the stack that the MFU is of.

        Raises:
            UsageError: where there is no MFU.
        """
        return MeasuredMemory(self.calibrated.calibration, self.calibrated.stack(_shape(job)))


Throughput = Flat | Stated | Timed


def _shape(job: Job) -> Shape:
    if job.dtype not in get_args(Precision):
        raise UsageError(f"no calibration of {job.dtype}: expected one of {', '.join(get_args(Precision))}")
    share = 1 / job.optimizer_steps_shared_by
    return Shape(job.config, job.seq_len, job.micro_batch, cast(Precision, job.dtype), share)
