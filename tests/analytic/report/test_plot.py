"""What the picture of a plan shows: its law strongest, every curve named, the plan's figures, the fitted range."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from analytic.hardware.table import load_hardware
from analytic.performance.mfu import Assumed
from analytic.planning.architectures import Family
from analytic.planning.architectures import line as line_of
from analytic.planning.budget import DataLimit, Dollars
from analytic.planning.forward import Plan, make_plan
from analytic.planning.market import compare
from analytic.planning.request import Request
from analytic.planning.serving import Serving
from analytic.report import plot_style as style
from analytic.report.plot import picture_of, plan_figure
from analytic.scaling.law_file import load_all_laws, load_laws
from analytic.scaling.laws import AllocationLaw
from tests.analytic.report.drawn import texts, xs, ys


def made(
    law: str = "besiroglu", budget_usd: float = 5e6, data: DataLimit | None = None, serving: Serving | None = None
) -> Plan:
    hardware, laws = load_hardware(), load_laws()
    market = compare(hardware, mfu=Assumed(value=0.4, by="test"), mfu_by_gpu={}, price_by_gpu={"a100-80": 4.0})
    family = Family(kind="dense", vocab_size=32_000, seq_len=4096)
    request = Request(
        budget=Dollars(budget_usd),
        market=market,
        law=laws[law],
        family=family,
        data=data or DataLimit(),
        serving=serving,
    )
    return make_plan(request, laws.values())


def panels(plan: Plan) -> tuple[Axes, Axes]:
    frontier, contours = plan_figure(plan).axes
    return frontier, contours


def test_the_law_that_is_used_is_the_widest_line() -> None:
    plan = made("muennighoff")
    frontier, _ = panels(plan)
    curves = [line for line in frontier.lines if len(xs(line)) > 100]
    widest = max(curves, key=lambda line: line.get_linewidth())
    n, loss = xs(widest)[0], ys(widest)[0]
    law = plan.request.law
    assert [line.get_linewidth() for line in curves].count(widest.get_linewidth()) == 1
    assert len(curves) == len(load_laws())
    tokens = float(plan.compute_flops) / line_of(plan.request.family).flops_per_token(n)
    assert loss == pytest.approx(law.loss(n, tokens), rel=1e-12)


def test_every_law_is_named_where_its_curve_ends() -> None:
    frontier, _ = panels(made("besiroglu"))
    names = [text.split(":")[0] for text in texts(frontier)]
    assert "besiroglu, used" in names
    for law in load_laws():
        assert f"{law}, used" in names or law in names, law
    assert frontier.get_legend() is None


def test_curves_of_a_model_that_serves_end_where_little_is_left_for_training() -> None:
    """At a quarter of the MFU, 1e13 tokens cost what 4 / 3 as many training tokens do."""
    serving = Serving(tokens=10**13, mfu=Assumed(value=0.1, by="given"))
    plan = made(serving=serving)
    frontier, _ = panels(plan)
    used = max((line for line in frontier.lines if len(xs(line)) > 100), key=lambda line: line.get_linewidth())
    compute, per_token = float(plan.compute_flops), line_of(plan.request.family).flops_per_token
    n, loss = xs(used)[0], ys(used)[0]
    served = 1e13 * 4 / 3
    assert loss == pytest.approx(plan.request.law.loss(n, compute / per_token(n) - served), rel=1e-9)
    share = served * per_token(xs(used)[-1]) / compute
    assert 0.8 < share <= 0.9
    assert frontier.get_xlim()[1] == pytest.approx(xs(used)[-1])
    assert "serving included" in " ".join(texts(frontier))


def test_a_size_by_one_law_and_a_loss_by_another() -> None:
    """The range is that of the law whose losses are drawn: Besiroglu's tokens end at 318B, its FLOPs at 1.3e22."""
    deepseek = load_all_laws()["deepseek"]
    assert isinstance(deepseek, AllocationLaw)
    request = replace(made().request, allocation=deepseek)
    plan = make_plan(request, ())
    figure = plan_figure(plan)
    assert "by besiroglu; the size by deepseek" in " ".join(texts(figure))
    shown = " ".join(texts(figure.axes[1]))
    assert f"D {plan.outcome.tokens / 318e9:.3g}x, C {plan.used_flops / 1.3e22:.3g}x" in shown


