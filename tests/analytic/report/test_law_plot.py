"""What the picture of a fitted law shows: the runs, its curves and bands, runs held out, and what is extrapolated."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analytic.api.laws import fit_law
from analytic.io.files import configs_dir
from analytic.report import plot_style as style
from analytic.report.law_plot import backtest_of, budgets_between, law_figure, law_picture
from analytic.report.law_result import LawFit
from tests.analytic.report.drawn import texts, xs, ys
from tests.law_runs import simulated, written

IMAGE = Path(__file__).parents[3] / "docs" / "images" / "law-fit.svg"
OLMO = configs_dir() / "laws" / "runs" / "olmo-c4.csv"


def fitted(path: str | Path, **asked: object) -> LawFit:
    found = fit_law(path, **asked).value  # type: ignore[arg-type]
    assert isinstance(found, LawFit)
    return found


@pytest.fixture(scope="module")
def result() -> LawFit:
    return fitted(OLMO, predict=["N=8B,D=160B"])


@pytest.fixture(scope="module")
def figure(result: LawFit) -> Figure:
    return law_figure(result)


def panels(figure: Figure) -> tuple[Axes, Axes]:
    backtest, frontier = figure.axes
    return backtest, frontier


def marked(axes: Axes, mark: str) -> list[Line2D]:
    return [line for line in axes.lines if line.get_marker() == mark]


def test_runs_are_dots_and_those_held_out_diamonds(result: LawFit, figure: Figure) -> None:
    """The file itself: those of at most a tenth of the largest compute are fitted."""
    rows = [line.split(",") for line in OLMO.read_text().splitlines() if line[0].isdigit()]
    runs = [(float(n), float(d), float(loss)) for n, d, loss, _ in rows]
    largest = max(n * d for n, d, _ in runs)
    backtest, frontier = panels(figure)
    dots = {(xs(line)[0], ys(line)[0]) for line in marked(backtest, "o")}
    (diamonds,) = marked(backtest, "D")
    assert dots == {(n, loss) for n, d, loss in runs if n * d <= largest / 10}
    assert set(zip(xs(diamonds), ys(diamonds), strict=True)) == {
        (n, loss) for n, d, loss in runs if n * d > largest / 10
    }
    (every,) = marked(frontier, "o")
    assert sorted(ys(every)) == sorted(loss for _, _, loss in runs)
    assert f"fitted to {len(dots)} runs; the {len(xs(diamonds))} larger ones, not fitted, as diamonds" in texts(
        backtest
    )


def test_the_curves_are_of_the_law_that_saw_no_run_held_out(result: LawFit, figure: Figure) -> None:
    backtest, _ = panels(figure)
    smaller = backtest_of(result).law.fit
    assert {run.flops for run in smaller.runs}.isdisjoint(run.flops for run in backtest_of(result).held_out)
    curves = [line for line in backtest.lines if len(xs(line)) > 100]
    flops = [run.flops for run in result.law.fit.runs]
    budgets = budgets_between(min(flops), max(flops))
    assert len(curves) == len(budgets)
    for curve, budget in zip(curves, budgets, strict=True):
        n = xs(curve)[50]
        assert ys(curve)[50] == pytest.approx(smaller.coefficients.loss(n, budget / 6 / n), rel=1e-9)


def test_bands_are_the_80_percent_intervals(result: LawFit, figure: Figure) -> None:
    backtest, frontier = panels(figure)
    curve = [line for line in backtest.lines if len(xs(line)) > 100][-1]
    band = backtest.collections[-1].get_paths()[0].vertices
    n = xs(curve)[60]
    edges = sorted(y for x, y in np.asarray(band) if x == n)
    (p,) = backtest_of(result).law.predict([(n, result.law.fit.most_flops / 6 / n)])
    assert edges == pytest.approx([p.low_80, p.high_80])
    star_bar = next(line for line in frontier.lines if xs(line) == [result.flops] * 2)
    assert ys(star_bar) == [result.optimum.loss.low_80, result.optimum.loss.high_80]


def test_what_is_beyond_the_runs_fitted_is_shaded(result: LawFit, figure: Figure) -> None:
    backtest, frontier = panels(figure)
    (below,) = (shape for shape in backtest.collections if shape.get_gid() == "extrapolation")
    smaller = backtest_of(result).law.fit
    edge = {round(x): y for x, y in np.asarray(below.get_paths()[0].vertices)}
    n, loss = max(edge.items(), key=lambda point: point[1])
    assert loss == pytest.approx(smaller.coefficients.loss(n, smaller.most_flops / 6 / n), rel=1e-4)
    (beyond,) = (patch for patch in frontier.patches if patch.get_gid() == "extrapolation")
    corners = beyond.get_path().vertices if beyond.get_transform() is None else beyond.get_extents().get_points()
    left = frontier.transData.inverted().transform(corners)[:, 0].min()
    assert left == pytest.approx(result.law.fit.most_flops, rel=1e-6)
    assert "more compute than any run fitted" in texts(backtest)
    assert any(text.startswith("beyond the runs: 1.5 decades") for text in texts(frontier))


def test_curves_and_predictions_are_labelled_with_their_figures(result: LawFit, figure: Figure) -> None:
    backtest, frontier = panels(figure)
    assert "1.2e22 FLOP" in texts(backtest)  # 6 x 3.2e9 x 6.4e11
    (p,) = result.predictions
    assert f"N 8B, D 160B\nloss {p.loss:.3f}, {p.low_80:.3f} to {p.high_80:.3f}" in texts(frontier)
    best = result.optimum
    assert any(text.startswith(f"best N {style.short(best.params.value)}, D") for text in texts(frontier))
    assert backtest.get_legend() is None
    assert frontier.get_legend() is None


def test_more_compute_is_darker(figure: Figure) -> None:
    curves = [line for line in panels(figure)[0].lines if len(xs(line)) > 100]
    sums = [sum(int(to_hex(line.get_color())[i : i + 2], 16) for i in (1, 3, 5)) for line in curves]
    assert sums == sorted(sums, reverse=True)
    assert len(set(sums)) == len(sums)


def test_labels_are_apart(figure: Figure) -> None:
    figure.canvas.draw()
    for axes in panels(figure):
        labels = [text for text in axes.texts if text.get_text() and axes.title is not text]
        boxes = [label.get_tightbbox() for label in labels]
        said = [label.get_text() for label in labels]
        apart = [
            (said[i], said[j])
            for i, a in enumerate(boxes)
            for j, b in enumerate(boxes[:i])
            if a and b and a.overlaps(b)
        ]
        assert apart == []


def test_nothing_held_out_is_one_law_and_says_so(tmp_path: Path) -> None:
    few = fitted(written(tmp_path, "\n".join(simulated().splitlines()[:6]) + "\n"))
    backtest, _ = panels(law_figure(few))
    assert few.hold_out is None
    assert xs(marked(backtest, "D")[0]) == []
    assert "fitted to all 5 runs: too few to hold some out" in texts(backtest)


def test_what_was_asked_for_is_in_view_or_not_drawn() -> None:
    """A run of one parameter has a loss of thousands of nats."""
    asked = fitted(OLMO, predict=["N=1,D=1", "N=100B,D=10T"], flops=1e17)
    _, frontier = panels(law_figure(asked))
    (squares,) = (line for line in marked(frontier, "s"))
    assert (xs(squares)[0], ys(squares)[0]) == (6e24, asked.predictions[1].loss)
    assert frontier.get_xlim()[0] <= 6
    assert frontier.get_xlim()[1] > 6e24


def test_budgets_end_at_the_largest_and_are_few() -> None:
    for decades in (0.01, 0.4, 1.0, 2.9, 7.0, 20.0):
        budgets = budgets_between(1.0, 10**decades)
        assert 1 <= len(budgets) <= 6
        assert budgets[-1] == pytest.approx(10**decades)
        assert all(1 < b <= 10**decades * (1 + 1e-9) for b in budgets)
    steps = [math.log10(b / a) for a, b in pairwise(budgets)]
    assert steps == pytest.approx([steps[0]] * len(steps))


def test_a_hostile_name_of_a_file_is_cut_and_no_mathematics(result: LawFit) -> None:
    """matplotlib would read what is between two dollars, and fail on this."""
    hostile = replace(result, source="$x_{$\né" + " y" * 300)
    drawn = texts(law_figure(hostile))
    (title,) = (text for text in drawn if text.startswith("A scaling law of 30 runs"))
    assert r"\$x_{\$??" in title
    assert len(title) < 90
    assert law_picture(hostile, "png").startswith(b"\x89PNG")


def test_the_picture_is_the_same_bytes_again_and_keeps_its_text(result: LawFit) -> None:
    for kind in ("svg", "png"):
        first = law_picture(result, kind)
        assert law_picture(result, kind) == first
        assert b"dc:date" not in first
    svg = ElementTree.fromstring(law_picture(result, "svg"))
    drawn = [element.text for element in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert "A scaling law of 30 runs of olmo-c4.csv" in drawn


def test_the_document_shows_what_the_tool_draws(result: LawFit) -> None:
    """By its text, which other versions of matplotlib write alike."""
    tag = "{http://www.w3.org/2000/svg}text"
    shown, drawn = (ElementTree.fromstring(svg).iter(tag) for svg in (IMAGE.read_bytes(), law_picture(result, "svg")))
    assert [element.text for element in shown] == [element.text for element in drawn]
