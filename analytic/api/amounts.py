"""What a caller gives as a number or as people write it, such as `15T`, `8k` and `512xh100=2.5`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from analytic.hardware.table import Hardware
from analytic.limits import MAX_DIMENSION, MOST_GPUS
from analytic.performance.mfu import Assumed, Mfu
from analytic.units import GpuCount, parse_gpus, parse_integer, parse_length

Amount = int | str


def integer(value: Amount, most: int) -> int:
    return parse_integer(str(value), most=most)


def optional_integer(value: Amount | None, most: int) -> int | None:
    return None if value is None else integer(value, most)


def length(value: Amount | None) -> int | None:
    return parse_length(value, most=MAX_DIMENSION) if isinstance(value, str) else value


def gpus_of(gpus: str | GpuCount) -> GpuCount:
    return parse_gpus(gpus, most=MOST_GPUS) if isinstance(gpus, str) else gpus


def priced(gpus: Sequence[str] | Mapping[str, float | None]) -> list[tuple[str, float | None]]:
    if isinstance(gpus, Mapping):
        return list(gpus.items())
    asked = [parse_gpus(text, most=1) for text in gpus]
    return [(each.name, each.usd_per_gpu_hour) for each in asked]


def mfus_of(mfu: float | Mapping[str | None, float] | None, hardware: Hardware) -> dict[str | None, Mfu]:
    """By GPU; the key None is that of every other GPU."""
    if mfu is None:
        return {}
    if not isinstance(mfu, Mapping):
        return {None: Assumed(value=mfu, by="given")}
    return {
        None if name is None else hardware.find(name).key: Assumed(value=value, by="given")
        for name, value in mfu.items()
    }
