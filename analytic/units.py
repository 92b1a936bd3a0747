"""Exact conversions between what people type and base units."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from analytic.errors import UsageError

SECONDS_PER_HOUR = 3600
GIB = 2**30


def exact(value: float | str) -> Fraction:
    """The rational number that a figure was written as: 0.45 means 45/100, not the nearest double.

    >>> exact(0.45)
    Fraction(9, 20)
    """
    return Fraction(str(value))


_SUFFIXES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9, "t": 10**12}
_NUMBER = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,30})?(?:\.[0-9]{0,30})?(?:[eE][+-]?[0-9]{1,2})?"
_WITH_SUFFIX = re.compile(rf"({_NUMBER})\s*([kKmMgGbBtT]?)")
_HOURS = {"h": Fraction(1), "d": Fraction(24), "w": Fraction(24 * 7), "min": Fraction(1, 60)}
_DURATION = re.compile(rf"({_NUMBER})\s*(min|h|d|w)")
_GPUS = re.compile(r"(?:([0-9][0-9,]*[kK]?)\s*[xX*\u00d7]\s*)?([^=]+?)(?:=(.+))?")


def parse_number(text: str) -> Fraction:
    """A number as people write it: `200k`, `1.5M`, `500B`, `15T`, `1,000,000`, `5e6`, `45%`.

    Raises:
        UsageError: anything else, or a negative number.

    >>> parse_number("1.5M"), parse_number("45%"), parse_number("1,000,000")
    (Fraction(1500000, 1), Fraction(9, 20), Fraction(1000000, 1))
    """
    stripped = text.strip()
    if stripped.endswith("%"):
        return parse_number(stripped[:-1]) / 100
    match = _WITH_SUFFIX.fullmatch(stripped)
    if match is None or not re.search("[0-9]", match[1].split("e")[0].split("E")[0]):
        raise UsageError(f"{text!r}: expected a number such as 200k, 1.5M, 500B, 15T or 1,000,000")
    return Fraction(match[1].replace(",", "").rstrip(".")) * _SUFFIXES[match[2].lower()]


def parse_integer(text: str, *, most: int) -> int:
    """A whole number from 1 to `most`, as people write it.

    Raises:
        UsageError: anything else.

    >>> parse_integer("15T", most=10**18)
    15000000000000
    """
    value = parse_number(text)
    if value.denominator != 1 or not 1 <= value <= most:
        raise UsageError(f"{text!r}: expected a whole number from 1 to {most:,}")
    return int(value)


def parse_length(text: str, *, most: int) -> int:
    """Tokens of a sequence: here alone `4k` is 4,096, as context lengths are powers of two.

    Raises:
        UsageError: no whole number from 1 to `most`.

    >>> parse_length("4k", most=10**6), parse_length("4096", most=10**6)
    (4096, 4096)
    """
    stripped = text.strip()
    if stripped[-1:] in ("k", "K"):
        value = parse_number(stripped[:-1]) * 1024
        if value.denominator != 1 or not 1 <= value <= most:
            raise UsageError(f"{text!r}: expected a whole number from 1 to {most:,}")
        return int(value)
    return parse_integer(text, most=most)


def parse_share(text: str) -> float:
    """A share above 0 and at most 1: `0.45` or `45%`.

    Raises:
        UsageError: anything else.
    """
    value = parse_number(text)
    if not 0 < value <= 1:
        raise UsageError(f"{text!r}: expected a share above 0 and at most 1, such as 0.45 or 45%")
    return float(value)


def parse_hours(text: str) -> float:
    """A time as people write it, in hours: `3w`, `21d`, `720h`, `90min`.

    Raises:
        UsageError: a number without its unit, or anything else.

    >>> parse_hours("3w"), parse_hours("90min")
    (504.0, 1.5)
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{text!r}: expected a time such as 3w, 21d, 720h or 90min")
    hours = parse_number(match[1]) * _HOURS[match[2]]
    if hours == 0:
        raise UsageError(f"{text!r}: expected a time above 0")
    return float(hours)


@dataclass(frozen=True, slots=True)
class GpuCount:
    """So many GPUs of one name, and what an hour of one costs where that is given."""

    count: int
    name: str
    usd_per_gpu_hour: float | None = None


def parse_gpus(text: str, *, most: int) -> GpuCount:
    """`512xh100`, `512xh100=2.5` (USD per GPU-hour), or a name for one of them.

    Raises:
        UsageError: anything else.

    >>> parse_gpus("512xh100=2.5", most=10**9)
    GpuCount(count=512, name='h100', usd_per_gpu_hour=2.5)
    """
    match = _GPUS.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{text!r}: expected GPUs such as 512xh100 or 512xh100=2.5")
    count, name, price = match.groups()
    return GpuCount(
        count=1 if count is None else parse_integer(count, most=most),
        name=name.strip(),
        usd_per_gpu_hour=None if price is None else float(parse_number(price)),
    )


_BYTES = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?) ?(?:([kmgtp])(i?))?b", re.ASCII | re.IGNORECASE)


def parse_bytes(text: str) -> int:
    """Bytes, with their unit in any case: decimal prefixes are powers of 1000, binary ones of 1024.

    A fraction of a byte is dropped.

    Raises:
        UsageError: a number without a unit, or less than a byte.

    >>> parse_bytes("80GB"), parse_bytes("80GiB"), parse_bytes("79.18 gib")
    (80000000000, 85899345920, 85018877624)
    """
    size_bytes = 0
    if found := _BYTES.fullmatch(text):
        number, prefix, binary = found.groups()
        exponent = 1 + "kmgtp".index(prefix.lower()) if prefix else 0
        size_bytes = int(exact(number) * (1024 if binary else 1000) ** exponent)
    if not size_bytes:
        raise UsageError(f"{text!r}: expected bytes with their unit, such as 80GB (80e9) or 80GiB (80 * 2**30)")
    return size_bytes
