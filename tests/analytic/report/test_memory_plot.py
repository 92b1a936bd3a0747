"""What the picture of a step's memory shows: the schedule's own peaks, the card's line, the phases."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from xml.etree import ElementTree

import pytest
from matplotlib.figure import Figure

from analytic.errors import UsageError
from analytic.memory.implementation import Implementation, implementation_of
from analytic.memory.step import StepMemory, step_events, step_memory
from analytic.model.training import TrainingSetup
from analytic.report import memory_plot
from analytic.report.memory_plot import memory_figure, memory_picture
from analytic.report.plot_style import extremes
from tests.analytic.report.drawn import texts, xs, ys
from tests.configurations import shipped

LLAMA = shipped("llama-3.2-1b")
WITHOUT = TrainingSetup(seq_len=8192, micro_batch=4, has_master_weights=True, rounding_bytes=512)
SETUPS = (WITHOUT, replace(WITHOUT, checkpointing="full"))
GIB = 2**30
H100_BYTES = round(79.18 * GIB)  # as torch reports it
RESERVE_BYTES = 2 * 10**9
IMAGE = Path(__file__).parents[3] / "docs" / "images" / "memory-step.svg"


def implementation() -> Implementation:
    found = implementation_of(LLAMA, WITHOUT.seq_len)
    assert isinstance(found, Implementation)
    return found


def memory_of(setup: TrainingSetup) -> StepMemory:
    return step_memory(LLAMA.spec, implementation(), setup)


def svg_texts(picture: bytes) -> list[str | None]:
    return [element.text for element in ElementTree.fromstring(picture).iter("{http://www.w3.org/2000/svg}text")]


@pytest.fixture(scope="module")
def figure() -> Figure:
    return memory_figure(LLAMA, SETUPS, H100_BYTES, RESERVE_BYTES)


def test_a_peak_is_labelled_with_its_size_and_moment(figure: Figure) -> None:
    for setup, label in zip(SETUPS, ("no checkpointing: does not fit", "full checkpointing: fits"), strict=True):
        peak = memory_of(setup).step_peak
        (found,) = (text for text in texts(figure) if text.startswith(label))
        assert f"peak {peak.total_bytes / GIB:,.2f} GiB" in found
        assert found.split("\n", 2)[2].replace("\n", ", ") == peak.moment


def test_the_line_reaches_the_peak_and_the_end_of_the_schedule(figure: Figure) -> None:
    """The drawn course against the events themselves, which know nothing of the picture."""
    curves = [line for line in figure.axes[0].lines if len(xs(line)) > 100]
    for setup, curve in zip(SETUPS, curves, strict=True):
        memory = memory_of(setup)
        events = [size_bytes for _, size_bytes in step_events(LLAMA.spec, implementation(), setup)]
        course = list(accumulate(events, initial=memory.base.total_bytes))
        heights = [round(height * GIB) for height in ys(curve)]
        assert max(heights) == max(course) == memory.step_peak.total_bytes
        assert heights[0] == course[0]
        # AdamW's fp32 gradients take 4 bytes where the bf16 ones took 2
        assert heights[-1] - course[-1] == pytest.approx(2 * 1_235_814_400, rel=1e-3)


def test_few_points_are_drawn(figure: Figure) -> None:
    for line in figure.axes[0].lines:
        assert len(xs(line)) <= 2 * memory_plot.COLUMNS + 4


def test_thinning_keeps_the_extremes_of_every_column() -> None:
    xs, heights = [i / 1000 for i in range(1001)], [(i * 7919) % 1009 for i in range(1001)]
    kept = extremes(xs, heights, 1 / 280)
    assert (kept[0], kept[-1]) == (0, 1000)
    assert kept == sorted(kept)
    for column in range(280):
        inside = [height for x, height in zip(xs, heights, strict=True) if int(x * 280) == column]
        drawn = [heights[i] for i in kept if int(xs[i] * 280) == column]
        assert (min(drawn), max(drawn)) == (min(inside), max(inside))


def test_the_card_is_a_line_less_its_reserve(figure: Figure) -> None:
    """79.18 GiB less 2e9 / 2^30 = 1.8626 GiB."""
    levels = [ys(line)[0] for line in figure.axes[0].lines if xs(line) == [0, 1]]
    assert levels == [pytest.approx(79.18 - 2e9 / GIB, abs=1e-6)]
    assert "77.32 GiB available: the card's 79.18 GiB less 1.86 GiB kept free" in texts(figure)


def test_without_a_card_nothing_is_said_of_fitting() -> None:
    drawn = texts(memory_figure(LLAMA, SETUPS, None, RESERVE_BYTES))
    assert not any("fit" in text or "available" in text for text in drawn)


def test_the_phases_are_marked_where_they_begin(figure: Figure) -> None:
    """16 layers forward and 16 back, with embedding and loss at both ends, each 16 / 12 layers wide."""
    axes, end = figure.axes[0], 16 / 12
    marks = [xs(line)[0] for line in axes.lines if len(xs(line)) == 2 and len(set(xs(line))) == 1]
    assert marks == [pytest.approx(16 + 2 * end), pytest.approx(2 * (16 + 2 * end))]
    assert {"forward", "backward", "optimizer"} <= set(texts(figure))


def test_setups_that_differ_in_their_batch_say_so() -> None:
    drawn = texts(memory_figure(LLAMA, (WITHOUT, replace(WITHOUT, micro_batch=2)), None, 0))
    assert any(text.startswith("no checkpointing, 2 x 8,192 tokens") for text in drawn)


def test_what_has_no_schedule_has_no_picture() -> None:
    with pytest.raises(UsageError, match="no picture of memory: no memory schedule"):
        memory_figure(shipped("gpt2"), SETUPS, None, 0)


def test_the_picture_is_the_same_bytes_again() -> None:
    for kind in ("svg", "png"):
        first = memory_picture(LLAMA, SETUPS, H100_BYTES, RESERVE_BYTES, kind)
        assert memory_picture(LLAMA, SETUPS, H100_BYTES, RESERVE_BYTES, kind) == first
        assert b"dc:date" not in first


def test_the_readme_shows_what_the_tool_draws() -> None:
    """By its text, which other versions of matplotlib write alike."""
    shown = IMAGE.read_bytes()
    assert len(shown) < 100_000
    setups = tuple(replace(setup, is_accumulating=True) for setup in SETUPS)  # as `fits` asks
    assert svg_texts(shown) == svg_texts(memory_picture(LLAMA, setups, H100_BYTES, RESERVE_BYTES, "svg"))
    assert "peak 118.95 GiB" in svg_texts(shown)
