"""The backward file: a machine, its hours and an architecture, as JSON with comments."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from analytic.errors import FileError, PlannerError, UsageError, listed
from analytic.hardware.gpus import DTYPES, Gpu
from analytic.hardware.prices import Price
from analytic.hardware.table import Hardware
from analytic.huggingface.config import ModelConfig, load, parse
from analytic.huggingface.shipped import find_model
from analytic.io.jsonc import read_jsonc
from analytic.io.keys import Derived, Keys
from analytic.io.located import located
from analytic.limits import MAX_DIMENSION, MOST_EPOCHS, MOST_GPUS, MOST_HOURS, MOST_PEAK_FLOPS_PER_S, MOST_TOKENS
from analytic.model.flops import AttentionConvention
from analytic.model.spec import ModelSpec
from analytic.performance.calibration_file import load_calibration
from analytic.performance.measured_memory import MeasuredMemory
from analytic.performance.mfu import Assumed, Mfu
from analytic.performance.predict import Calibrated, check_gpu
from analytic.performance.throughput import Job, Timed, Unknown
from analytic.planning.budget import DataLimit
from analytic.scaling.law_file import custom_law, load_laws
from analytic.scaling.laws import ScalingLaw

Part = TypeVar("Part")
ARCHITECTURE, CONFIG = "architecture", "config"
REQUIRED = ("training_gear", "training_efficiency", "dataset_constraints", "scaling_law", "output_options")
CUSTOM = "custom"
_COEFFICIENTS = {"E": "e", "A": "a", "B": "b", "alpha": "alpha", "beta": "beta"}
_SAME = 1e-9  # full-precision laws are stated by their logarithms


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What a machine is to train.

    Attributes:
        architecture: as the file states it, or the published configuration that it names. notes: how it was read.
        gpu: None where the file names a GPU that the table lacks and gives its peak; price: if known.
        peak_flops_per_s: dense, per GPU; `peak_source` says where from.
        micro_batch_size: sequences per GPU and accumulation step.
        convention: of attention in the FLOPs that `mfu` is a share of.
        memory: what was measured on the machine, where the file names a calibration.
    """

    path: Path
    architecture: Mapping[str, Any]
    config: ModelConfig
    gpu_type: str
    gpu: Gpu | None
    price: Price | None
    num_gpus: int
    hours: float
    dtype: str
    peak_flops_per_s: int
    peak_source: str
    mfu: Mfu
    convention: AttentionConvention
    micro_batch_size: int
    gradient_accumulation_steps: int
    dataset_tokens: int
    max_epochs: float
    seq_len: int
    law: ScalingLaw
    show_breakdown: bool
    verify_calculations: bool
    derived: Mapping[str, Derived]
    notes: tuple[str, ...] = ()
    memory: MeasuredMemory | None = None

    @property
    def spec(self) -> ModelSpec:
        return self.config.spec

    @property
    def tokens_per_step(self) -> int:
        """The global batch: sequences per GPU x accumulation steps x GPUs x sequence length."""
        return self.micro_batch_size * self.gradient_accumulation_steps * self.num_gpus * self.seq_len


@dataclass(frozen=True, slots=True)
class _Architecture:
    config: ModelConfig
    stated: Mapping[str, Any]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Gear:
    gpu_type: str
    gpu: Gpu | None
    num_gpus: int
    hours: float
    dtype: str
    peak_flops_per_s: int
    peak_source: str


@dataclass(frozen=True, slots=True)
class _Efficiency:
    """`mfu` is a figure, or the keys that name a calibration."""

    mfu: Mfu | Keys
    convention: AttentionConvention
    micro_batch: int
    accumulation_steps: int


@dataclass(frozen=True, slots=True)
class _Dataset:
    tokens: int
    max_epochs: float
    seq_len: int


@dataclass(frozen=True, slots=True)
class _Output:
    show_breakdown: bool
    verify_calculations: bool


