"""`fit_law`: the answer of the command, and the same one line of what it refuses."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

import analytic as ft
from analytic.errors import PlannerError
from analytic.io.files import configs_dir
from analytic.report.law_result import LawFit
from analytic.scaling.repeats import RepeatsFit
from tests.commands import facts, printed
from tests.law_runs import simulated, written

RUNS = configs_dir() / "laws" / "runs"


def test_the_function_answers_as_the_command_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, simulated(0.002, "size,seen,val"))
    found = ft.fit_law(
        path,
        columns="N=size,D=seen,loss=val",
        prior="none",
        n_means="non_embedding",
        min_ratio=6,
        hold_out=1.5,
        predict=["N=8B,D=2T"],
        flops=1e22,
    )
    argv = [
        *("--columns", "N=size,D=seen,loss=val", "--prior", "none", "--n-means", "non_embedding", "--min-ratio", "6"),
        *("--hold-out", "1.5", "--predict", "N=8B,D=2T", "--flops", "1e22"),
    ]
    assert json.loads(json.dumps(found.data)) == facts(capsys, "law", "fit", path, *argv)
    assert str(found) == printed(capsys, "law", "fit", path, *argv)
    assert isinstance(found.value, LawFit)
    assert len(found.value.law.fit.runs) == 12


def test_repeated_data_is_of_another_type() -> None:
    found = ft.fit_law(RUNS / "muennighoff.csv", form="repeats", unique_column="unique_tokens")
    assert isinstance(found.value, RepeatsFit)
    assert found["r_d_at_least"] == found.value.r_d_at_least


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"form": "cubic"}, "form = 'cubic': expected one of coupled, additive, tied, zero_e, repeats"),
        ({"objective": "l2"}, "objective = 'l2': expected one of mad, huber-1e-3"),
        ({"n_means": "active"}, "n_means = 'active': expected one of total, non_embedding"),
        ({"min_ratio": -1}, "min_ratio = -1: expected a number from 0 to inf"),
        ({"min_ratio": math.nan}, "min_ratio = nan: expected a number"),
        ({"hold_out": 0}, "hold_out = 0: expected a number"),
        ({"hold_out": math.inf}, "hold_out = inf: expected a number"),
        ({"flops": 1e33}, "flops = 1e+33: expected a number"),
        ({"predict": ["N=8B"]}, "predict 'N=8B': D is missing"),
        ({"form": "repeats", "flops": 1e22}, "flops: not with the form repeats"),
        ({"form": "repeats"}, "form repeats: expected a unique column"),
        ({"form": "tied", "prior": "none"}, "prior: only with the form coupled, not tied"),
    ],
)
def test_what_the_command_refuses_raises(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(PlannerError) as caught:
        ft.fit_law(RUNS / "olmo-c4.csv", **asked)
    assert str(caught.value).startswith(message)
