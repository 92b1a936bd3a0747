"""What the pictures share: their look, how they write numbers, and labels that keep clear of lines.

Everything is placed in figures of a fixed size, so that the same facts always give the same bytes.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

# Okabe and Ito's colours, which every common colour vision tells apart (https://jfly.uni-koeln.de/color/).
BLUE, VERMILION, GREEN, PURPLE, ORANGE = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00"
DARK, SLATE, QUIET, FAINT = "#1A1A1A", "#4A6072", "#595959", "#D9D9D9"
INK = {VERMILION: "#A84A00", GREEN: "#00684C", PURPLE: "#8F3F6B", ORANGE: "#7D5600"}  # text needs more contrast
HALO = {"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.6}

_SUFFIXES = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))
_TICKS = ((2.5, (1, 2, 5)), (4.5, (1, 3)), (math.inf, (1,)))  # on an axis of at most so many decades
_FIRST_RADIUS, _RADII = 10, (10, 22, 40, 64, 92)  # points
_DIRECTIONS = ((1, 1), (1, -1), (-1, 1), (-1, -1), (1, 0), (-1, 0), (0, 1), (0, -1))
_OVERLAP, _OUTSIDE, _DISTANCE = 100.0, 1000.0, 0.05  # what a label's place costs, in points of lines it covers


def short(value: float) -> str:
    """Three digits and a suffix, as in 7B parameters.

    >>> short(47_804_259_840), short(1.8145e12), short(999_900), short(850), short(2e16)
    ('47.8B', '1.81T', '1M', '850', '20,000T')
    """
    rounded = float(f"{value:.3g}")
    for size, suffix in _SUFFIXES:
        if rounded >= size:
            return f"{rounded / size:,g}{suffix}"
    return f"{rounded:g}"


def pale(colour: str) -> str:
    """A colour of an area, through which text shows: three parts of it and one of white.

    >>> pale("#0072B2")
    '#4095c5'
    """
    red, green, blue = (0.25 + 0.75 * part for part in to_rgb(colour))
    return to_hex((red, green, blue))


def new_figure(width: float, height: float) -> Figure:
    """A figure of so many inches: a white card with round corners, legible on a dark page too."""
    figure = Figure(figsize=(width, height), facecolor="none")
    margin = 0.02
    card = FancyBboxPatch(
        (margin, margin),
        width - 2 * margin,
        height - 2 * margin,
        boxstyle="round,pad=0,rounding_size=0.1",
        facecolor="white",
        edgecolor=FAINT,
        transform=figure.dpi_scale_trans,
        zorder=-1,
    )
    figure.add_artist(card)
    return figure


def bytes_of(figure: Figure, kind: str) -> bytes:
    """The figure as png or svg: text as text, and nothing of the day or the machine."""
    nameless = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
    picture = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "foretrain"}):
        figure.savefig(picture, format=kind, dpi=160, metadata=nameless, facecolor="none")
    return picture.getvalue()


def plain_axes(axes: Axes) -> None:
    """No frame but the two axes."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(QUIET)
    axes.tick_params(colors=QUIET, labelcolor=DARK, labelsize=9)


def log_ticks(axis: Axis, least: float, most: float) -> None:
    """Ticks of a logarithmic axis at round numbers."""
    decades = math.log10(most / least)
    steps = next(steps for limit, steps in _TICKS if decades <= limit)
    powers = range(math.floor(math.log10(least)), math.ceil(math.log10(most)) + 1)
    ticks = [step * 10.0**power for power in powers for step in steps]
    shown = [tick for tick in ticks if least <= tick <= most]
    axis.set_ticks(shown, labels=[short(tick) for tick in shown])
    axis.set_ticks([], minor=True)


def beside(axes: Axes, text: str, at: tuple[float, float], points: tuple[float, float], **look: Any) -> Annotation:
    """A label at an offset in points."""
    own: dict[str, Any] = {"fontsize": 9, "color": DARK, "textcoords": "offset points"}
    return axes.annotate(text, at, points, **own | look)


