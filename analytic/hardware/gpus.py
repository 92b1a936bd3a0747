"""GPUs and prices read from `configs/`, each figure with its source. Peaks are dense."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from analytic.errors import UsageError
from analytic.io.keys import Keys

DTYPES = ("fp32", "tf32", "fp16", "bf16", "fp8")
_GPU_REQUIRED = ("name", "dense_tflops", "memory_gb", "bandwidth_gb_s", "tdp_watts", "source")


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


def read_gpu(key: str, entry: Keys) -> Gpu:
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
