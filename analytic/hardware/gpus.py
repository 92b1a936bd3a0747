"""GPUs and prices read from `configs/`, each figure with its source. Peaks are dense."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TypeVar

from analytic.errors import FileError, PlannerError, UsageError
from analytic.io.files import configs_dir, read_toml
from analytic.io.keys import Keys

DTYPES = ("fp32", "tf32", "fp16", "bf16", "fp8")
_GPU_REQUIRED = ("name", "dense_tflops", "memory_gb", "bandwidth_gb_s", "tdp_watts", "source")
_PRICE_REQUIRED = ("usd_per_gpu_hour", "vendor", "source")
MOST_USD_PER_GPU_HOUR = 1e6

Entry = TypeVar("Entry")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU as published.

    Attributes:
        key: its name on the command line and in files.
        peak_flops_per_s: dense, by dtype; an absent dtype is one that the GPU lacks.
        memory_bytes: the marketed gigabytes as 1e9 bytes, a lower bound on what a driver reports.
        unverified: fields for which no datasheet was read.
    """

    key: str
    name: str
    aliases: tuple[str, ...]
    device_names: tuple[str, ...]
    peak_flops_per_s: Mapping[str, int]
    memory_bytes: int
    bandwidth_bytes_per_s: int
    tdp_watts: int
    source: str
    unverified: tuple[str, ...]

    def peak(self, dtype: str) -> int:
        """Dense FLOP/s at a dtype.

        Raises:
            UsageError: a dtype that the GPU lacks; the message lists those it has.
        """
        if dtype not in self.peak_flops_per_s:
            raise UsageError(f"{self.key} has no {dtype} peak: expected one of {', '.join(self.peak_flops_per_s)}")
        return self.peak_flops_per_s[dtype]


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What an hour of a GPU costs. `date` is None where the source is not an offer of a day."""

    usd_per_gpu_hour: float
    vendor: str
    date: date | None
    source: str

    @property
    def origin(self) -> str:
        """Vendor and date, for print."""
        return self.vendor if self.date is None else f"{self.vendor}, {self.date.isoformat()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """The GPUs of a file by key, and the prices known for them."""

    gpus: Mapping[str, Gpu]
    prices: Mapping[str, Price]

    def find(self, name: str) -> Gpu:
        """The GPU of that key or alias, in any case.

        Raises:
            UsageError: no such GPU; the message lists those there are.
        """
        wanted = name.casefold()
        for gpu in self.gpus.values():
            if wanted == gpu.key or wanted in gpu.aliases:
                return gpu
        raise UsageError(f"no GPU {name!r}: expected one of {', '.join(self.gpus)}")

    def of_device(self, device_name: str) -> Gpu | None:
        """The GPU that calls itself so (`torch.cuda.get_device_name()`), or None: never a similar one."""
        wanted = device_name.removeprefix("NVIDIA ")
        return next((gpu for gpu in self.gpus.values() if wanted in gpu.device_names), None)


def load_hardware(*paths: Path) -> Hardware:
    """Read GPUs and prices; by default the shipped `gpus.toml` and `prices.toml`.

    Raises:
        FileError: naming the path, the entry, the key and what was expected.
    """
    gpus: dict[str, Gpu] = {}
    prices: dict[str, Price] = {}
    for path in paths or (configs_dir() / "gpus.toml", configs_dir() / "prices.toml"):
        tables = Keys(read_toml(path))
        gpus |= _entries(path, tables, "gpus", _gpu)
        prices |= _entries(path, tables, "prices", _price)
    if unknown := sorted(prices.keys() - gpus.keys()):
        raise FileError(f"prices of {', '.join(unknown)}: expected one of {', '.join(gpus)}")
    return Hardware(gpus=gpus, prices=prices)


def _entries(path: Path, tables: Keys, kind: str, read: Callable[[str, Keys], Entry]) -> dict[str, Entry]:
    """Every entry of the table `kind`, which a file may lack; errors name path and entry."""
    result = {}
    where = kind
    try:
        tables.allow(("gpus", "prices"))
        section = tables.section(kind) or Keys({})
        for key in section.config:
            where = f"{kind}.{key}"
            result[key] = read(key, section.section(key) or Keys({}))
    except PlannerError as error:
        raise type(error)(f"{path}: {where}: {error}") from None
    return result


def _gpu(key: str, entry: Keys) -> Gpu:
    entry.require(_GPU_REQUIRED, "GPU")
    entry.allow((*_GPU_REQUIRED, "aliases", "device_names", "unverified"))
    peaks = entry.section("dense_tflops")
    if not peaks or not peaks.config:
        entry.reject("dense_tflops", entry.config["dense_tflops"], "a table of 1e12 FLOP/s by dtype")
    peaks.allow(DTYPES)
    return Gpu(
        key=key,
        name=entry.text("name"),
        aliases=_names(entry, "aliases"),
        device_names=_names(entry, "device_names"),
        peak_flops_per_s={dtype: round(peaks.number(dtype, most=1e9) * 1e12) for dtype in peaks.config},
        memory_bytes=entry.integer("memory_gb") * 10**9,
        bandwidth_bytes_per_s=entry.integer("bandwidth_gb_s") * 10**9,
        tdp_watts=entry.integer("tdp_watts"),
        source=entry.text("source"),
        unverified=_names(entry, "unverified"),
    )


def _names(entry: Keys, key: str) -> tuple[str, ...]:
    value = entry.config.get(key, [])
    if type(value) is not list or any(type(item) is not str for item in value):
        entry.reject(key, value, "a list of strings")
    return tuple(value)


def _price(_: str, entry: Keys) -> Price:
    entry.require(_PRICE_REQUIRED, "price")
    entry.allow((*_PRICE_REQUIRED, "date"))
    day = entry.config.get("date")
    if day is not None and not isinstance(day, date):
        entry.reject("date", day, "a date such as 2025-03-03")
    return Price(
        usd_per_gpu_hour=entry.number("usd_per_gpu_hour", most=MOST_USD_PER_GPU_HOUR),
        vendor=entry.text("vendor"),
        date=day,
        source=entry.text("source"),
    )
