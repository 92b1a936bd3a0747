"""Exact conversions between what people type and base units."""

from __future__ import annotations

import re
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
