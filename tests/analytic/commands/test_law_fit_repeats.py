"""`law fit --form repeats`: seven numbers, an interval of R_D, and no intervals of losses."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from analytic.io.files import configs_dir
from tests.commands import facts, printed
from tests.law_runs import SIZES, additive, written

RUNS = configs_dir() / "laws" / "runs"


def test_repeated_data_has_its_own_law(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ("law", "fit", str(RUNS / "muennighoff.csv"), "--form", "repeats", "--unique-column", "unique_tokens")
    found = facts(capsys, *argv, "--predict", "N=8B,D=100B,U=25B", "--predict", "N=8B,D=100B,U=100B")
    repeated, fresh = found["predictions"]
    assert repeated["loss"] > fresh["loss"]
    assert "low_95" not in repeated
    c = found["coefficients"]
    assert fresh["unique_tokens"] == 1e11
    assert fresh["loss"] >= c["E"] + c["A"] / 8e9 ** c["alpha"] + c["B"] / 1e11 ** c["beta"] - 1e-9
    assert found["r_d_at_least"] <= c["R_D"]
    assert any("beyond 16 epochs" in w for w in facts(capsys, *argv, "--predict", "N=8B,D=1T,U=25B")["warnings"])
    cells = [line.split(",") for line in (RUNS / "muennighoff.csv").read_text().splitlines() if line[0].isdigit()]
    many = sum(float(d) > 16 * float(unique) for _, d, _, unique in cells)
    assert found["warnings"] == [f"{many} runs of more than 16 epochs left out: no version of this law holds there"]
    assert found["runs"] + found["dropped"] == len(cells)
    assert found["dropped_by"]["many_epochs"] == many
    assert "R_D at least " in printed(capsys, *argv)


def test_a_decay_that_the_runs_decide_has_two_bounds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """U (1 + R_D (1 - exp(-R / R_D))) tokens at R_D = 5, where no model is too large for its tokens."""
    lines = ["N,D,loss,U"]
    for i, params in enumerate(SIZES):
        for ratio in (30, 100):
            for epochs in (1, 2, 4, 8, 16):
                unique = ratio * params
                worth = unique * (1 + 5 * (1 - math.exp(-(epochs - 1) / 5)))
                loss = additive(params, worth) * (1 + 1e-3 * (-1) ** (i + epochs))
                lines.append(f"{params},{epochs * unique},{loss!r},{unique}")
    path = written(tmp_path, "\n".join(lines) + "\n")
    found = facts(capsys, "law", "fit", path, "--form", "repeats", "--unique-column", "U")
    assert 4 < found["r_d_at_least"] < found["coefficients"]["R_D"] < found["r_d_at_most"] < 6.5
    assert found["warnings"] == []
