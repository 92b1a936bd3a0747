"""GPUs with their prices and MFUs, as a caller gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from analytic.hardware.table import Hardware
from analytic.performance.mfu import Assumed, Mfu
from analytic.units import parse_gpus


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
