"""The figures of the original exercise."""

from __future__ import annotations

from fractions import Fraction

import pytest

from analytic.exercise.budget import backward_analysis, exercise_market, get_optimal_N_D_from_cost, training_budget_text
from analytic.io.files import configs_dir
from analytic.scaling.law_file import load_law


def test_the_exercise() -> None:
    params, tokens, compute, gpu = get_optimal_N_D_from_cost(5e6)
    assert (params, tokens, compute, gpu) == (47_476_210_890, 1_971_513_695_914, 5.616e23, "A100")
    assert load_law("exercise").loss(params, tokens) == pytest.approx(1.8969638019, abs=5e-11)


def test_the_exercise_for_people() -> None:
    text = training_budget_text(5e6)
    for expected in ("A100", "5.616e+23", "47,476,210,890", "1,971,513,695,914", "1.8969638019", "assumed"):
        assert expected in text
    text = backward_analysis(configs_dir() / "backward_scaling_config.json")
    for expected in ("6,885,871,616", "213,100,828,941", "221,328,318,767", "2.150063", "4.597% low"):
        assert expected in text


def test_the_exercise_ranks_its_three_gpus() -> None:
    ranked = [(option.gpu.key, option.flops_per_usd) for option in exercise_market().options]
    # TFLOP/s x 40% x 3600 s / (USD/h)
    assert ranked == [
        ("a100", Fraction(312 * 10**12 * 1440, 4)),
        ("t4", Fraction(65 * 10**12 * 1440)),
        ("v100", Fraction(125 * 10**12 * 1440 * 2, 5)),
    ]
