"""The scripts of the original exercise, as commands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from analytic.errors import UsageError
from analytic.exercise.budget import get_optimal_N_D_from_cost
from analytic.io.files import configs_dir

SCRIPTS = Path(__file__).parents[3] / "scripts"
LLAMA_7B = str(configs_dir() / "llama_7b_config.json")
BACKWARD = str(configs_dir() / "backward_scaling_config.json")


def script(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPTS / name), *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("name", "arguments", "figures"),
    [
        ("model_training_cost_analysis.py", ("--model_config", LLAMA_7B), ("6,738,415,616", "0.897648", "168,820,736")),
        ("model_training_cost_analysis.py", ("--training_budget", "5e6"), ("47,476,210,890", "1.8969638019", "A100")),
        ("detailed_cost_analysis.py", ("--model_config", LLAMA_7B), ("897,648,164,864", "12 bytes a parameter")),
        ("detailed_cost_analysis.py", ("--backward_config", BACKWARD), ("6,885,871,616", "213,100,828,941")),
    ],
)
def test_each_prints_its_figures(name: str, arguments: tuple[str, ...], figures: tuple[str, ...]) -> None:
    done = script(name, *arguments)
    assert done.returncode == 0, done.stderr
    for figure in figures:
        assert figure in done.stdout


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("model_training_cost_analysis.py", (), "required"),
        ("model_training_cost_analysis.py", ("--model_config", "missing.json"), "missing.json: No such file"),
        ("model_training_cost_analysis.py", ("--training_budget", "1e-20"), "does not pay for one parameter"),
        ("model_training_cost_analysis.py", ("--training_budget", "nan"), "budget = nan USD"),
        ("model_training_cost_analysis.py", ("--training_budget", "5e6", "--seq-len", "8"), "--seq-len: expected only"),
        ("detailed_cost_analysis.py", ("--backward_config", LLAMA_7B), "llama_7b_config.json"),
        ("detailed_cost_analysis.py", ("--backward_config", BACKWARD, "--seq-len", "8"), "--seq-len: the file states"),
    ],
)
def test_bad_input_is_one_line_and_status_2(name: str, arguments: tuple[str, ...], message: str) -> None:
    done = script(name, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr


@pytest.mark.parametrize("budget", ["5e6", True, None, 0, -1, float("inf")])
def test_a_budget_that_is_none_is_a_usage_error(budget: object) -> None:
    with pytest.raises(UsageError, match="budget = "):
        get_optimal_N_D_from_cost(budget)  # type: ignore[arg-type]  # what a caller could pass
