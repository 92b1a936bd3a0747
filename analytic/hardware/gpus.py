"""GPUs and prices read from `configs/`, each figure with its source. Peaks are dense."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from analytic.errors import UsageError
from analytic.io.keys import Keys
from analytic.units import GIB, exact

DTYPES = ("fp32", "tf32", "fp16", "bf16", "fp8")
_GPU_REQUIRED = ("name", "dense_tflops", "memory_gb", "bandwidth_gb_s", "tdp_watts", "source")
_GPU_OPTIONAL = (
    "aliases",
    "device_names",
    "unverified",
    "memory_gib",
    "memory_gib_seen",
    "memory_source",
    "driver_mib",
    "link_gb_s",
    "link_gpus",
)
_MOST_GIB = 10**6


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuMemory:
    """The memory of one GPU.

    Attributes:
        total_bytes: the capacity: `total_memory` of torch's device properties, or else the marketed gigabytes as
            1e9 bytes.
        source: where that is known from.
        seen_bytes: the lowest and the highest reading of a table; None where it has none.
        marketed_bytes, driver_bytes: the name's gigabytes as 1e9 bytes, and the total of `nvidia-smi`, where they are
            known. For comparison, never a capacity where there is a reading.
    """

    total_bytes: int
    source: str
    seen_bytes: tuple[int, int] | None = None
    marketed_bytes: int | None = None
    driver_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU as published.

    Attributes:
        key: its name on the command line and in files.
        peak_flops_per_s: dense, by dtype; an absent dtype is one that the GPU lacks.
        memory: its capacity, and where that is known from.
        link_bytes_per_s: each way between the GPUs of a node; None where they are joined by PCIe alone, or in pairs.
        link_gpus: how many it joins; 1 where there is none.
        unverified: fields for which no datasheet was read; `memory_gib` where no reading of it is known.
    """

    key: str
    name: str
    aliases: tuple[str, ...]
    device_names: tuple[str, ...]
    peak_flops_per_s: Mapping[str, int]
    memory: GpuMemory
    bandwidth_bytes_per_s: int
    link_bytes_per_s: int | None
    link_gpus: int
    tdp_watts: int | None
    source: str
    unverified: tuple[str, ...]

    @property
    def memory_bytes(self) -> int:
        """What a process can have at most."""
        return self.memory.total_bytes

    def peak(self, dtype: str) -> int:
        """Dense FLOP/s at a dtype.

        Raises:
            UsageError: a dtype that the GPU lacks; the message lists those it has.
        """
        if dtype not in self.peak_flops_per_s:
            raise UsageError(f"{self.key} has no {dtype} peak: expected one of {', '.join(self.peak_flops_per_s)}")
        return self.peak_flops_per_s[dtype]


def read_gpu(key: str, entry: Keys) -> Gpu:
    entry.require(_GPU_REQUIRED, "GPU")
    entry.allow((*_GPU_REQUIRED, *_GPU_OPTIONAL))
    peaks = entry.section("dense_tflops")
    if not peaks or not peaks.config:
        entry.reject("dense_tflops", entry.config["dense_tflops"], "a table of 1e12 FLOP/s by dtype")
    peaks.allow(DTYPES)
    has_link = "link_gb_s" in entry.config
    if has_link:
        entry.require(("link_gpus",), "GPU with a link")
    elif "link_gpus" in entry.config:
        entry.reject("link_gpus", entry.config["link_gpus"], "none without link_gb_s")
    memory = _read_memory(entry)
    return Gpu(
        key=key,
        name=entry.text("name"),
        aliases=_names(entry, "aliases"),
        device_names=_names(entry, "device_names"),
        peak_flops_per_s={dtype: round(peaks.number(dtype, most=1e9) * 1e12) for dtype in peaks.config},
        memory=memory,
        bandwidth_bytes_per_s=entry.integer("bandwidth_gb_s") * 10**9,
        link_bytes_per_s=entry.integer("link_gb_s") * 10**9 if has_link else None,
        link_gpus=entry.integer("link_gpus") if has_link else 1,
        tdp_watts=entry.integer("tdp_watts"),
        source=entry.text("source"),
        unverified=_names(entry, "unverified") + (("memory_gib",) if memory.seen_bytes is None else ()),
    )


def _read_memory(entry: Keys) -> GpuMemory:
    gigabytes = entry.integer("memory_gb")
    marketed = GpuMemory(
        total_bytes=gigabytes * 10**9,
        source=f"{gigabytes} GB as marketed; no reading of total_memory is known",
        marketed_bytes=gigabytes * 10**9,
        driver_bytes=entry.integer("driver_mib") * 2**20 if "driver_mib" in entry.config else None,
    )
    if "memory_gib" not in entry.config:
        return marketed
    entry.require(("memory_gib_seen", "memory_source"), "GPU memory")
    gib, seen = entry.number("memory_gib", most=_MOST_GIB), entry.config["memory_gib_seen"]
    is_range = type(seen) is list and len(seen) == 2 and all(type(value) in (int, float) for value in seen)
    if not is_range or not 0 < seen[0] <= gib <= seen[1] <= _MOST_GIB:
        entry.reject("memory_gib_seen", seen, f"the lowest and the highest reading, around memory_gib = {gib:g}")
    return replace(
        marketed,
        total_bytes=_gib_as_bytes(gib),
        seen_bytes=(_gib_as_bytes(seen[0]), _gib_as_bytes(seen[1])),
        source=entry.text("memory_source"),
    )


def _gib_as_bytes(gib: float) -> int:
    return round(exact(gib) * GIB)


def _names(entry: Keys, key: str) -> tuple[str, ...]:
    value = entry.config.get(key, [])
    if type(value) is not list or any(type(item) is not str for item in value):
        entry.reject(key, value, "a list of strings")
    return tuple(value)
