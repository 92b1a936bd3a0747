"""The picture of many GPUs: a rank's step by category, against its events; bars by layout, against their peaks."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from analytic.api.fitting import fits
from analytic.errors import UsageError
from analytic.memory.implementation import Implementation, implementation_of
from analytic.memory.rank import RankSchedule, rank_schedule
from analytic.memory.tensors import Category
from analytic.planning.many_gpus import ManyGpus
from analytic.planning.rank_fit import RankFit
from analytic.report.layouts_plot import MOST_BARS, bars_of, many_figure, many_picture
from analytic.report.rank_plot import COLOURS, rank_course
from tests.analytic.report.drawn import texts, xs, ys
from tests.commands import printed

GIB = 2**30
IMAGE = Path(__file__).parents[3] / "docs" / "images" / "memory-layouts.svg"
NAMES = {
    Category.PARAMETERS: "parameters",
    Category.OPTIMIZER: "optimizer",
    Category.GRADIENTS: "gradients",
    Category.ACTIVATIONS: "activations",
    Category.INPUTS: "activations",
    Category.TEMPORARIES: "temporaries",
}


def asked(model: str, gpus: str, **options: Any) -> ManyGpus:
    found = fits(model, gpus, **options).value
    assert isinstance(found, ManyGpus)
    return found


def chosen(found: ManyGpus) -> RankFit:
    assert found.chosen is not None
    return found.chosen


@pytest.fixture(scope="module")
def found() -> ManyGpus:
    return asked("llama-3.2-1b", "8xa100-40", micro_batch=2)


@pytest.fixture(scope="module")
def figure(found: ManyGpus) -> Figure:
    return many_figure(found)


def schedule_of(fit: RankFit) -> RankSchedule:
    implementation = implementation_of(fit.config, fit.setup.seq_len)
    assert isinstance(implementation, Implementation)
    schedule = rank_schedule(fit.config.spec, implementation, fit.setup, fit.layout, fit.peak.rank)
    assert isinstance(schedule, RankSchedule)
    return schedule


def levels(axes: Axes) -> list[float]:
    return sorted(ys(line)[0] for line in axes.lines if xs(line) == [0, 1])


@pytest.mark.parametrize(
    ("gpus", "options"),
    [
        (8, {}),
        (8, {"dp_replicate": 2, "global_batch": 64, "recompute": "full"}),
        (7, {"dp_shard": 7}),  # 128,256 rows of the tied table are no multiple of 7: the last rank is the fullest
    ],
)
def test_the_course_is_that_of_the_events(gpus: int, options: dict[str, Any]) -> None:
    """Category by category; of micro-batches after the second, which are like it, nothing is drawn."""
    fit = chosen(asked("llama-3.2-1b", f"{gpus}xa100-40", micro_batch=2, **options))
    assert fit.peak.rank == (6 if gpus == 7 else 0)
    course, schedule = rank_course(fit), schedule_of(fit)
    live: Counter[str] = Counter()
    for category, size_bytes in schedule.base.items():
        live[NAMES[category]] += size_bytes
    states = [tuple(live[name] for name in COLOURS)]
    for label, size_bytes in replace(schedule, repeats=min(schedule.repeats, 1)).events():
        live[NAMES[label.category]] += size_bytes
        states.append(tuple(live[name] for name in COLOURS))
    assert course.sizes[0] == states[0]
    assert course.sizes[-1] == states[-1]
    assert set(course.sizes) <= set(states)
    assert max(map(sum, course.sizes)) == max(map(sum, states)) == fit.peak.peak_bytes
    assert course.sizes[course.peak] == tuple(getattr(fit.peak, f"{name}_bytes") for name in COLOURS)


def test_the_phases_begin_where_layers_end() -> None:
    """16 layers forward and 16 back, with embedding and loss at both ends, each 16 / 12 layers wide."""
    end = 16 / 12
    one_pass = 16 + 2 * end
    once = rank_course(chosen(asked("llama-3.2-1b", "8xa100-40")))
    assert once.phases == [
        ("forward", 0),
        ("backward", pytest.approx(one_pass)),
        ("optimizer", pytest.approx(2 * one_pass)),
    ]
    more = rank_course(chosen(asked("llama-3.2-1b", "8xa100-40", global_batch=24)))
    assert [name for name, _ in more.phases] == ["forward", "backward", "each later\nmicro-batch", "optimizer"]
    assert [x for _, x in more.phases] == [0, *(pytest.approx(times * one_pass) for times in (1, 2, 4))]
    twice = rank_course(chosen(asked("llama-3.2-1b", "8xa100-40", global_batch=16)))
    assert twice.phases[2][0] == "second\nmicro-batch"


def test_none_and_full_are_next_to_each_other(figure: Figure, found: ManyGpus) -> None:
    none, full, bars = figure.axes
    assert (none.get_title("left"), full.get_title("left")) == ("recompute none: fits", "recompute full: fits")
    assert none.get_ylim() == full.get_ylim()
    assert bars.patches
    peak = chosen(found).peak
    (label,) = (text for text in texts(none) if text.startswith("peak"))
    assert label == f"peak {peak.peak_bytes / GIB:,.2f} GiB\n" + peak.moment.replace(", ", "\n", 1)


def test_with_recompute_given_there_is_one_panel() -> None:
    drawn = many_figure(asked("llama-3.2-1b", "8xa100-40", recompute="full", dp_shard=8))
    assert [axes.get_title("left") for axes in drawn.axes] == ["recompute full: fits", ""]


def test_the_card_is_a_line_and_what_is_available_another(figure: Figure, found: ManyGpus) -> None:
    """The reserve of 3 GiB is 3 GiB below the card; without one it is the allowance of each setup."""
    fit = chosen(found)
    assert levels(figure.axes[0]) == [pytest.approx(fit.available_bytes / GIB), pytest.approx(fit.memory_bytes / GIB)]
    reserved = many_figure(asked("llama-3.2-1b", "8x40GiB", reserve="3GiB"))
    assert levels(reserved.axes[0]) == levels(reserved.axes[1]) == [pytest.approx(37), pytest.approx(40)]
    assert {"the card 40.00 GiB", "available 37.00 GiB"} <= set(texts(reserved.axes[0]))


def test_areas_are_one_above_the_other(figure: Figure, found: ManyGpus) -> None:
    """The top of each area is the sum of the categories up to it; the last one's is the outline."""
    axes, course = figure.axes[0], rank_course(chosen(found))
    tops = [[float(y) * GIB for _, y in patch.get_xy()[: len(course.xs)]] for patch in axes.patches]  # type: ignore[attr-defined]  # polygons
    for i, top in enumerate(reversed(tops), start=1):
        assert top == pytest.approx([sum(sizes[:i]) for sizes in course.sizes], abs=1)
    assert len(tops) == 5


