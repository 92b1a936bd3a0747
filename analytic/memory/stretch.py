"""Schedules that are not written out for every layout: stretches of events with their figures, and segments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from analytic.memory.model import BACKWARD
from analytic.memory.peaks import highest
from analytic.memory.tensors import Category, Event

Categories = Mapping[Category, int]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Events that are the same in every layout, and what is asked of them.

    Attributes:
        height_bytes: the highest running total. name: the tensor whose allocation makes it so.
        at_height, net: bytes by category then, and at the end. net_bytes: the sum of `net`.
    """

    events: Sequence[Event]
    height_bytes: int
    name: str
    at_height: Categories
    net: Categories
    net_bytes: int


Piece = Stretch | Event


def stretch_of(events: Sequence[Event]) -> Stretch:
    """A stretch, with its figures."""
    height_bytes, at = highest(events)
    name = events[at - 1][0].name if at else ""
    net = by_category(events)
    return Stretch(events, height_bytes, name, by_category(events[:at]), net, net.total())


def by_category(events: Iterable[Event]) -> Counter[Category]:
    """What events leave."""
    live: Counter[Category] = Counter()
    for label, size_bytes in events:
        live[label.category] += size_bytes
    return live


@dataclass(frozen=True, slots=True)
class RankSegment:
    """A stretch of a rank's step; equal layers in a row are one, `count` times, the first of them at index `first`."""

    phase: str
    region: str
    pieces: Sequence[Piece]
    first: int = 0
    count: int = 1

    def events(self) -> Iterator[Event]:
        """One repetition, in full."""
        for piece in self.pieces:
            if isinstance(piece, Stretch):
                yield from piece.events
            else:
                yield piece

    def where(self, repetition: int) -> str:
        """`backward of layers.30`"""
        region = self.region
        if self.count > 1:
            last = self.first + self.count - 1
            region = f"layers.{last - repetition if self.phase == BACKWARD else self.first + repetition}"
        return f"{self.phase} of {region}" if region else self.phase


@dataclass(frozen=True, slots=True)
class Top:
    """The highest moment of some segments.

    Attributes:
        live: bytes by category then. phases: the highest total in each phase.
    """

    total_bytes: int
    moment: str
    live: Categories
    phases: Mapping[str, int]


def top_of(base: Categories, segments: Sequence[RankSegment]) -> Top:
    """Where the running total is highest, starting from what is live before."""
    total = best = sum(base.values())
    phases: dict[str, int] = {}
    peak: tuple[int, int, int] | None = None
    for index, segment in enumerate(segments):
        height, net, at = _height(segment.pieces)
        repetition = segment.count - 1 if net > 0 else 0
        here = total + net * repetition + height
        phases[segment.phase] = max(phases.get(segment.phase, 0), here)
        if here > best:
            best, peak = here, (index, repetition, at)
        total += net * segment.count
    if peak is None:
        return Top(best, "before the step", base, phases)
    live, name = _live_at(base, segments, *peak)
    return Top(best, f"{segments[peak[0]].where(peak[1])}, {name}", live, phases)


def _height(pieces: Sequence[Piece]) -> tuple[int, int, int]:
    """The highest running total of one repetition, its last one, and the index of the piece with the highest."""
    total = best = at = 0
    for index, piece in enumerate(pieces):
        if isinstance(piece, Stretch):
            here = total + piece.height_bytes
            total += piece.net_bytes
        else:
            here = total = total + piece[1]
        if here > best:
            best, at = here, index
    return best, total, at


def _live_at(
    base: Categories, segments: Sequence[RankSegment], index: int, repetition: int, at: int
) -> tuple[Categories, str]:
    live = Counter(base)
    for segment in segments[:index]:
        _add(live, segment.pieces, segment.count)
    segment = segments[index]
    _add(live, segment.pieces, repetition)
    _add(live, segment.pieces[:at], 1)
    piece = segment.pieces[at]
    if isinstance(piece, Stretch):
        live.update(piece.at_height)
        return live, piece.name
    label, size_bytes = piece
    live[label.category] += size_bytes
    return live, label.name


def _add(live: Counter[Category], pieces: Sequence[Piece], times: int) -> None:
    if not times:
        return
    for piece in pieces:
        if isinstance(piece, Stretch):
            for category, size_bytes in piece.net.items():
                live[category] += size_bytes * times
        else:
            live[piece[0].category] += piece[1] * times
