"""The intervals of a plan, as people and machines read them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from analytic.planning.intervals import PlanIntervals
from analytic.report.document import Item, fact
from analytic.report.units import compact
from analytic.scaling.fitted_plan import Interval


def bounds_text(one: Interval, text: Callable[[float], str] = compact) -> str:
    """
    >>> bounds_text(Interval(5e9, 4e9, 6e9, 3e9, 7e9))
    '4B to 6B (80%), 3B to 7B (95%)'
    """
    low_80, high_80, low_95, high_95 = map(text, (one.low_80, one.high_80, one.low_95, one.high_95))
    return f"{low_80} to {high_80} (80%), {low_95} to {high_95} (95%)"


def after(text: str, one: Interval | None, show: Callable[[float], str] = compact) -> str:
    """A value with its intervals, where there are any."""
    return text if one is None else f"{text}; {bounds_text(one, show)}"


def interval_items(intervals: PlanIntervals | None) -> Iterator[Item]:
    """[low, high] of each for machines; null where nothing states them."""
    for name in ("params", "tokens", "loss"):
        one = None if intervals is None else getattr(intervals, name)
        yield fact(f"{name}_80", None if one is None else [one.low_80, one.high_80])
        yield fact(f"{name}_95", None if one is None else [one.low_95, one.high_95])
