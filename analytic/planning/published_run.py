"""Published runs: the MFU that their figures imply."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from analytic.hardware.gpus import Gpu
from analytic.hardware.table import Hardware
from analytic.huggingface.config import ModelConfig, load
from analytic.io.files import configs_dir, read_toml
from analytic.io.keys import Derived, Keys
from analytic.io.located import located
from analytic.limits import (
    LEAST_GPU_HOURS,
    LEAST_USD_PER_GPU_HOUR,
    MAX_DIMENSION,
    MOST_GPU_HOURS,
    MOST_TOKENS,
    MOST_USD,
    MOST_USD_PER_GPU_HOUR,
)
from analytic.model.flops import AttentionConvention, training_flops
from analytic.units import SECONDS_PER_HOUR, exact

CONVENTIONS: tuple[AttentionConvention, ...] = ("full", "causal")
_REQUIRED = ("name", "config", "tokens", "seq_len", "gpu", "fp8", "source", "hours")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hours:
    """GPU-hours as published, what they cover, and the dollars stated for them, if any."""

    label: str
    gpu_hours: Fraction
    stated_usd: Fraction | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A published training run. `fp8`: its matrix products ran in fp8, so that two peaks apply."""

    path: Path
    name: str
    config: ModelConfig
    tokens: int
    seq_len: int
    gpu: Gpu
    fp8: bool
    hours: tuple[Hours, ...]
    usd_per_gpu_hour: Fraction | None
    source: str
    stated_mfu: str | None
    excludes: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Implied:
    """One MFU that a run's figures imply, and what it counts."""

    hours: Hours
    dtype: str
    convention: AttentionConvention
    mtp: bool
    flops_per_token: int
    mfu: Fraction


def load_run(path: Path, hardware: Hardware) -> Run:
    """Read a published run.

    Raises:
        FileError: and its kin, naming the path, the key and what was expected.
    """
    keys = Keys(read_toml(path))
    with located(path):
        return _run(path, keys, hardware)


def shipped_runs(hardware: Hardware) -> list[Run]:
    """The published runs that travel with the planner."""
    return [load_run(path, hardware) for path in sorted((configs_dir() / "runs").glob("*.toml"))]


def implied_mfus(run: Run) -> list[Implied]:
    """Every reading: hours, peak, attention convention, without and with multi-token prediction."""
    spec = run.config.spec
    readings = []
    for hours in run.hours:
        for dtype in _peaks(run.fp8):
            for convention in CONVENTIONS:
                for mtp in (False, True) if spec.mtp_layers else (False,):
                    flops = training_flops(spec, seq_len=run.seq_len, convention=convention, mtp=mtp)
                    per_token = flops.training_per_token
                    available = hours.gpu_hours * SECONDS_PER_HOUR * run.gpu.peak(dtype)
                    readings.append(
                        Implied(
                            hours=hours,
                            dtype=dtype,
                            convention=convention,
                            mtp=mtp,
                            flops_per_token=per_token,
                            mfu=per_token * run.tokens / available,
                        )
                    )
    return readings


def headline(run: Run) -> Implied:
    """The reading by which runs are compared: first hours stated, bf16 peak, full attention, no extra layers."""
    return implied_mfus(run)[0]


def _run(path: Path, keys: Keys, hardware: Hardware) -> Run:
    keys.require(_REQUIRED, "run")
    keys.allow((*_REQUIRED, "usd_per_gpu_hour", "stated_mfu", "excludes"))
    price = None
    if "usd_per_gpu_hour" in keys.config:
        price = exact(keys.number("usd_per_gpu_hour", least=LEAST_USD_PER_GPU_HOUR, most=MOST_USD_PER_GPU_HOUR))
    entries = keys.config["hours"]
    if type(entries) is not list or not entries or any(type(entry) is not dict for entry in entries):
        keys.reject("hours", entries, "one [[hours]] table or more")
    gpu, fp8 = hardware.find(keys.text("gpu")), keys.flag("fp8", Derived(False, "required"))
    for dtype in _peaks(fp8):
        gpu.peak(dtype)
    return Run(
        path=path,
        name=keys.text("name"),
        config=load(path.parent / keys.text("config")),
        tokens=keys.integer("tokens", most=MOST_TOKENS),
        seq_len=keys.integer("seq_len", most=MAX_DIMENSION),
        gpu=gpu,
        fp8=fp8,
        hours=tuple(_hours(i, Keys(entry)) for i, entry in enumerate(entries)),
        usd_per_gpu_hour=price,
        source=keys.text("source"),
        stated_mfu=keys.text("stated_mfu") if "stated_mfu" in keys.config else None,
        excludes=keys.text("excludes") if "excludes" in keys.config else None,
    )


def _peaks(fp8: bool) -> tuple[str, ...]:
    """The dtypes whose peaks a run is held against."""
    return ("bf16", "fp8") if fp8 else ("bf16",)


def _hours(place: int, keys: Keys) -> Hours:
    with located(f"hours[{place}]"):
        keys.require(("label", "gpu_hours"), "[[hours]]")
        keys.allow(("label", "gpu_hours", "stated_usd"))
        stated = "stated_usd" in keys.config
        return Hours(
            label=keys.text("label"),
            gpu_hours=exact(keys.number("gpu_hours", least=LEAST_GPU_HOURS, most=MOST_GPU_HOURS)),
            stated_usd=exact(keys.number("stated_usd", most=MOST_USD)) if stated else None,
        )