def load_setup(path: Path, hardware: Hardware) -> Setup:
    """Read a backward file.

    Raises:
        FileError: and its kin, naming path, line, section, field, value and what was expected.
    """
    raw, lines = read_jsonc(path)
    with located(path, lines):
        root = Keys(raw)
        root.require(REQUIRED, "backward")
        root.allow((ARCHITECTURE, CONFIG, *REQUIRED))
        if (ARCHITECTURE in raw) == (CONFIG in raw):
            raise FileError(f"missing {ARCHITECTURE}, or {CONFIG}: expected exactly one of the two")
        sections = {name: root.section(name) or Keys({}) for name in (ARCHITECTURE, *REQUIRED)}
        published = _published(root, path.parent) if CONFIG in raw else None

    def read(name: str, reader: Callable[[Keys], Part]) -> Part:
        with located(path, lines, (name,)):
            return reader(sections[name])

    architecture = published or read(ARCHITECTURE, _architecture)
    gear = read("training_gear", lambda keys: _gear(keys, hardware))
    efficiency = read("training_efficiency", _efficiency)
    dataset = read("dataset_constraints", _dataset)
    law = read("scaling_law", _law)
    output = read("output_options", _output)
    mfu, memory = efficiency.mfu, None
    if isinstance(mfu, Keys):
        with located(path, lines, ("training_efficiency", "expected_mfu")):
            mfu, memory = _calibrated(mfu, path.parent, architecture.config, gear, efficiency, dataset, hardware)
    derived = {key: value for keys in sections.values() for key, value in keys.derived.items()}
    return Setup(
        path=path,
        architecture=architecture.stated,
        config=architecture.config,
        gpu_type=gear.gpu_type,
        gpu=gear.gpu,
        price=None if gear.gpu is None else hardware.prices.get(gear.gpu.key),
        num_gpus=gear.num_gpus,
        hours=gear.hours,
        dtype=gear.dtype,
        peak_flops_per_s=gear.peak_flops_per_s,
        peak_source=gear.peak_source,
        mfu=mfu,
        convention=efficiency.convention,
        micro_batch_size=efficiency.micro_batch,
        gradient_accumulation_steps=efficiency.accumulation_steps,
        dataset_tokens=dataset.tokens,
        max_epochs=dataset.max_epochs,
        seq_len=dataset.seq_len,
        law=law,
        show_breakdown=output.show_breakdown,
        verify_calculations=output.verify_calculations,
        derived=derived,
        notes=architecture.notes,
        memory=memory,
    )


def _published(root: Keys, folder: Path) -> _Architecture:
    """A configuration by its shipped name or its path, from the backward file's own folder."""
    name = root.text(CONFIG)
    local = folder / name
    is_path = name.casefold().endswith(".json") or os.path.exists(local)  # noqa: PTH110  # takes every string
    try:
        config = load(find_model(local if is_path else name))
    except UsageError as error:
        raise FileError(f"{CONFIG} = {name!r}: {error}", key=CONFIG) from None
    return _Architecture(config, dict(config.raw), config.notes)


def _architecture(keys: Keys) -> _Architecture:
    """Keys as in a Hugging Face config.json; those without which the model is the same are noted."""
    stated = {"model_type": "llama", **keys.config}
    config = parse(Path("architecture"), Keys(stated, keys.derived))
    unread = [key for key in keys.config if _is_same_without(key, stated, config)]
    if "model_type" not in keys.config:
        keys.derived["model_type"] = Derived("llama", "the backward file's default")
    notes = [f"keys that nothing is counted from: {listed(unread)}"] if unread else []
    return _Architecture(config, stated, (*config.notes, *notes))


def _is_same_without(key: str, stated: Mapping[str, Any], config: ModelConfig) -> bool:
    rest = Keys({other: value for other, value in stated.items() if other != key})
    try:
        other = parse(Path("architecture"), rest)
    except PlannerError:
        return False
    return (other.spec, other.numerics, other.derived) == (config.spec, config.numerics, config.derived)


