"""The public interface in Python: the verbs of the command as functions, with the same words and defaults.

Amounts may be typed as people write them: `tokens="15T"`, `gpus="512xh100=2.5"`, `seq_len="8k"`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any, Generic, TypeVar

from analytic.errors import UsageError
from analytic.hardware.prices import given_price
from analytic.hardware.table import Hardware, load_hardware
from analytic.huggingface.config import ModelConfig
from analytic.huggingface.config import load as load_config
from analytic.huggingface.shipped import find_model
from analytic.limits import MAX_DIMENSION, MOST_GPUS, MOST_TOKENS
from analytic.memory.capacity import RESERVE_BYTES
from analytic.model.checkpointing import Checkpointing
from analytic.model.flops import AttentionConvention
from analytic.model.optimizer import Optimizer
from analytic.model.params import ParameterCounts, parameter_counts
from analytic.model.training import (
    AttentionKernel,
    Precision,
    TrainingSetup,
    check_kernel,
    fused_kernel,
    planned_setup,
)
from analytic.performance.calibration_file import load_calibration
from analytic.performance.mfu import Assumed, Mfu
from analytic.performance.predict import Calibrated
from analytic.planning.architectures import Family, Kind
from analytic.planning.assumptions import DEFAULT_LAW, DEFAULT_MFU
from analytic.planning.backward import BackwardPlan, plan_backward
from analytic.planning.backward_file import load_setup
from analytic.planning.budget import Budget, DataLimit, Dollars, MachineTime
from analytic.planning.counts import Summary, Workload, summarize
from analytic.planning.fitting import Fitting, fit_on
from analytic.planning.forward import Plan, make_plan
from analytic.planning.market import DEFAULT_DTYPE, Market, single, with_calibration
from analytic.planning.market import compare as compare_gpus
from analytic.planning.request import Request
from analytic.planning.timing import Run, Timing, time_on
from analytic.report.backward import backward_document
from analytic.report.count import count_document
from analytic.report.document import Document
from analytic.report.fits import fits_document
from analytic.report.html import document_html
from analytic.report.json import document_object
from analytic.report.plan import plan_document
from analytic.report.text import document_text
from analytic.report.timing import compare_document, time_document
from analytic.scaling.law_file import load_law, load_laws
from analytic.units import GpuCount, parse_bytes, parse_gpus, parse_hours, parse_integer, parse_length, parse_number

DEFAULT_FAMILY = Family(kind="dense", vocab_size=32_000, seq_len=4096)

Value = TypeVar("Value")
Amount = int | str


@dataclass(frozen=True, slots=True)
class Model:
    """A model as its configuration describes it.

    >>> load("llama-3-8b").params.total
    8030261248
    """

    config: ModelConfig

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def params(self) -> ParameterCounts:
        """Parameters: total, active, embedding, head, non_embedding, buffers, mtp."""
        return parameter_counts(self.config.spec)

    def _repr_html_(self) -> str:
        return document_html(count(self).document)


@dataclass(frozen=True, slots=True)
class Result(Generic[Value]):
    """An answer: the typed value, and the document that the command prints.

    `result["key"]` is a figure of its JSON, `str(result)` the command's answer, and notebooks show it as a table.
    """

    value: Value
    document: Document

    @property
    def data(self) -> dict[str, Any]:
        """What `--json` prints."""
        return document_object(self.document)

    def __getitem__(self, key: str) -> Any:
        return self.data[key]

    def __str__(self) -> str:
        return document_text(self.document, is_verbose=False)

    def _repr_html_(self) -> str:
        return document_html(self.document)


def load(model: str | Path | Model) -> Model:
    """A model by its shipped name, or by the path of a Hugging Face `config.json` or of its folder.

    Raises:
        PlannerError: no such model, or a configuration that cannot be read.
    """
    return model if isinstance(model, Model) else Model(load_config(find_model(model)))


def count(
    model: str | Path | Model,
    *,
    seq_len: Amount | None = None,
    batch_size: Amount = 1,
    attention: AttentionConvention = "full",
    recompute: Checkpointing = "none",
    mtp: bool = False,
    micro_batch: Amount | None = None,
    precision: Precision = "bf16",
    master_weights: bool = False,
    optimizer: Optimizer = "adamw_fused",
    attention_kernel: AttentionKernel | None = None,
    accumulating: bool = False,
    rounding: int = 1,
) -> Result[Summary]:
    """Parameters, FLOPs and the memory of a training step on one GPU, from the formulas.

    >>> count("llama-3-8b")["params"]["total"]
    8030261248
    """
    config = load(model).config
    workload = Workload.of(
        config,
        seq_len=_length(seq_len),
        batch_size=_integer(batch_size, MAX_DIMENSION),
        convention=attention,
        checkpointing=recompute,
        mtp=mtp,
    )
    kernel = attention_kernel or ("eager" if precision == "fp32" else fused_kernel(config.spec))
    check_kernel(kernel, config.spec)
    rounding_bytes: Any = rounding
    setup = TrainingSetup(
        seq_len=workload.seq_len,
        micro_batch=workload.batch_size if micro_batch is None else _integer(micro_batch, MAX_DIMENSION),
        precision=precision,
        has_master_weights=master_weights,
        optimizer=optimizer,
        checkpointing=recompute,
        attention_kernel=kernel,
        is_accumulating=accumulating,
        rounding_bytes=rounding_bytes,
    )
    summary = summarize(config, workload)
    return Result(summary, count_document(summary, setup))


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
    workload = Workload.of(config, seq_len=_length(seq_len), checkpointing=recompute or "full")
    setup = planned_setup(config.spec, workload.seq_len, _integer(micro_batch, MAX_DIMENSION), precision)
    setup = replace(
        setup,
        checkpointing=workload.checkpointing,
        optimizer=optimizer or setup.optimizer,
        attention_kernel=attention_kernel or setup.attention_kernel,
    )
    check_kernel(setup.attention_kernel, config.spec)
    asked = _gpus(gpus)
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
    hardware, asked = load_hardware(), _gpus(gpus)
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
    mfus, found = _mfus(mfu, hardware), dict[str, Timing]()
    for name, usd in _priced(gpus):
        gpu = hardware.find(name)
        if gpu.key in found:
            raise UsageError(f"GPU {gpu.key}: given twice, expected once")
        found[gpu.key] = time_on(
            run,
            gpu,
            hardware,
            num_gpus=None if num_gpus is None else _integer(num_gpus, MOST_GPUS),
            days=days,
            price=None if usd is None else given_price(usd),
            mfu=mfus.get(gpu.key, mfus.get(None)),
        )
    if not found:
        raise UsageError("no GPU to compare: expected one or more, such as h100 or b200=4.5")
    timings = tuple(found.values())
    return Result(timings, compare_document(timings))


def plan(
    *,
    budget: Amount | float | None = None,
    gpus: str | GpuCount | None = None,
    hours: float | str | None = None,
    gpu: Sequence[str] | Mapping[str, float | None] = (),
    mfu: float | Mapping[str | None, float] | None = None,
    law: str = DEFAULT_LAW,
    kind: Kind = DEFAULT_FAMILY.kind,
    vocab_size: Amount = DEFAULT_FAMILY.vocab_size,
    seq_len: Amount = DEFAULT_FAMILY.seq_len,
    attention: AttentionConvention = DEFAULT_FAMILY.convention,
    dtype: str = DEFAULT_DTYPE,
    days: float | None = None,
    num_gpus: Amount | None = None,
    dataset_tokens: Amount | None = None,
    max_epochs: float | None = None,
    calibration: str | Path | None = None,
    micro_batch: Amount | None = None,
    assumed: Sequence[str] = (),
) -> Result[Plan]:
    """Which model to train, on how many tokens: from dollars (`budget`) or a machine's time (`gpus` and `hours`).

    Args:
        hours: of the machine; text may have a unit, such as `3w`.
        gpu: the GPUs that a budget may rent, with prices per hour; default: all with a price.
        calibration: a file of `foretrain calibrate`, for an MFU by shape. assumed: defaults to name in the document.

    >>> plan(budget="200k", gpu={"h100": 2.5})["gpu"]
    'h100-sxm'
    """
    if micro_batch is not None and calibration is None:
        raise UsageError("micro_batch: only with a calibration, whose MFU depends on it")
    hardware = load_hardware()
    spent, market = _budget_and_market(budget, gpus, hours, gpu, _mfus(mfu, hardware), dtype, hardware)
    request = Request(
        budget=spent,
        market=market,
        law=load_law(law),
        family=Family(
            kind=kind,
            vocab_size=_integer(vocab_size, MAX_DIMENSION),
            seq_len=_length(seq_len) or DEFAULT_FAMILY.seq_len,
            convention=attention,
        ),
        data=DataLimit(dataset_tokens=_optional(dataset_tokens, MOST_TOKENS), max_epochs=max_epochs),
        num_gpus=_optional(num_gpus, MOST_GPUS),
        days=days,
        assumed=tuple(assumed),
        micro_batch=_optional(micro_batch, MAX_DIMENSION) or 1,
    )
    laws = load_laws() | {request.law.name: request.law}
    flat: Plan | None = None
    if calibration is not None:
        calibrated = Calibrated(load_calibration(Path(calibration)))
        flat = make_plan(request, ())
        request = replace(request, market=with_calibration(request.market, calibrated, hardware))
    made = make_plan(request, laws.values(), today=date.today())
    return Result(made, plan_document(made, flat))


def plan_setup(path: str | Path) -> Result[BackwardPlan]:
    """What the machine and the architecture of a backward file reach: tokens, loss, epochs."""
    made = plan_backward(load_setup(Path(path), load_hardware()), load_laws().values())
    return Result(made, backward_document(made))


def _budget_and_market(
    budget: Amount | float | None,
    gpus: str | GpuCount | None,
    hours: float | str | None,
    gpu: Sequence[str] | Mapping[str, float | None],
    mfus: dict[str | None, Mfu],
    dtype: str,
    hardware: Hardware,
) -> tuple[Budget, Market]:
    """Dollars and the GPUs they may rent, or a machine's time and that machine."""
    general = mfus.get(None, Assumed(value=DEFAULT_MFU, by="default"))
    if gpus is None:
        if budget is None or hours is not None:
            raise UsageError("expected a budget, or gpus and hours")
        asked = {hardware.find(name).key: usd for name, usd in _priced(gpu)}
        by_gpu = {key: mfu for key, mfu in mfus.items() if key is not None}
        if asked and (stray := by_gpu.keys() - asked.keys()):
            raise UsageError(f"mfu of {', '.join(sorted(stray))}: not among the GPUs compared")
        market = compare_gpus(hardware, mfu=general, mfu_by_gpu=by_gpu, price_by_gpu=asked, dtype=dtype)
        return Dollars(float(parse_number(str(budget)))), market
    if budget is not None or hours is None or gpu:
        raise UsageError("expected gpus and hours, without a budget and without GPUs to compare")
    machine = _gpus(gpus)
    found, usd = hardware.find(machine.name), machine.usd_per_gpu_hour
    price = hardware.prices.get(found.key) if usd is None else given_price(usd)
    time_of = MachineTime(machine.count, parse_hours(hours) if isinstance(hours, str) else hours)
    return time_of, single(found, dtype, mfus.get(found.key, general), price)