def test_a_bar_is_a_peak_by_category_and_its_allowance(figure: Figure, found: ManyGpus) -> None:
    """It ends before the card's line where the layout fits."""
    axes, rows = figure.axes[-1], bars_of(found)
    parts = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    assert len(parts) == 6 * len(rows)
    for i, fit in enumerate(rows):
        bar = parts[6 * i : 6 * i + 6]
        expected = [getattr(fit.peak, f"{name}_bytes") for name in COLOURS] + [fit.allowance_bytes]
        assert [part.get_width() * GIB for part in bar] == pytest.approx(expected, abs=1)
        starts = [sum(expected[:j]) for j in range(6)]
        assert [part.get_x() * GIB for part in bar] == pytest.approx(starts, abs=1)
        assert bool(bar[-1].get_x() + bar[-1].get_width() <= fit.memory_bytes / GIB) is fit.fits
    (card,) = (xs(line)[0] for line in axes.lines if ys(line) == [0, 1])
    assert card == pytest.approx(found.question.memory_bytes / GIB)
    assert {*COLOURS, "allowance"} <= set(texts(axes))


def test_every_stack_has_its_best_layouts(found: ManyGpus) -> None:
    rows = bars_of(found)
    assert rows[0] is found.chosen
    assert len(rows) == MOST_BARS
    shown = Counter(fit.stack for fit in rows)
    fitting = Counter(fit.stack for fit in found.enumerated.fitting)
    assert set(shown) == set(fitting)
    for stack in shown:  # those of one stack are the first of it, and none has fewer unless it has no more
        group = [fit for fit in found.enumerated.fitting if fit.stack == stack]
        assert [fit for fit in rows if fit.stack == stack] == group[: shown[stack]]
        assert shown[stack] in (len(group), *range(max(shown.values()) - 1, MOST_BARS))


def test_where_nothing_fits_more_gpus_are_drawn() -> None:
    found = asked("llama-2-70b", "8xa100-40")
    assert found.fits is False
    assert found.more is not None
    assert bars_of(found) == [found.chosen, found.more]
    drawn = texts(many_figure(found))
    assert f"{found.more.layout.num_gpus:,} GPUs: {found.more.layout.describe()}" in drawn


def test_a_stack_without_schedules_has_bars_alone() -> None:
    assert len(many_figure(asked("llama-3-8b", "8xa100-80", stack="torchtitan", tp=2)).axes) == 1


def test_what_is_not_predicted_has_no_picture() -> None:
    with pytest.raises(UsageError, match="no picture of memory: transformers-fsdp2: no memory schedule of"):
        many_figure(asked("mixtral-8x7b", "8xa100-80", stack="transformers-fsdp2", ep=2))


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_the_picture_is_the_same_bytes_again(found: ManyGpus, kind: str) -> None:
    first = many_picture(found, kind)
    assert many_picture(found, kind) == first
    assert b"dc:date" not in first


def test_the_page_shows_what_the_command_draws(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """By its text, which other versions of matplotlib write alike."""
    page = (IMAGE.parents[1] / "layouts.md").read_text(encoding="utf-8")
    command = "foretrain fits llama-2-70b --gpus 64xh100 --plot docs/images/memory-layouts.svg"
    assert command in page
    assert "(images/memory-layouts.svg)" in page
    drawn = tmp_path / "memory-layouts.svg"
    printed(capsys, *command.split()[1:-1], str(drawn))
    assert len(IMAGE.read_bytes()) < 150_000
    tag = "{http://www.w3.org/2000/svg}text"
    shown, now = ([text.text for text in ElementTree.parse(path).iter(tag)] for path in (IMAGE, drawn))
    assert len(shown) > 50
    assert shown == now
