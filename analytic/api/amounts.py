"""What a caller gives as a number or as people write it, such as `15T`, `8k` and `512xh100=2.5`."""

from __future__ import annotations

from analytic.limits import MAX_DIMENSION, MOST_GPUS
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