def _run(
    model: str | Path | Model, tokens: Amount, seq_len: Amount | None, dtype: str, attention: AttentionConvention
) -> Run:
    config = load(model).config
    workload = Workload.of(config, seq_len=_length(seq_len))
    count_of = _integer(tokens, MOST_TOKENS)
    return Run(config=config, tokens=count_of, seq_len=workload.seq_len, dtype=dtype, convention=attention)


def _mfus(mfu: float | Mapping[str | None, float] | None, hardware: Hardware) -> dict[str | None, Mfu]:
    """By GPU; the key None is that of every other GPU."""
    if mfu is None:
        return {}
    if not isinstance(mfu, Mapping):
        return {None: Assumed(value=mfu, by="given")}
    return {
        None if name is None else hardware.find(name).key: Assumed(value=value, by="given")
        for name, value in mfu.items()
    }


def _priced(gpus: Sequence[str] | Mapping[str, float | None]) -> list[tuple[str, float | None]]:
    if isinstance(gpus, Mapping):
        return list(gpus.items())
    asked = [parse_gpus(text, most=1) for text in gpus]
    return [(each.name, each.usd_per_gpu_hour) for each in asked]


def _gpus(gpus: str | GpuCount) -> GpuCount:
    return parse_gpus(gpus, most=MOST_GPUS) if isinstance(gpus, str) else gpus


def _memory_of(name: str) -> tuple[str, int]:
    """A GPU of the table, or a memory such as 80GiB."""
    try:
        return name, parse_bytes(name)
    except UsageError:
        gpu = load_hardware().find(name)
        return gpu.key, gpu.memory_bytes


def _length(value: Amount | None) -> int | None:
    return parse_length(value, most=MAX_DIMENSION) if isinstance(value, str) else value


def _optional(value: Amount | None, most: int) -> int | None:
    return None if value is None else _integer(value, most)


def _integer(value: Amount, most: int) -> int:
    return parse_integer(str(value), most=most)
