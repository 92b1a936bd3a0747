"""Memory over one training step as a picture: live bytes from the schedule, against the card's line.

The horizontal axis is progress through the step: each layer has one width, whatever time it takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analytic.errors import UsageError
from analytic.huggingface.config import ModelConfig
from analytic.memory.implementation import Implementation, NotPredicted, implementation_of
from analytic.memory.model import BACKWARD, FORWARD
from analytic.memory.step import Segment, StepMemory, step_memory, step_segments
from analytic.model.spec import ModelSpec
from analytic.model.training import TrainingSetup
from analytic.report import plot_style as style
from analytic.report.plot_style import Labels
from analytic.report.units import gib_text
from analytic.units import GIB

LOOKS = ((style.ORANGE, "-", 1.4), (style.BLUE, "-", 2.2), (style.GREEN, "--", 1.6), (style.PURPLE, ":", 1.8))
COLUMNS = 280  # of which each keeps its least and its most
LEAST_SHARE = 1 / 12  # of the layers' widths: the embedding, the loss and the optimizer
ROOM_ABOVE = 1.22  # times the highest value
OPTIMIZER = "optimizer"


@dataclass(frozen=True, slots=True)
class Course:
    """One setup's live bytes over its step.

    Attributes:
        xs, heights: progress in widths of a layer, and bytes; thinned out without losing the peak.
        begins: where each phase begins. peak: the index of the peak in them.
    """

    label: str
    memory: StepMemory
    xs: list[float]
    heights: list[int]
    begins: dict[str, float]
    end: float

    @property
    def peak(self) -> int:
        return self.heights.index(max(self.heights))


def memory_picture(
    config: ModelConfig, setups: Sequence[TrainingSetup], capacity_bytes: int | None, reserve_bytes: int, kind: str
) -> bytes:
    """Live bytes over one training step of each setup, as png or svg.

    Args:
        capacity_bytes: of the card, of which `reserve_bytes` are kept free; None draws no line.

    Raises:
        UsageError: a model or a length that has no memory schedule.
    """
    return style.bytes_of(memory_figure(config, setups, capacity_bytes, reserve_bytes), kind)


def memory_figure(
    config: ModelConfig, setups: Sequence[TrainingSetup], capacity_bytes: int | None, reserve_bytes: int
) -> Figure:
    """The picture, before it is written in some format."""
    courses = []
    for setup, label in zip(setups, _labels(setups), strict=True):
        implementation = implementation_of(config, setup.seq_len)
        if isinstance(implementation, NotPredicted):
            raise UsageError(f"no picture of memory: {implementation.reason}")
        courses.append(_course(config.spec, implementation, setup, label))
    figure = style.new_figure(10, 5.2)
    figure.text(0.03, 0.92, f"{config.name}: memory over one training step", fontsize=14, weight="bold", c=style.DARK)
    figure.text(0.03, 0.875, _choices(setups[0]), fontsize=9, color=style.QUIET)
    axes = figure.add_axes((0.075, 0.11, 0.9, 0.72))
    available = None if capacity_bytes is None else capacity_bytes - reserve_bytes
    labels = _axes(axes, courses, available)
    for course, (colour, dashes, width) in zip(courses, LOOKS, strict=False):
        xs, heights = [*course.xs, max(each.end for each in courses)], [*course.heights, course.heights[-1]]
        gib = [size_bytes / GIB for size_bytes in heights]
        axes.plot(xs, gib, color=colour, ls=dashes, lw=width)
        axes.fill_between(xs, gib, color=colour, alpha=0.12, linewidth=0)
        labels.avoid(xs, gib)
    if capacity_bytes is not None and available is not None:
        _card_line(axes, labels, capacity_bytes, reserve_bytes)
    for course, (colour, _, _) in zip(courses, LOOKS, strict=False):
        _name_peak(axes, labels, course, available, colour)
    return figure


def _course(spec: ModelSpec, implementation: Implementation, setup: TrainingSetup, label: str) -> Course:
    """The schedule laid out along the step."""
    memory = step_memory(spec, implementation, setup)
    ends = max(1.0, len(spec.layers) * LEAST_SHARE)
    x, total = 0.0, memory.base.total_bytes
    xs, heights, begins = [x], [total], {FORWARD: 0.0}
    for segment in step_segments(spec, implementation, setup):
        begins.setdefault(_phase(segment), x)
        for _ in range(segment.count):
            width = 1.0 if segment.layer is not None else ends
            totals = list(accumulate((size_bytes for _, size_bytes in segment.events), initial=total))[1:]
            xs += [x + width * i / len(totals) for i in range(1, len(totals) + 1)]
            heights += totals
            x, total = x + width, totals[-1]
    begins.setdefault(OPTIMIZER, x)
    end = max(x, begins[OPTIMIZER] + 3 * ends)
    kept = style.extremes(xs, heights, end / COLUMNS)
    return Course(label, memory, [xs[i] for i in kept], [heights[i] for i in kept], begins, end)


def _phase(segment: Segment) -> str:
    return segment.phase if segment.phase in (FORWARD, BACKWARD) else OPTIMIZER


def _labels(setups: Sequence[TrainingSetup]) -> list[str]:
    """How the setups differ: their checkpointing, and the micro-batch and the length where those differ."""
    labels = []
    for setup in setups:
        parts = ["no checkpointing" if setup.checkpointing == "none" else f"{setup.checkpointing} checkpointing"]
        if len({(each.micro_batch, each.seq_len) for each in setups}) > 1:
            parts.append(f"{setup.micro_batch:,} x {setup.seq_len:,} tokens")
        labels.append(", ".join(parts))
    return labels


def _choices(setup: TrainingSetup) -> str:
    """What the setups have in common."""
    master = " with fp32 master weights" if setup.has_master_weights else ""
    return (
        f"predicted: {setup.precision}{master}, micro-batch {setup.micro_batch:,} x {setup.seq_len:,} tokens, "
        f"attention {setup.attention_kernel}, optimizer {setup.optimizer}"
    )


def _axes(axes: Axes, courses: Sequence[Course], available: int | None) -> Labels:
    """The phases, the units and what is live before the step."""
    style.plain_axes(axes)
    highest = max(course.memory.step_peak.total_bytes for course in courses)
    end, begins = max(course.end for course in courses), courses[0].begins
    axes.set_xlim(0, end)
    axes.set_ylim(0, max(highest, available or 0) / GIB * ROOM_ABOVE)
    axes.set_xticks([])
    axes.set_xlabel("progress through the step: every layer has one width, whatever its time", color=style.DARK)
    axes.set_ylabel("live memory, GiB", color=style.DARK)
    axes.grid(axis="y", color=style.FAINT, linewidth=0.6)
    labels = Labels(axes)
    starts = [*begins.values(), end]
    for phase, start, stop in zip(begins, starts, starts[1:], strict=False):
        if start > 0:
            axes.axvline(start, color=style.QUIET, linewidth=0.8, linestyle=(0, (2, 2)))
        height = axes.get_xaxis_transform()
        middle = (start + stop) / 2
        labels.avoid_text(axes.text(middle, 0.96, phase, transform=height, ha="center", c=style.QUIET, fontsize=10))
    base = courses[0].memory.base
    kinds = [str(kind) for kind, size_bytes in base.categories.items() if size_bytes > base.total_bytes / 100]
    text = f"before the step {gib_text(base.total_bytes)}: {', '.join(kinds)}"
    labels.avoid_text(style.beside(axes, text, (0, 0), (6, 6)))
    return labels


def _card_line(axes: Axes, labels: Labels, capacity_bytes: int, reserve_bytes: int) -> None:
    """What the card leaves to tensors."""
    available = (capacity_bytes - reserve_bytes) / GIB
    axes.axhline(available, color=style.DARK, linewidth=1.6, linestyle=(0, (6, 2)))
    end = axes.get_xlim()[1]
    labels.avoid([end * i / COLUMNS for i in range(COLUMNS)], [available] * COLUMNS)
    text = (
        f"{gib_text(capacity_bytes - reserve_bytes)} available: the card's {gib_text(capacity_bytes)} "
        f"less {gib_text(reserve_bytes)} kept free"
    )
    labels.avoid_text(style.beside(axes, text, (end, available), (-4, 5), weight="bold", bbox=style.HALO, ha="right"))


def _name_peak(axes: Axes, labels: Labels, course: Course, available: int | None, colour: str) -> None:
    """Name, size and moment of a peak, and whether it fits."""
    peak = course.memory.step_peak
    at = course.xs[course.peak], peak.total_bytes / GIB
    ink = style.INK.get(colour, colour)
    axes.plot(*at, "o", color=ink, markersize=5, zorder=5)
    verdict = "" if available is None else ": fits" if peak.total_bytes <= available else ": does not fit"
    text = f"{course.label}{verdict}\npeak {gib_text(peak.total_bytes)}\n{peak.moment.replace(', ', chr(10), 1)}"
    labels.put(text, at, fontsize=9, color=ink, zorder=6)
