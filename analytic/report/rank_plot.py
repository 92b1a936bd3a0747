"""Memory over one training step of a rank: live bytes by category from its schedule, against the card's lines.

The horizontal axis is progress through the step: each layer has one width, whatever time it takes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from matplotlib.axes import Axes

from analytic.memory.implementation import Implementation, implementation_of
from analytic.memory.model import EMBEDDING, LOSS
from analytic.memory.rank import RankSchedule, rank_schedule
from analytic.memory.rank_optimizer import OPTIMIZER
from analytic.memory.stretch import RankSegment
from analytic.memory.tensors import Category
from analytic.planning.rank_fit import RankFit
from analytic.report import plot_style as style
from analytic.report.plot_style import Labels
from analytic.report.units import gib_text
from analytic.units import GIB

# From the bottom of a stack to its top, what lasts the longest first.
INKS = {
    "parameters": style.BLUE,
    "optimizer": style.PURPLE,
    "gradients": style.GREEN,
    "activations": style.ORANGE,
    "temporaries": style.VERMILION,
}
COLOURS = {name: style.pale(colour) for name, colour in INKS.items()}
_PART = {
    Category.PARAMETERS: 0,
    Category.OPTIMIZER: 1,
    Category.GRADIENTS: 2,
    Category.ACTIVATIONS: 3,
    Category.INPUTS: 3,
    Category.TEMPORARIES: 4,
}
_COLUMNS = 110  # of a panel, of which each keeps its least and its most
_LEAST_SHARE = 1 / 12  # of the layers' widths: the embedding, the loss and the optimizer
_ROOM_ABOVE = 1.36  # times the highest value
_NAME_SIZE = 8.5  # points of a category's name, which needs a little more of its area
_POINT, _LETTER = 1 / 72, 0.088  # inches of a point, and of one of its letters at the most

Sizes = tuple[int, ...]  # bytes of each category, in the order of COLOURS


@dataclass(frozen=True, slots=True)
class RankCourse:
    """One rank's live bytes over its step.

    Attributes:
        xs, sizes: progress in widths of a layer, and bytes by category; thinned out without losing the peak.
        phases: what each is called, and where it begins.
    """

    fit: RankFit
    xs: list[float]
    sizes: list[Sizes]
    phases: list[tuple[str, float]]
    end: float

    @property
    def peak(self) -> int:
        """The index of the highest moment."""
        totals = [sum(sizes) for sizes in self.sizes]
        return totals.index(max(totals))


def rank_course(fit: RankFit) -> RankCourse:
    """The schedule of the fullest rank laid out along the step. Micro-batches after the second are like it."""
    spec, setup = fit.config.spec, fit.setup
    implementation = implementation_of(fit.config, setup.seq_len)
    assert isinstance(implementation, Implementation)  # without it there is no peak
    schedule = rank_schedule(spec, implementation, setup, fit.layout, fit.peak.rank)
    assert isinstance(schedule, RankSchedule)
    live = [0] * len(COLOURS)
    for category, size_bytes in schedule.base.items():
        live[_PART[category]] += size_bytes
    ends = max(1.0, len(spec.layers) * _LEAST_SHARE)
    x, xs, sizes = 0.0, [0.0], [tuple(live)]
    phases: dict[str, float] = {}
    for phase, segment in _phased(schedule):
        phases.setdefault(phase, x)
        for _ in range(segment.count):
            width = ends if segment.region in (EMBEDDING, LOSS, "") else 1.0
            events = list(segment.events())
            for i, (label, size_bytes) in enumerate(events, start=1):
                live[_PART[label.category]] += size_bytes
                xs.append(x + width * i / len(events))
                sizes.append(tuple(live))
            x += width
    phases.setdefault("optimizer", x)
    end = max(x, phases["optimizer"] + 3 * ends)
    xs.append(end)
    sizes.append(tuple(live))
    kept = style.extremes(xs, [sum(each) for each in sizes], end / _COLUMNS)
    return RankCourse(fit, [xs[i] for i in kept], [sizes[i] for i in kept], list(phases.items()), end)


def _phased(schedule: RankSchedule) -> Iterator[tuple[str, RankSegment]]:
    """Every segment with the phase that the picture names."""
    for segment in schedule.first:
        yield segment.phase, segment
    for segment in schedule.later:
        yield "second\nmicro-batch" if schedule.repeats == 1 else "each later\nmicro-batch", segment
    for segment in schedule.optimizer:
        assert segment.phase == OPTIMIZER
        yield "optimizer", segment


def draw_courses(panels: Sequence[Axes], courses: Sequence[RankCourse]) -> None:
    """Each course in a panel of its own, to one scale."""
    highest = max(max(course.fit.peak.peak_bytes, course.fit.memory_bytes) for course in courses)
    for axes, course in zip(panels, courses, strict=True):
        style.plain_axes(axes)
        axes.set_xlim(0, course.end)
        axes.set_ylim(0, highest / GIB * _ROOM_ABOVE)
        axes.set_xticks([])
        axes.grid(axis="y", color=style.FAINT, linewidth=0.6)
        axes.set_axisbelow(True)
        labels = Labels(axes)
        _name_phases(axes, labels, course)
        layers = [[0.0, *accumulate(size / GIB for size in sizes)] for sizes in course.sizes]
        around = [*course.xs, course.end, 0.0]
        for i, colour in reversed(list(enumerate(COLOURS.values(), start=1))):  # each over those above it
            axes.fill(around, [*(heights[i] for heights in layers), 0.0, 0.0], color=colour, linewidth=0)
        tops = [heights[-1] for heights in layers]
        axes.plot(course.xs, tops, color=style.DARK, linewidth=0.8)
        labels.avoid(course.xs, tops)
        _card_lines(axes, labels, course.fit)
        _name_peak(axes, labels, course)
        _name_areas(axes, labels, course, layers)
    for axes in panels[1:]:
        axes.tick_params(labelleft=False)
    panels[0].set_ylabel("live memory, GiB", color=style.DARK)


def _name_phases(axes: Axes, labels: Labels, course: RankCourse) -> None:
    """Each at its middle, the optimizer at the end of the step, which may be narrower than its name."""
    stops = [*(begins for _, begins in course.phases[1:]), course.end]
    for (phase, begins), stop in zip(course.phases, stops, strict=True):
        if begins > 0:
            axes.axvline(begins, color=style.QUIET, linewidth=0.8, linestyle=(0, (2, 2)))
        is_last = stop == course.end
        at, align = (stop, "right") if is_last else ((begins + stop) / 2, "center")
        look: dict[str, Any] = {"ha": align, "va": "top", "color": style.QUIET, "fontsize": 8.5, "bbox": style.HALO}
        labels.avoid_text(axes.text(at, 0.985, phase, transform=axes.get_xaxis_transform(), **look))


def _card_lines(axes: Axes, labels: Labels, fit: RankFit) -> None:
    """The card's memory, and what is left of it to tensors."""
    total, available = fit.memory_bytes / GIB, fit.available_bytes / GIB
    axes.axhline(total, color=style.DARK, linewidth=1.6)
    axes.axhline(available, color=style.DARK, linewidth=1.2, linestyle=(0, (6, 2)))
    end = axes.get_xlim()[1]
    for height in (total, available):
        labels.avoid([end * i / _COLUMNS for i in range(_COLUMNS)], [height] * _COLUMNS)
    for text, height, below in (
        (f"the card {gib_text(fit.memory_bytes)}", total, 4),
        (f"available {gib_text(fit.available_bytes)}", available, -11),
    ):
        label = style.beside(axes, text, (end, height), (-4, below), fontsize=8, bbox=style.HALO, ha="right")
        labels.avoid_text(label)