def _gear(keys: Keys, hardware: Hardware) -> _Gear:
    required = ("gpu_type", "num_gpus", "available_hours", "dtype")
    keys.require(required, "training_gear")
    keys.allow((*required, "peak_flops_per_gpu"))
    name, dtype = keys.text("gpu_type"), keys.text("dtype", among=DTYPES)
    gpu: Gpu | None = None
    if keys.config.get("peak_flops_per_gpu") is None:
        try:
            gpu = hardware.find(name)
        except UsageError as error:
            raise FileError(f"gpu_type = {name!r}: {error}, or a peak_flops_per_gpu", key="gpu_type") from None
        try:
            peak, source = gpu.peak(dtype), f"published, dense ({gpu.source})"
        except UsageError as error:
            raise FileError(f"dtype = {dtype!r}: {error}", key="dtype") from None
    else:
        peak, source = (
            round(keys.number("peak_flops_per_gpu", least=1, most=MOST_PEAK_FLOPS_PER_S)),
            "given in the file",
        )
        gpu = next((g for g in hardware.gpus.values() if name.casefold() in (g.key, *g.aliases)), None)
    num_gpus = keys.integer("num_gpus", most=MOST_GPUS)
    return _Gear(name, gpu, num_gpus, keys.number("available_hours", most=MOST_HOURS), dtype, peak, source)


def _efficiency(keys: Keys) -> _Efficiency:
    required = ("expected_mfu", "batch_size", "gradient_accumulation_steps")
    keys.require(required, "training_efficiency")
    keys.allow((*required, "attention"))
    stated: Mfu | Keys
    if isinstance(keys.config["expected_mfu"], dict):
        stated = Keys(keys.config["expected_mfu"])
    else:
        stated = Assumed(value=keys.number("expected_mfu", most=1), by="the file")
    conventions = ("full", "causal", "half")
    convention = keys.text("attention", Derived("full", "the convention of PaLM, app. B"), among=conventions)
    steps = "gradient_accumulation_steps"
    return _Efficiency(stated, cast(AttentionConvention, convention), keys.integer("batch_size"), keys.integer(steps))


def _calibrated(
    keys: Keys,
    folder: Path,
    config: ModelConfig,
    gear: _Gear,
    efficiency: _Efficiency,
    dataset: _Dataset,
    hardware: Hardware,
) -> tuple[Mfu, MeasuredMemory]:
    """Of this very model as the machine trains it."""
    keys.allow(("calibration",))
    keys.require(("calibration",), "calibrated MFU")
    calibration = load_calibration(folder / keys.text("calibration"))
    check_gpu(calibration, gear.gpu, gear.gpu_type, hardware)
    timed = Timed(Calibrated(calibration))
    job = Job(
        config=config,
        seq_len=dataset.seq_len,
        micro_batch=efficiency.micro_batch,
        dtype=gear.dtype,
        gpu=gear.gpu,
        peak_flops_per_s=gear.peak_flops_per_s,
        optimizer_steps_shared_by=gear.num_gpus * efficiency.accumulation_steps,
        convention=efficiency.convention,
    )
    mfu = timed.mfu(job)
    if isinstance(mfu, Unknown):
        raise UsageError(mfu.reason)
    return mfu, timed.memory(job)


def _dataset(keys: Keys) -> _Dataset:
    required = ("dataset_size", "max_epochs", "sequence_length")
    keys.require(required, "dataset_constraints")
    keys.allow(required)
    tokens, epochs = keys.integer("dataset_size", most=MOST_TOKENS), keys.number("max_epochs", most=MOST_EPOCHS)
    DataLimit(dataset_tokens=tokens, max_epochs=epochs)  # less than one token is refused here, where the line is known
    return _Dataset(tokens, epochs, keys.integer("sequence_length", most=MAX_DIMENSION))


def _law(keys: Keys) -> ScalingLaw:
    """A named law, or five coefficients; coefficients beside a name must be that law's own."""
    keys.require(("base",), "scaling_law")
    keys.allow(("base", *_COEFFICIENTS))
    laws = load_laws()
    base = keys.text("base", among=(*laws, CUSTOM))
    if base == CUSTOM:
        return custom_law(CUSTOM, "coefficients given in the file", keys)
    law = laws[base]
    for key, attribute in _COEFFICIENTS.items():
        if key in keys.config and not math.isclose(keys.number(key), getattr(law, attribute), rel_tol=_SAME):
            keys.reject(key, keys.config[key], f"{getattr(law, attribute):.10g}, as base = {base!r} has it")
    return law


def _output(keys: Keys) -> _Output:
    keys.allow(("show_breakdown", "verify_calculations"))
    off = Derived(False, "off unless asked for")
    return _Output(keys.flag("show_breakdown", off), keys.flag("verify_calculations", off))
