"""One training run: its time and cost, on one kind of GPU or on several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from analytic.api.amounts import Amount, gpus_of, integer, length, mfus_of, priced
from analytic.api.models import Model, load
from analytic.api.result import Result
from analytic.defaults import DEFAULT_DTYPE
from analytic.errors import UsageError
from analytic.hardware.prices import given_price
from analytic.hardware.table import load_hardware
from analytic.limits import MOST_GPUS, MOST_TOKENS
from analytic.model.flops import AttentionConvention
from analytic.performance.mfu import Assumed
from analytic.planning.counts import Workload
from analytic.planning.timing import Run, Timing, time_on
from analytic.report.timing import compare_document, time_document
from analytic.units import GpuCount


def time(
    model: str | Path | Model,
    *,
    tokens: Amount,
    gpus: str | GpuCount,
    mfu: float | None = None,
    dtype: str = DEFAULT_DTYPE,
    seq_len: Amount | None = None,
    attention: AttentionConvention = "full",
) -> Result[Timing]:
    """Days, dollars and energy of a training run, at an MFU that is given or assumed.

    >>> round(time("llama-3-8b", tokens="15T", gpus="512xh100", mfu=0.4)["days"], 1)
    44.1
    """
    hardware, asked = load_hardware(), gpus_of(gpus)
    price = None if asked.usd_per_gpu_hour is None else given_price(asked.usd_per_gpu_hour)
    found = time_on(
        _run(model, tokens, seq_len, dtype, attention),
        hardware.find(asked.name),
        hardware,
        num_gpus=asked.count,
        price=price,
        mfu=None if mfu is None else Assumed(value=mfu, by="given"),
    )
    return Result(found, time_document(found))


def compare(
    model: str | Path | Model,
    *,
    tokens: Amount,
    gpus: Sequence[str] | Mapping[str, float | None],
    mfu: float | Mapping[str | None, float] | None = None,
    num_gpus: Amount | None = None,
    days: float | None = None,
    dtype: str = DEFAULT_DTYPE,
    seq_len: Amount | None = None,
    attention: AttentionConvention = "full",
) -> Result[tuple[Timing, ...]]:
    """The same run on several kinds of GPUs, by name and, where it is given, price per hour.

    >>> len(compare("llama-3-8b", tokens="1T", gpus={"h100": 2.5, "b200": 4.5}).value)
    2
    """
    if num_gpus is not None and days is not None:
        raise UsageError("a number of GPUs and a number of days: each fixes the other")
    hardware, run = load_hardware(), _run(model, tokens, seq_len, dtype, attention)
    mfus, found = mfus_of(mfu, hardware), dict[str, Timing]()
    for name, usd in priced(gpus):
        gpu = hardware.find(name)
        if gpu.key in found:
            raise UsageError(f"GPU {gpu.key}: given twice, expected once")
        found[gpu.key] = time_on(
            run,
            gpu,
            hardware,
            num_gpus=None if num_gpus is None else integer(num_gpus, MOST_GPUS),
            days=days,
            price=None if usd is None else given_price(usd),
            mfu=mfus.get(gpu.key, mfus.get(None)),
        )
    if not found:
        raise UsageError("no GPU to compare: expected one or more, such as h100 or b200=4.5")
    timings = tuple(found.values())
    return Result(timings, compare_document(timings))


def _run(
    model: str | Path | Model, tokens: Amount, seq_len: Amount | None, dtype: str, attention: AttentionConvention
) -> Run:
    config = load(model).config
    workload = Workload.of(config, seq_len=length(seq_len))
    count_of = integer(tokens, MOST_TOKENS)
    return Run(config=config, tokens=count_of, seq_len=workload.seq_len, dtype=dtype, convention=attention)