def _name_peak(axes: Axes, labels: Labels, course: RankCourse) -> None:
    peak = course.fit.peak
    at = course.xs[course.peak], peak.peak_bytes / GIB
    axes.plot(*at, "o", color=style.DARK, markersize=4.5, zorder=5)
    where = peak.moment.replace(", ", "\n", 1)
    labels.put(f"peak {gib_text(peak.peak_bytes)}\n{where}", at, fontsize=8.5, color=style.DARK, zorder=6)


def _name_areas(axes: Axes, labels: Labels, course: RankCourse, layers: Sequence[Sequence[float]]) -> None:
    """The name of a category in its area, where there is room for it. The bars name all of them."""
    low, high = axes.get_ylim()
    box = axes.get_window_extent()
    assert axes.figure is not None
    inches = box.height / axes.figure.dpi
    letter = _LETTER * course.end / (box.width / axes.figure.dpi)
    for i, name in enumerate(COLOURS):
        bands = [(heights[i], heights[i + 1]) for heights in layers]
        found = _roomiest(course.xs, bands, course.end, len(name) * letter)
        if found is not None and found[2] / (high - low) * inches >= _NAME_SIZE * _POINT:
            x, middle, _ = found
            look: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": _NAME_SIZE, "color": style.DARK}
            labels.avoid_text(axes.text(x, middle, name, **look))


def _roomiest(
    xs: Sequence[float], bands: Sequence[tuple[float, float]], end: float, width: float
) -> tuple[float, float, float] | None:
    """The middle of the place within a band that has the most height over a width, and that height.

    >>> _roomiest([0, 1, 2, 3, 4], [(0, 1), (0, 3), (0, 3), (0, 3), (0, 1)], 4, 2)
    (2, 1.5, 3)
    >>> _roomiest([0, 1], [(0, 0), (0, 0)], 1, 1) is None
    True
    """
    best = None
    for x in xs:
        if x < width / 2 or x > end - width / 2:
            continue
        across = [band for at, band in zip(xs, bands, strict=True) if abs(at - x) <= width / 2]
        low, high = max(low for low, _ in across), min(high for _, high in across)
        if high > low and (best is None or high - low > best[2]):
            best = x, (low + high) / 2, high - low
    return best