def keep_apart(heights: Sequence[float], gap: float, most: float) -> list[float]:
    """Heights moved so that they are `gap` apart and none is above `most`, in the order that they had.

    >>> keep_apart([0.5, 0.49, 0.98], 0.1, 1.0)
    [0.59, 0.49, 0.98]
    """
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    moved = [heights[i] for i in order]
    for i in range(1, len(moved)):
        moved[i] = max(moved[i], moved[i - 1] + gap)
    ceiling = most
    for i in reversed(range(len(moved))):
        moved[i] = min(moved[i], ceiling)
        ceiling = moved[i] - gap
    return [height for _, height in sorted(zip(order, moved, strict=True))]


def extremes(xs: Sequence[float], heights: Sequence[int], width: float) -> list[int]:
    """Which points to draw: the first and the last, and the lowest and the highest of each column of that width.

    >>> extremes([0, 1e-6, 2e-6, 1], [1, 9, 5, 2], 0.01)
    [0, 1, 3]
    """
    columns: dict[int, list[int]] = {}
    for i, x in enumerate(xs):
        columns.setdefault(int(x / width), []).append(i)
    kept = {0, len(xs) - 1}
    for column in columns.values():
        kept |= {min(column, key=heights.__getitem__), max(column, key=heights.__getitem__)}
    return sorted(kept)


class Labels:
    """Labels of one axes, each put where it covers the least of the lines and no other label.

    The limits of the axes must be final.
    """

    def __init__(self, axes: Axes) -> None:
        self._axes = axes
        assert axes.figure is not None
        canvas: Any = FigureCanvasAgg(axes.figure.get_figure(root=True))  # some of its methods are untyped
        self._renderer = canvas.get_renderer()
        self._points: list[tuple[float, float]] = []
        self._boxes: list[Bbox] = []

    def avoid(self, xs: Iterable[float], ys: Iterable[float]) -> None:
        """Points of a line, dense enough that a label covers several, in the units of the axes."""
        self._points += [(x, y) for x, y in self._axes.transData.transform(list(zip(xs, ys, strict=True)))]

    def avoid_text(self, text: Text) -> None:
        """A label that is already there."""
        self._boxes.append(text.get_window_extent())

    def put(self, text: str, at: tuple[float, float], **style: Any) -> Annotation:
        """A label of the point `at`, connected to it where it is not next to it."""
        label = self._axes.annotate(
            text,
            at,
            (0, 0),
            textcoords="offset points",
            bbox=HALO,
            arrowprops={"arrowstyle": "-", "color": QUIET, "linewidth": 0.7, "shrinkA": 0, "shrinkB": 5},
            annotation_clip=False,
            **style,
        )
        places = [(r * x, r * y) for r in _RADII for x, y in _DIRECTIONS]
        x, y = min(places, key=lambda place: self._cost(label, place))
        self._boxes.append(self._moved(label, (x, y)))
        if max(abs(x), abs(y)) == _FIRST_RADIUS and label.arrow_patch is not None:
            label.arrow_patch.set_visible(False)
        return label

    def _cost(self, label: Annotation, place: tuple[float, float]) -> float:
        box = self._moved(label, place).padded(3)
        covered = sum(box.x0 <= x <= box.x1 and box.y0 <= y <= box.y1 for x, y in self._points)
        overlaps = sum(box.overlaps(other) for other in self._boxes)
        inside = self._axes.get_window_extent()
        is_outside = box.x0 < inside.x0 or box.x1 > inside.x1 or box.y0 < inside.y0 or box.y1 > inside.y1
        return float(covered + _OVERLAP * overlaps + _OUTSIDE * is_outside + _DISTANCE * math.hypot(*place))

    def _moved(self, label: Annotation, place: tuple[float, float]) -> Bbox:
        """The label at an offset in points, on the side of its point that the offset is on; its box in pixels."""
        x, y = place
        label.set_position(place)
        label.set_horizontalalignment("left" if x > 0 else "right" if x < 0 else "center")
        label.set_verticalalignment("bottom" if y > 0 else "top" if y < 0 else "center")
        label.update_positions(self._renderer)
        return Bbox(Text.get_window_extent(label))  # without the line to its point
