"""A model, its tokens and GPUs -> seconds, dollars and energy, at an MFU whose origin is stated.

The MFU is given, or flat: 40%, assumed, with 30% and 50% as its range. Failures and restarts are not in it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction

from analytic.defaults import DEFAULT_MFU, MFU_RANGE
from analytic.errors import UsageError
from analytic.hardware.gpus import Gpu
from analytic.hardware.prices import Price
from analytic.hardware.table import Hardware
from analytic.huggingface.config import ModelConfig
from analytic.limits import MOST_GPUS
from analytic.memory.implementation import NotPredicted
from analytic.model.flops import AttentionConvention, training_flops
from analytic.model.params import ParameterCounts, parameter_counts
from analytic.performance.mfu import Assumed, Mfu
from analytic.performance.published import PublishedRun, load_published, nearest
from analytic.planning.placement import Placement, place
from analytic.units import SECONDS_PER_HOUR, exact


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What is to be trained."""

    config: ModelConfig
    tokens: int
    seq_len: int
    dtype: str
    convention: AttentionConvention = "full"

    @property
    def flops_per_token(self) -> int:
        return training_flops(self.config.spec, seq_len=self.seq_len, convention=self.convention).training_per_token

    @property
    def compute_flops(self) -> int:
        return self.tokens * self.flops_per_token

    @property
    def params(self) -> ParameterCounts:
        return parameter_counts(self.config.spec)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """A run on GPUs of one kind.

    Attributes:
        mfu: of these GPUs. mfu_range: the least and the most to expect; None where an MFU was given.
        published: the run on this GPU that is nearest in size, for comparison.
        num_gpus: None where it is open. price: None where none is known.
        placement: whether so many GPUs hold it, and in which layout.
    """

    run: Run
    gpu: Gpu
    num_gpus: int | None
    mfu: Mfu
    mfu_range: tuple[float, float] | None
    published: PublishedRun | None
    price: Price | None
    placement: Placement | NotPredicted

    def gpu_hours_at(self, mfu: float) -> Fraction:
        return self.run.compute_flops / (self.gpu.peak(self.run.dtype) * exact(mfu) * SECONDS_PER_HOUR)

    @property
    def gpu_hours(self) -> Fraction:
        """FLOPs / (dense peak x MFU)."""
        return self.gpu_hours_at(self.mfu.value)

    @property
    def days(self) -> Fraction | None:
        return None if self.num_gpus is None else self.gpu_hours / 24 / self.num_gpus

    @property
    def usd(self) -> Fraction | None:
        return None if self.price is None else self.gpu_hours * exact(self.price.usd_per_gpu_hour)

    @property
    def energy_kwh(self) -> Fraction | None:
        """Of the boards at their TDP."""
        return None if self.gpu.tdp_watts is None else self.gpu_hours * self.gpu.tdp_watts / 1000

    @property
    def tokens_per_s_per_gpu(self) -> float:
        return float(self.gpu.peak(self.run.dtype) * exact(self.mfu.value) / self.run.flops_per_token)


def time_on(
    run: Run,
    gpu: Gpu,
    hardware: Hardware,
    *,
    num_gpus: int | None = None,
    days: float | None = None,
    price: Price | None = None,
    mfu: Mfu | None = None,
) -> Timing:
    """Time a run on one kind of GPU. At most one of `num_gpus` and `days` is given.

    Raises:
        UsageError: a dtype that the GPU lacks, or more GPUs than there can be.
    """
    gpu.peak(run.dtype)
    timing = Timing(
        run=run,
        gpu=gpu,
        num_gpus=num_gpus,
        mfu=mfu or Assumed(value=DEFAULT_MFU, by="default"),
        mfu_range=MFU_RANGE if mfu is None else None,
        published=nearest(load_published(hardware), gpu, run.dtype, run.params.active),
        price=price or hardware.prices.get(gpu.key),
        placement=NotPredicted("the number of GPUs is open"),
    )
    if days is not None:
        num_gpus = math.ceil(timing.gpu_hours / 24 / exact(days))
        if num_gpus > MOST_GPUS:
            raise UsageError(f"days = {days:g}: expected as many as {MOST_GPUS:,} {gpu.key} take at least")
    placement = place(
        run.config,
        seq_len=run.seq_len,
        dtype=run.dtype,
        memory_bytes=gpu.memory_bytes,
        num_gpus=num_gpus,
        node_gpus=gpu.link_gpus,
        most_sequences=max(1, run.tokens // run.seq_len),
    )
    return replace(timing, num_gpus=num_gpus, placement=placement)
