"""Figures in the units that people read: the only module that rounds or picks a unit."""

from __future__ import annotations

import math
from fractions import Fraction


def flops_text(flops: int) -> str:
    """FLOPs with a unit that leaves few digits before the point: 1 TFLOP is 1e12.

    >>> flops_text(897_648_164_864), flops_text(29_261_612_187_648)
    ('897.648 GFLOP', '29.262 TFLOP')
    """
    for exponent, prefix in ((24, "Y"), (21, "Z"), (18, "E"), (15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if flops >= 10**exponent:
            return f"{flops / 10**exponent:.3f} {prefix}FLOP"
    return f"{flops} FLOP"


def params_text(params: int) -> str:
    """
    >>> params_text(6_738_415_616), params_text(671_026_404_352)
    ('6.738 B', '671.026 B')
    """
    for exponent, suffix in ((12, "T"), (9, "B"), (6, "M"), (3, "k")):
        if params >= 10**exponent:
            return f"{params / 10**exponent:.3f} {suffix}"
    return str(params)


def gib_text(size_bytes: int) -> str:
    """
    >>> gib_text(15_997_757_952)
    '14.90 GiB'
    """
    return f"{size_bytes / 2**30:,.2f} GiB"


def bytes_text(size_bytes: float) -> str:
    """Bytes that travel, in powers of ten as links are sold.

    >>> bytes_text(15_427_590), bytes_text(2.754e11), bytes_text(12)
    ('15.4 MB', '275 GB', '12 B')
    """
    for exponent, prefix in ((15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if size_bytes >= 0.9995 * 10**exponent:
            return f"{_three_digits(size_bytes / 10**exponent)} {prefix}B"
    return f"{_three_digits(size_bytes)} B"


def compact(value: float | Fraction) -> str:
    """Three digits and a suffix: k, M, B and T are 1e3, 1e6, 1e9 and 1e12.

    >>> compact(6_738_415_616), compact(1.5e13), compact(512)
    ('6.74B', '15T', '512')
    """
    number = float(value)
    for exponent, suffix in ((12, "T"), (9, "B"), (6, "M"), (3, "k")):
        if abs(number) >= 0.9995 * 10**exponent:
            return f"{_three_digits(number / 10**exponent)}{suffix}"
    return _three_digits(number)


def usd_text(usd: float | Fraction) -> str:
    """
    >>> usd_text(5_576_000), usd_text(1234.5), usd_text(42)
    ('5.58M USD', '1,234 USD', '42.00 USD')
    """
    number = float(usd)
    if number >= 1e6:
        return f"{compact(number)} USD"
    return f"{number:,.0f} USD" if number >= 100 else f"{number:,.2f} USD"


def days_text(days: float | Fraction) -> str:
    """
    >>> days_text(50.86), days_text(0.25), days_text(0.01)
    ('50.9 days', '6 hours', '14.4 minutes')
    """
    number = float(days)
    if number >= 2:
        return f"{_three_digits(number)} days"
    if number * 24 >= 1:
        return f"{_three_digits(number * 24)} hours"
    return f"{_three_digits(number * 24 * 60)} minutes"


def percent(share: float | Fraction) -> str:
    return f"{float(share) * 100:.2f}%"


def si(flops: float | Fraction) -> str:
    """FLOPs with seven digits and an exponent."""
    return f"{float(flops):.7g} FLOP"


def gpus_text(count: int) -> str:
    return "1 GPU" if count == 1 else f"{count:,} GPUs"


def _three_digits(number: float) -> str:
    """Three significant digits, without zeros at the end; large numbers in full."""
    if number == 0:
        return "0"
    if abs(number) >= 1000:
        return f"{number:,.0f}"
    digits = max(0, 2 - math.floor(math.log10(abs(number))))
    text = f"{number:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
