"""The backward file: a machine, its hours and an architecture, as JSON with comments."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from analytic.errors import FileError, UsageError, listed
from analytic.hardware.gpus import DTYPES, Gpu
from analytic.hardware.prices import Price
from analytic.hardware.table import Hardware
from analytic.huggingface.config import ModelConfig, parse
from analytic.io.jsonc import read_jsonc
from analytic.io.keys import Derived, Keys
from analytic.io.located import located
from analytic.limits import MAX_DIMENSION, MOST_EPOCHS, MOST_GPUS, MOST_HOURS, MOST_PEAK_FLOPS_PER_S, MOST_TOKENS
from analytic.model.flops import AttentionConvention
from analytic.model.spec import ModelSpec
from analytic.performance.calibration_file import load_calibration
from analytic.performance.measured_memory import MeasuredMemory
from analytic.performance.mfu import Assumed, Mfu
from analytic.performance.predict import Calibrated, Shape, check_gpu
from analytic.planning.budget import DataLimit
from analytic.scaling.law_file import custom_law, load_laws
from analytic.scaling.laws import ScalingLaw

SECTIONS = (
    "architecture",
    "training_gear",
    "training_efficiency",
    "dataset_constraints",
    "scaling_law",
    "output_options",
)
CUSTOM = "custom"
_COEFFICIENTS = {"E": "e", "A": "a", "B": "b", "alpha": "alpha", "beta": "beta"}
_SAME = 1e-9  # full-precision laws are stated by their logarithms


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What a machine is to train.

    Attributes:
        architecture: as the file states it.
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
    memory: MeasuredMemory | None = None

    @property
    def spec(self) -> ModelSpec:
        return self.config.spec

    @property
    def tokens_per_step(self) -> int:
        """The global batch: sequences per GPU x accumulation steps x GPUs x sequence length."""
        return self.micro_batch_size * self.gradient_accumulation_steps * self.num_gpus * self.seq_len


class _Watched(Mapping[str, Any]):
    """A mapping that remembers which keys were asked for: the others mean nothing to anyone."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values
        self.asked: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self.asked.add(key)
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def load_setup(path: Path, hardware: Hardware) -> Setup:
    """Read a backward file.

    Raises:
        FileError: and its kin, naming path, line, section, field, value and what was expected.
    """
    raw, lines = read_jsonc(path)
    with located(path, lines):
        root = Keys(raw)
        root.require(SECTIONS, "backward")
        root.allow(SECTIONS)
        sections = {name: root.section(name) or Keys({}) for name in SECTIONS}
    derived: dict[str, Derived] = {}
    values: dict[str, Any] = {}
    for name, read in _READERS.items():
        with located(path, lines, (name,)):
            values |= read(sections[name], hardware)
            derived |= sections[name].derived
    if isinstance(values["mfu"], Keys):
        with located(path, lines, ("training_efficiency", "expected_mfu")):
            values |= _calibrated(values["mfu"], path.parent, values, hardware)
    return Setup(path=path, derived=derived, **values)


def _architecture(keys: Keys, _: Hardware) -> dict[str, Any]:
    """Keys as in a Hugging Face config.json; one that the family's parser does not ask for is an error."""
    watched = _Watched({"model_type": "llama", **keys.config})
    config = parse(Path("architecture"), Keys(watched, keys.derived))
    for key in watched:
        if key not in watched.asked:
            expected = listed(sorted(watched.asked))
            raise FileError(f"{key}: no such key of {config.model_type}, expected one of {expected}", key=key)
    if "model_type" not in keys.config:
        keys.derived["model_type"] = Derived("llama", "the backward file's default")
    return {"config": config, "architecture": dict(watched)}


def _gear(keys: Keys, hardware: Hardware) -> dict[str, Any]:
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
    return {
        "gpu_type": name,
        "gpu": gpu,
        "price": hardware.prices.get(gpu.key) if gpu else None,
        "num_gpus": keys.integer("num_gpus", most=MOST_GPUS),
        "hours": keys.number("available_hours", most=MOST_HOURS),
        "dtype": dtype,
        "peak_flops_per_s": peak,
        "peak_source": source,
    }


def _efficiency(keys: Keys, _: Hardware) -> dict[str, Any]:
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
    return {
        "mfu": stated,
        "convention": cast(AttentionConvention, convention),
        "micro_batch_size": keys.integer("batch_size"),
        "gradient_accumulation_steps": keys.integer("gradient_accumulation_steps"),
    }


def _calibrated(keys: Keys, folder: Path, values: Mapping[str, Any], hardware: Hardware) -> dict[str, Any]:
    """Of this very model as the machine trains it: its optimizer's step shared by GPUs and accumulation steps."""
    keys.allow(("calibration",))
    keys.require(("calibration",), "calibrated MFU")
    calibration = load_calibration(folder / keys.text("calibration"))
    check_gpu(calibration, values["gpu"], values["gpu_type"], hardware)
    steps = values["num_gpus"] * values["gradient_accumulation_steps"]
    shape = Shape(values["config"], values["seq_len"], values["micro_batch_size"], values["dtype"], 1 / steps)
    calibrated = Calibrated(calibration)
    mfu = calibrated.mfu(shape, values["peak_flops_per_s"], values["convention"])
    return {"mfu": mfu, "memory": MeasuredMemory(calibration, calibrated.stack(shape))}


def _dataset(keys: Keys, _: Hardware) -> dict[str, Any]:
    required = ("dataset_size", "max_epochs", "sequence_length")
    keys.require(required, "dataset_constraints")
    keys.allow(required)
    tokens, epochs = keys.integer("dataset_size", most=MOST_TOKENS), keys.number("max_epochs", most=MOST_EPOCHS)
    DataLimit(dataset_tokens=tokens, max_epochs=epochs)  # less than one token is refused here, where the line is known
    return {
        "dataset_tokens": tokens,
        "max_epochs": epochs,
        "seq_len": keys.integer("sequence_length", most=MAX_DIMENSION),
    }


def _law(keys: Keys, _: Hardware) -> dict[str, Any]:
    """A named law, or five coefficients; coefficients beside a name must be that law's own."""
    keys.require(("base",), "scaling_law")
    keys.allow(("base", *_COEFFICIENTS))
    laws = load_laws()
    base = keys.text("base", among=(*laws, CUSTOM))
    if base == CUSTOM:
        return {"law": custom_law(CUSTOM, "coefficients given in the file", keys)}
    law = laws[base]
    for key, attribute in _COEFFICIENTS.items():
        if key in keys.config and not math.isclose(keys.number(key), getattr(law, attribute), rel_tol=_SAME):
            keys.reject(key, keys.config[key], f"{getattr(law, attribute):.10g}, as base = {base!r} has it")
    return {"law": law}


def _output(keys: Keys, _: Hardware) -> dict[str, Any]:
    keys.allow(("show_breakdown", "verify_calculations"))
    off = Derived(False, "off unless asked for")
    return {name: keys.flag(name, off) for name in ("show_breakdown", "verify_calculations")}


_READERS = dict(zip(SECTIONS, (_architecture, _gear, _efficiency, _dataset, _law, _output), strict=True))