def test_no_two_laws_share_colour_and_dashes() -> None:
    frontier, _ = panels(made())
    curves = [line for line in frontier.lines if len(xs(line)) > 100]
    assert len({to_hex(line.get_color()) for line in curves}) == len(curves)
    assert len({str(vars(line)["_unscaled_dash_pattern"]) for line in curves}) == len(curves)  # legible in grey


def test_both_stars_say_n_d_and_loss() -> None:
    plan = made()
    candidate = plan.outcome.candidate
    expected = f"N {style.short(candidate.params)}\nD {style.short(plan.outcome.tokens)}\nloss {plan.outcome.loss:.3f}"
    for panel in panels(plan):
        assert expected in texts(panel)


def test_the_fitted_range_is_drawn_and_the_plan_beyond_it_said() -> None:
    """Besiroglu's runs: N from 57.3M to 16.2B, D from 0.82B to 318B."""
    plan = made("besiroglu")
    frontier, contours = panels(plan)
    assert "← besiroglu was fitted on 57.3M to 16.2B" in texts(frontier)
    (shaded,) = contours.patches
    right, top = np.asarray(shaded.get_path().vertices).max(axis=0)
    assert (right, top) == (16.2e9, 318e9)
    n, d = plan.outcome.candidate.params, plan.outcome.tokens
    beyond = ", ".join(
        f"{name} {style.short(value / most)}x"
        for name, value, most in (("N", n, 16.2e9), ("D", d, 318e9), ("C", plan.used_flops, 1.3e22))
    )
    assert f"the plan is beyond what besiroglu was fitted on: {beyond}" in texts(contours)


def test_a_law_of_no_stated_range_says_so() -> None:
    frontier, contours = panels(made("exercise"))
    assert "the N that exercise was fitted on is not stated" in texts(frontier)
    assert "what exercise was fitted on is not stated" in texts(contours)
    assert not contours.patches


def test_a_plan_within_the_fitted_range_has_a_bracket() -> None:
    plan = made("besiroglu", budget_usd=1e3)
    frontier, contours = panels(plan)
    assert "the plan is within what besiroglu was fitted on" in texts(contours)
    (bracket,) = (line for line in frontier.lines if line.get_transform() == frontier.transAxes)
    assert xs(bracket) == [0, 1]  # its ends are outside of what is shown


def test_axes_and_labels_write_numbers_in_one_way() -> None:
    for panel in panels(made()):
        assert all("e+" not in text and "10^" not in text and " B" not in text for text in texts(panel))
    ticks = [label.get_text() for label in panels(made())[1].get_xticklabels()]
    assert ticks
    assert all(tick[-1] in "kMBT" for tick in ticks)


def test_the_data_that_there_are_limit_the_contours() -> None:
    _, contours = panels(made("besiroglu", data=DataLimit(dataset_tokens=10**12, max_epochs=2.0)))
    assert {"one epoch: 1T", "2 epochs: 2T"} <= set(texts(contours))


def test_contour_labels_are_apart() -> None:
    for law in ("besiroglu", "exercise", "hoffmann"):
        figure = plan_figure(made(law))
        figure.canvas.draw()
        labels = [text for text in figure.axes[1].texts if text.get_text().replace(".", "").isdigit()]
        assert len(labels) >= 4
        boxes = [label.get_window_extent() for label in labels]
        assert not [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)]


def test_law_names_are_apart() -> None:
    assert style.keep_apart([0.5, 0.5, 0.99, 1.2], 0.1, 1.0) == pytest.approx([0.5, 0.6, 0.9, 1.0])


def test_the_picture_is_the_same_bytes_again_and_keeps_its_text() -> None:
    plan = made()
    first = picture_of(plan, "svg")
    assert picture_of(plan, "svg") == first
    assert b"<dc:date>" not in first
    drawn = [element.text for element in ElementTree.fromstring(first).iter("{http://www.w3.org/2000/svg}text")]
    assert any(text and text.startswith("besiroglu, used") for text in drawn)
    assert picture_of(plan, "png") == picture_of(plan, "png")
