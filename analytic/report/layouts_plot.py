"""Memory of a GPU among many as a picture: over one training step in the layout that was chosen, and by layout.

Each bar is the peak of a layout's fullest rank by category, and what is allowed for beyond it. A layout fits where its
bar ends before the card's line.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analytic.errors import UsageError
from analytic.memory.by_stack import rank_peak
from analytic.memory.rank_peak import RankPeak
from analytic.model.checkpointing import Checkpointing
from analytic.planning.many_gpus import ManyGpus
from analytic.planning.rank_fit import RankFit
from analytic.report import plot_style as style
from analytic.report.rank_plot import COLOURS, INKS, draw_courses, rank_course
from analytic.report.units import gib_text, gpus_text
from analytic.units import GIB

MOST_BARS = 10
_WIDTH = 10.0  # inches, as all of these
_HEAD, _STEP, _ROW, _BELOW = 1.0, 3.5, 0.27, 0.7
_LEFT, _RIGHT = 3.25, 2.35  # of the bars: their names, and their figures
_FIGURES = ((1.16, "peak"), (1.325, "recompute"), (1.505, "micro-batch"))  # where a column ends, in widths of the bars
_SIZE, _LETTERS = 8.5, 51  # of the text, and how many there is room for on the left at that size
_COLOURS = (*COLOURS.values(), "#9A9A9A")  # and the allowance


def many_picture(found: ManyGpus, kind: str) -> bytes:
    """The picture as png or svg.

    Raises:
        UsageError: no layout whose memory is predicted.
    """
    return style.bytes_of(many_figure(found), kind)


def many_figure(found: ManyGpus) -> Figure:
    """The picture, before it is written in some format."""
    if found.chosen is None:
        raise UsageError(f"no picture of memory: {found.missing}")
    courses = [rank_course(fit) for fit in _with_schedules(found.chosen, found.question.recompute)]
    rows = bars_of(found)
    stacks = len({fit.stack for fit in rows})
    bars = _ROW * (len(rows) + stacks + 0.6)
    height = _HEAD + (_STEP + _BELOW if courses else 0) + bars + _BELOW
    figure = style.new_figure(_WIDTH, height)
    _title(figure, found, found.chosen, height)
    if courses:
        panel = (_WIDTH - 1.0 - 0.3 * (len(courses) - 1)) / len(courses)
        bottom = height - _HEAD - _STEP
        panels = [
            figure.add_axes(((0.75 + i * (panel + 0.3)) / _WIDTH, bottom / height, panel / _WIDTH, _STEP / height))
            for i in range(len(courses))
        ]
        draw_courses(panels, courses)
        for axes, course in zip(panels, courses, strict=True):
            verdict = "fits" if course.fit.fits else "does not fit"
            axes.set_title(
                f"recompute {course.fit.setup.checkpointing}: {verdict}", loc="left", fontsize=10.5, color=style.DARK
            )
        below = "progress through the step: every layer has one width, whatever its time"
        figure.text(0.5, (bottom - 0.25) / height, below, ha="center", fontsize=9, color=style.DARK)
    shape = (_LEFT / _WIDTH, _BELOW / height, (_WIDTH - _LEFT - _RIGHT) / _WIDTH, bars / height)
    draw_bars(figure.add_axes(shape), rows, found.num_gpus)
    return figure


def bars_of(found: ManyGpus) -> list[RankFit]:
    """The chosen layout and the best of the others, those of a stack together: of each stack, as many as there is room.

    Where nothing fits, also what would on more GPUs.
    """
    assert found.chosen is not None
    fits = [found.chosen, *found.alternatives]
    by_stack = {stack: [fit for fit in fits if fit.stack == stack] for stack in dict.fromkeys(f.stack for f in fits)}
    counts = dict.fromkeys(by_stack, 0)
    while sum(counts.values()) < min(MOST_BARS, len(fits)):
        stack = min((s for s in counts if counts[s] < len(by_stack[s])), key=lambda s: counts[s])
        counts[stack] += 1
    shown = [fit for stack, group in by_stack.items() for fit in group[: counts[stack]]]
    return shown if found.more is None else [*shown, found.more]


def draw_bars(axes: Axes, rows: Sequence[RankFit], num_gpus: int) -> None:
    """A stacked bar for each layout, under the name of its stack."""
    style.plain_axes(axes)
    axes.spines["left"].set_visible(False)
    ends = [fit.peak.peak_bytes + fit.allowance_bytes for fit in rows]
    card = rows[0].memory_bytes / GIB
    axes.set_xlim(0, max(*ends, rows[0].memory_bytes) / GIB * 1.02)
    places = list(_places(rows))
    axes.set_ylim(places[-1] + 0.7, -1.6)
    axes.set_yticks([])
    axes.set_xlabel("peak of the fullest rank, GiB", color=style.DARK, fontsize=9)
    right = axes.get_yaxis_transform()
    quiet: dict[str, Any] = {"transform": right, "va": "center", "ha": "right", "fontsize": _SIZE, "color": style.QUIET}
    for i, (fit, y) in enumerate(zip(rows, places, strict=True)):
        for end, size, colour in zip(accumulate(_sizes(fit)), _sizes(fit), _COLOURS, strict=True):
            axes.barh(y, size, 0.72, end - size, color=colour, edgecolor="white", linewidth=0.5)
        weight = "bold" if i == 0 else "normal"
        gpus = "" if fit.layout.num_gpus == num_gpus else f"{gpus_text(fit.layout.num_gpus)}: "
        look: dict[str, Any] = {
            "transform": right,
            "va": "center",
            "ha": "right",
            "color": style.DARK,
            "weight": weight,
        }
        name = gpus + fit.layout.describe()
        axes.text(-0.012, y, name, fontsize=_SIZE * min(1, _LETTERS / len(name)), **look)
        for (x, _), text in zip(_FIGURES, _figures(fit), strict=True):
            axes.text(x, y, text, fontsize=_SIZE, **look)
        if i == 0 or fit.stack != rows[i - 1].stack:
            head = f"{fit.stack}, {fit.peak.origin.split(',')[0]}"
            axes.text(-0.012, y - 1, head, **quiet)
    for x, name in _FIGURES:
        axes.text(x, places[0] - 1, name, **quiet)
    axes.axvline(card, color=style.DARK, linewidth=1.6)
    at = card, 1.01
    text = f"the card {gib_text(rows[0].memory_bytes)}"
    axes.text(*at, text, transform=axes.get_xaxis_transform(), ha="center", fontsize=_SIZE, weight="bold", c=style.DARK)
    _name_parts(axes, rows[0], places[0])


def _title(figure: Figure, found: ManyGpus, fit: RankFit, height: float) -> None:
    text = f"{found.question.config.name} on {found.num_gpus:,} x {found.gpu}: {fit.layout.describe()}"
    figure.text(0.03, (height - 0.33) / height, text, fontsize=13, weight="bold", color=style.DARK)
    setup = fit.setup
    below = (
        f"predicted, {fit.stack}, rank {fit.peak.rank}: micro-batch {setup.micro_batch:,} x {setup.seq_len:,} tokens, "
        f"{setup.precision}, attention {setup.attention_kernel}, optimizer {setup.optimizer}"
    )
    figure.text(0.03, (height - 0.55) / height, below, fontsize=8.5, color=style.QUIET)


def _with_schedules(fit: RankFit, recompute: Checkpointing | None) -> Iterator[RankFit]:
    """The layout with what was asked for, or without and with recomputation; nothing on a stack without schedules."""
    if fit.stack != "transformers-fsdp2":
        return
    choices: tuple[Checkpointing, ...] = ("none", "full") if recompute is None else (recompute,)
    for checkpointing in choices:
        setup = replace(fit.setup, checkpointing=checkpointing)
        peak = rank_peak(fit.config, setup, fit.layout, fit.stack)
        assert isinstance(peak, RankPeak)  # as with the other choice
        yield replace(fit, setup=setup, peak=peak)


def _places(rows: Sequence[RankFit]) -> Iterator[float]:
    """Downward, with a row free above the first of each stack."""
    y, before = -1.0, None
    for fit in rows:
        y += 1 if fit.stack == before else 2 if before else 1
        before = fit.stack
        yield y


def _sizes(fit: RankFit) -> list[float]:
    """GiB by category, and the allowance."""
    sizes = [getattr(fit.peak, f"{name}_bytes") for name in COLOURS]
    return [size / GIB for size in (*sizes, fit.allowance_bytes)]


def _figures(fit: RankFit) -> tuple[str, str, str]:
    most = fit.most_micro_batch
    return gib_text(fit.peak.peak_bytes), fit.setup.checkpointing, f"to {most:,}" if most else "none"


def _name_parts(axes: Axes, fit: RankFit, y: float) -> None:
    """The names of the categories above the first bar, each with a line to its part."""
    sizes, most = _sizes(fit), axes.get_xlim()[1]
    middles = [(end - size / 2) / most for end, size in zip(accumulate(sizes), sizes, strict=True)]
    names = {**INKS, "allowance": style.QUIET}
    gap = 1 / len(names) - 0.01
    at = style.keep_apart([max(middle, gap / 2) for middle in middles], gap, 1 - gap / 2)
    for (name, colour), middle, x in zip(names.items(), middles, at, strict=True):
        axes.annotate(
            name,
            (middle * most, y - 0.36),
            (x * most, y - 1),
            ha="center",
            va="center",
            fontsize=_SIZE - 0.5,
            color=style.INK.get(colour, colour),
            bbox=style.HALO,
            zorder=3,
            arrowprops={"arrowstyle": "-", "color": style.QUIET, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 0},
        )
