"""Which model to train: from dollars, from a machine, or with a model that is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

from analytic.api.amounts import Amount, gpus_of, integer, length, optional_integer
from analytic.api.offers import mfus_of, priced
from analytic.api.result import Result
from analytic.defaults import (
    DEFAULT_DTYPE,
    DEFAULT_INFERENCE_MFU,
    DEFAULT_LAW,
    DEFAULT_MFU,
    DEFAULT_MOE_LAW,
    DEFAULT_SEQ_LEN,
    DEFAULT_VOCAB_SIZE,
)
from analytic.errors import UsageError
from analytic.hardware.prices import given_price
from analytic.hardware.table import Hardware, load_hardware
from analytic.limits import MAX_DIMENSION, MAX_PARAMETERS, MOST_GPUS, MOST_TOKENS
from analytic.model.flops import AttentionConvention
from analytic.performance.calibration_file import load_calibration
from analytic.performance.mfu import Assumed, Mfu
from analytic.performance.predict import Calibrated
from analytic.planning.architectures import Family, Kind
from analytic.planning.backward import BackwardPlan, plan_backward
from analytic.planning.backward_file import load_setup
from analytic.planning.budget import Budget, DataLimit, Dollars, MachineTime
from analytic.planning.forward import Plan, make_plan
from analytic.planning.laws import is_compared, of_family
from analytic.planning.market import Market, single, with_calibration
from analytic.planning.market import compare as compare_gpus
from analytic.planning.request import Request
from analytic.planning.serving import Serving
from analytic.report.backward import backward_document
from analytic.report.plan import plan_document
from analytic.scaling.law_file import compared_laws, load_all_laws, load_any_law
from analytic.scaling.laws import AllocationLaw, ScalingLaw
from analytic.units import GpuCount, parse_hours, parse_number

DEFAULT_LAWS: Mapping[Kind, str] = {"dense": DEFAULT_LAW, "moe": DEFAULT_MOE_LAW}
DEFAULT_FAMILY = Family(kind="dense", vocab_size=DEFAULT_VOCAB_SIZE, seq_len=DEFAULT_SEQ_LEN)


def plan(
    *,
    budget: Amount | float | None = None,
    gpus: str | GpuCount | None = None,
    hours: float | str | None = None,
    gpu: Sequence[str] | Mapping[str, float | None] = (),
    mfu: float | Mapping[str | None, float] | None = None,
    law: str | None = None,
    kind: Kind = DEFAULT_FAMILY.kind,
    vocab_size: Amount = DEFAULT_FAMILY.vocab_size,
    seq_len: Amount = DEFAULT_FAMILY.seq_len,
    attention: AttentionConvention = DEFAULT_FAMILY.convention,
    dtype: str = DEFAULT_DTYPE,
    days: float | None = None,
    num_gpus: Amount | None = None,
    dataset_tokens: Amount | None = None,
    max_epochs: float | None = None,
    params: Amount | None = None,
    inference_tokens: Amount | None = None,
    inference_mfu: float | None = None,
    inference_gpu: str | tuple[str, float | None] | None = None,
    calibration: str | Path | None = None,
    micro_batch: Amount | None = None,
    assumed: Sequence[str] = (),
) -> Result[Plan]:
    """Which model to train, on how many tokens: from dollars (`budget`) or a machine's time (`gpus` and `hours`).

    Args:
        hours: of the machine; text may have a unit, such as `3w`.
        gpu: the GPUs that a budget may rent, with prices per hour; default: all with a price.
        law: a shipped law or a file with one; default: besiroglu, and ludziejewski for models with experts.
        params: the size of the model, where the law is not to choose it.
        inference_tokens: what the model will serve, which the budget then pays for, too: at `inference_mfu` on
            `inference_gpu`, a name or "NAME=USD"; default: 10% on the GPU that trains.
        calibration: a file of `foretrain calibrate`, for an MFU by shape. assumed: defaults to name in the document.

    >>> plan(budget="200k", gpu={"h100": 2.5})["gpu"]
    'h100-sxm'
    """
    if micro_batch is not None and calibration is None:
        raise UsageError("micro_batch: only with a calibration, whose MFU depends on it")
    hardware = load_hardware()
    spent, market = _budget_and_market(budget, gpus, hours, gpu, mfus_of(mfu, hardware), dtype, hardware)
    asked = of_family(load_any_law(law or DEFAULT_LAWS[kind]), kind)
    allocation = asked if isinstance(asked, AllocationLaw) else None
    request = Request(
        budget=spent,
        market=market,
        law=default_law(kind) if isinstance(asked, AllocationLaw) else asked,
        allocation=allocation,
        family=_family(kind, vocab_size, seq_len, attention),
        data=DataLimit(dataset_tokens=optional_integer(dataset_tokens, MOST_TOKENS), max_epochs=max_epochs),
        num_gpus=optional_integer(num_gpus, MOST_GPUS),
        days=days,
        params=optional_integer(params, MAX_PARAMETERS),
        serving=_serving(inference_tokens, inference_mfu, inference_gpu, hardware),
        assumed=tuple(assumed),
        micro_batch=optional_integer(micro_batch, MAX_DIMENSION) or 1,
    )
    return _planned(request, calibration, hardware)


def _planned(request: Request, calibration: str | Path | None, hardware: Hardware) -> Result[Plan]:
    """The plan, and with a calibration the same at a constant MFU."""
    kind = request.family.kind
    shipped = {name: of_family(law, kind) for name, law in load_all_laws().items() if is_compared(law, kind)}
    laws = shipped | {request.law.name: request.law}
    flat: Plan | None = None
    if calibration is not None:
        if request.allocation is not None:
            raise UsageError(f"a calibration: {request.allocation.name} gives no loss by which to choose a shape")
        calibrated = Calibrated(load_calibration(Path(calibration)))
        flat = make_plan(request, ())
        request = replace(request, market=with_calibration(request.market, calibrated, hardware))
    made = make_plan(request, laws.values(), today=date.today())
    return Result(made, plan_document(made, flat))


def default_law(kind: Kind) -> ScalingLaw:
    """The law that says the loss where none was asked for that does."""
    law = of_family(load_any_law(DEFAULT_LAWS[kind]), kind)
    assert isinstance(law, ScalingLaw)
    return law


def _family(kind: Kind, vocab_size: Amount, seq_len: Amount, attention: AttentionConvention) -> Family:
    return Family(
        kind=kind,
        vocab_size=integer(vocab_size, MAX_DIMENSION),
        seq_len=length(seq_len) or DEFAULT_FAMILY.seq_len,
        convention=attention,
    )


def _serving(
    tokens: Amount | None,
    mfu: float | None,
    gpu: str | tuple[str, float | None] | None,
    hardware: Hardware,
) -> Serving | None:
    """None where nothing is served."""
    if tokens is None:
        if mfu is not None or gpu is not None:
            raise UsageError("an MFU or a GPU of inference: only with inference_tokens")
        return None
    assumed = Assumed(value=DEFAULT_INFERENCE_MFU, by="default") if mfu is None else Assumed(value=mfu, by="given")
    if gpu is None:
        return Serving(tokens=integer(tokens, MOST_TOKENS), mfu=assumed)
    ((name, usd),) = priced([gpu]) if isinstance(gpu, str) else [gpu]
    found = hardware.find(name)
    price = hardware.prices.get(found.key) if usd is None else given_price(usd)
    return Serving(tokens=integer(tokens, MOST_TOKENS), mfu=assumed, gpu=found, price=price)


def plan_setup(path: str | Path) -> Result[BackwardPlan]:
    """What the machine and the architecture of a backward file reach: tokens, loss, epochs."""
    made = plan_backward(load_setup(Path(path), load_hardware()), compared_laws())
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
        asked = {hardware.find(name).key: usd for name, usd in priced(gpu)}
        by_gpu = {key: mfu for key, mfu in mfus.items() if key is not None}
        if asked and (stray := by_gpu.keys() - asked.keys()):
            raise UsageError(f"mfu of {', '.join(sorted(stray))}: not among the GPUs compared")
        market = compare_gpus(hardware, mfu=general, mfu_by_gpu=by_gpu, price_by_gpu=asked, dtype=dtype)
        return Dollars(float(parse_number(str(budget)))), market
    if budget is not None or hours is None or gpu:
        raise UsageError("expected gpus and hours, without a budget and without GPUs to compare")
    machine = gpus_of(gpus)
    found, usd = hardware.find(machine.name), machine.usd_per_gpu_hour
    price = hardware.prices.get(found.key) if usd is None else given_price(usd)
    time_of = MachineTime(machine.count, parse_hours(hours) if isinstance(hours, str) else hours)
    return time_of, single(found, dtype, mfus.get(found.key, general), price)
