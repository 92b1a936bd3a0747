"""Whether a model fits GPUs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from analytic.api.amounts import Amount, gpus_of, integer, length
from analytic.api.models import Model, load
from analytic.api.result import Result
from analytic.defaults import RESERVE_BYTES
from analytic.errors import UsageError
from analytic.hardware.table import load_hardware
from analytic.limits import MAX_DIMENSION
from analytic.model.checkpointing import Checkpointing
from analytic.model.optimizer import Optimizer
from analytic.model.training import (
    AttentionKernel,
    Precision,
    check_kernel,
    planned_setup,
)
from analytic.planning.counts import Workload
from analytic.planning.fitting import Fitting, fit_on
from analytic.report.fits import fits_document
from analytic.units import GpuCount, parse_bytes


def fits(
    model: str | Path | Model,
    gpus: str | GpuCount,
    *,
    seq_len: Amount | None = None,
    micro_batch: Amount = 1,
    recompute: Checkpointing | None = None,
    precision: Precision = "bf16",
    optimizer: Optimizer | None = None,
    attention_kernel: AttentionKernel | None = None,
    reserve: Amount = RESERVE_BYTES,
) -> Result[Fitting]:
    """Whether a model trains on `gpus`, such as `8xa100-80` or `1x80GiB`, and what the largest micro-batch is.

    >>> fits("llama-3.2-1b", "1xh100")["fits"]
    True
    """
    config = load(model).config
    workload = Workload.of(config, seq_len=length(seq_len), checkpointing=recompute or "full")
    setup = planned_setup(config.spec, workload.seq_len, integer(micro_batch, MAX_DIMENSION), precision)
    setup = replace(
        setup,
        checkpointing=workload.checkpointing,
        optimizer=optimizer or setup.optimizer,
        attention_kernel=attention_kernel or setup.attention_kernel,
    )
    check_kernel(setup.attention_kernel, config.spec)
    asked = gpus_of(gpus)
    gpu, memory_bytes = _memory_of(asked.name)
    found = fit_on(
        config,
        setup,
        gpu=gpu,
        num_gpus=asked.count,
        memory_bytes=memory_bytes,
        reserve_bytes=reserve if isinstance(reserve, int) else parse_bytes(reserve),
        recompute=recompute,
    )
    return Result(found, fits_document(found))


def _memory_of(name: str) -> tuple[str, int]:
    """A GPU of the table, or a memory such as 80GiB."""
    try:
        return name, parse_bytes(name)
    except UsageError:
        gpu = load_hardware().find(name)
        return gpu.key, gpu.memory_bytes
