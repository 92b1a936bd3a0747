"""Exact conversions between what people type and base units."""

from __future__ import annotations

from fractions import Fraction

SECONDS_PER_HOUR = 3600
GIB = 2**30


def exact(value: float) -> Fraction:
    """The rational number that a figure was written as: 0.45 means 45/100, not the nearest double.

    >>> exact(0.45)
    Fraction(9, 20)
    """
    return Fraction(str(value))
