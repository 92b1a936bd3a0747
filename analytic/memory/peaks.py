"""Reading a schedule: what is live after some events, and when it is most."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from analytic.memory.tensors import Category, Event
from analytic.model.breakdown import Breakdown

Live = Counter[tuple[Category, str]]


@dataclass(frozen=True, slots=True)
class Peak:
    """The most that is live at once.

    Attributes:
        moment: where in the pass, and the tensor whose allocation makes it the most.
        live: the bytes live then, by name; its total is the peak.
        categories: the same bytes by what they are for.
    """

    moment: str
    live: Breakdown
    categories: Mapping[Category, int]

    @property
    def total_bytes(self) -> int:
        return self.live.total


def live_after(events: Iterable[Event]) -> Live:
    """Bytes by category and name that the events leave."""
    live: Live = Counter()
    for label, size_bytes in events:
        live[label.category, label.name] += size_bytes
    return live


def highest(events: Sequence[Event]) -> tuple[int, int]:
    """The highest running total, and how many events have happened then; (0, 0) if nothing rises above the start."""
    totals = list(accumulate((size_bytes for _, size_bytes in events), initial=0))
    best = max(totals)
    return best, totals.index(best)


def peak(moment: str, live: Live) -> Peak:
    """A peak from what is live at it."""
    names: Counter[str] = Counter()
    categories: Counter[Category] = Counter()
    for (category, name), size_bytes in live.items():
        if size_bytes:
            names[name] += size_bytes
            categories[category] += size_bytes
    in_order = {category: categories[category] for category in Category}
    return Peak(moment, breakdown(names), in_order)


def peak_of(events: Sequence[Event], moment: str, start: int = 0) -> Peak:
    """The peak of the events from index `start` on, over what those before have left."""
    _, count = highest(events[start:])
    where = f"{moment}, {events[start + count - 1][0].name}" if count else moment
    return peak(where, live_after(events[: start + count]))


def breakdown(sizes: Mapping[str, int]) -> Breakdown:
    """Bytes by name, the largest first."""
    return Breakdown("bytes", dict(sorted(sizes.items(), key=lambda item: -item[1])))
