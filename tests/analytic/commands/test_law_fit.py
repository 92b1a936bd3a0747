"""`law fit`: a law from a CSV of runs, its intervals, its file, and the one line with which it refuses."""

from __future__ import annotations

import json
import math
import random
import sys
from pathlib import Path
from typing import Any

import pytest

from analytic.io.files import configs_dir
from analytic.scaling.law_file import load_law
from empirical.commands.main import main
from tests.commands import facts, printed, refusal
from tests.law_runs import RATIOS, SIZES, additive, simulated, written

RUNS = configs_dir() / "laws" / "runs"
OLMO = str(RUNS / "olmo-c4.csv")


@pytest.fixture
def runs(tmp_path: Path) -> str:
    return written(tmp_path, simulated(0.002))


def test_a_law_without_noise_comes_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, simulated())
    found = facts(capsys, "law", "fit", path, "--form", "additive", "--predict", "N=8B,D=2T", "--flops", "1e22")
    expected = {"E": 1.8, "A": 400, "alpha": 0.34, "B": 2000, "beta": 0.37, "k": 1}
    assert found["coefficients"] == pytest.approx(expected, rel=1e-6)
    (prediction,) = found["predictions"]
    assert (prediction["params"], prediction["tokens"]) == (8e9, 2e12)
    assert prediction["loss"] == pytest.approx(additive(8e9, 2e12), rel=1e-8)
    assert prediction["decades_beyond"] == pytest.approx(math.log10(8e9 * 2e12 / (1e9 * 8e10)), rel=1e-12)
    best = found["optimum"]
    assert 6 * best["params"]["value"] * best["tokens"]["value"] == pytest.approx(1e22, rel=1e-9)
    # both terms fall equally fast there: alpha A / N^alpha = beta B / D^beta
    by_params = 0.34 * 400 / best["params"]["value"] ** 0.34
    assert by_params == pytest.approx(0.37 * 2000 / best["tokens"]["value"] ** 0.37, rel=1e-5)
    assert found["runs"] == len(SIZES) * len(RATIOS)


def test_intervals_hold_each_other_and_the_answer_shows_them(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ("law", "fit", OLMO, "--predict", "N=8B,D=160B")
    found = facts(capsys, *argv)
    one = found["predictions"][0]
    assert one["low_95"] < one["low_80"] < one["loss"] < one["high_80"] < one["high_95"]
    # the factors are 1.3 and 2.2 standard deviations of ln L
    assert math.log(one["high_95"] / one["loss"]) == pytest.approx(math.log(one["high_80"] / one["loss"]) * 2.2 / 1.3)
    line = printed(capsys, *argv).splitlines()[0]
    low, high = f"{one['low_95']:.3f}", f"{one['high_95']:.3f}"
    assert line.startswith(f"predicted  {one['loss']:.3f} nats per token; ")
    assert f"{low} to {high} (95%) at N 8B, D 160B" in line
    for name in ("params", "tokens", "loss"):
        best = found["optimum"][name]
        assert best["low_95"] < best["low_80"] < best["high_80"] < best["high_95"]
    assert len(printed(capsys, *argv).splitlines()) <= 8


def test_standard_errors_are_the_roots_of_the_covariance(capsys: pytest.CaptureFixture[str]) -> None:
    found = facts(capsys, "law", "fit", OLMO)
    for i, name in enumerate(("E", "A", "alpha", "B", "beta", "k")):
        scale = 1 if name in ("alpha", "beta") else found["coefficients"][name]
        assert found["standard_errors"][name] == pytest.approx(scale * math.sqrt(found["covariance"][i][i]))
    assert 0 < found["standard_errors"]["alpha"] < 0.1


def test_the_covariance_is_that_of_the_intervals(capsys: pytest.CaptureFixture[str]) -> None:
    """Among the runs the variance of ln L is kappa^2 sigma^2 + g C g: g by differences of the six, at N and D."""
    found = facts(capsys, "law", "fit", OLMO, "--predict", "N=8B,D=160B")
    c, (prediction,) = found["coefficients"], found["predictions"]
    six = [*(math.log(c[key]) for key in ("E", "A")), c["alpha"], math.log(c["B"]), c["beta"], math.log(c["k"])]

    def log_loss(e: float, a: float, alpha: float, b: float, beta: float, log_k: float) -> float:
        k = math.exp(log_k)
        terms = [math.exp((a - alpha * math.log(8e9)) / k), math.exp((b - beta * math.log(160e9)) / k)]
        return math.log(math.exp(e) + sum(terms) ** k)

    def moved(i: int, step: float) -> float:
        return log_loss(*(value + step * (j == i) for j, value in enumerate(six)))

    gradient = [(moved(i, 1e-6) - moved(i, -1e-6)) / 2e-6 for i in range(6)]
    posterior = sum(gradient[i] * gradient[j] * found["covariance"][i][j] for i in range(6) for j in range(6))
    variance = (found["kappa"] * found["sigma"]) ** 2 + posterior
    assert prediction["decades_beyond"] == 0
    assert math.log(prediction["high_80"] / prediction["loss"]) == pytest.approx(1.3 * math.sqrt(variance), rel=1e-5)


def test_the_budget_without_flops_is_ten_times_the_largest_run(runs: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = facts(capsys, "law", "fit", runs)
    assert found["optimum"]["flops"] == pytest.approx(10 * 6 * 1e9 * 80e9)
    assert found["optimum"]["decades_beyond"] == pytest.approx(1)


def test_columns_have_other_names(tmp_path: Path, runs: str, capsys: pytest.CaptureFixture[str]) -> None:
    renamed = written(tmp_path, simulated(0.002, "size,seen,val"), "renamed.csv")
    found = facts(capsys, "law", "fit", renamed, "--columns", "N=size, D=seen,loss=val")
    assert found["coefficients"] == facts(capsys, "law", "fit", runs)["coefficients"]


def test_a_column_of_models_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = ("gpt2", "llama-3.2-1b", "llama-3-8b", "qwen3-8b")
    counts = [facts(capsys, "count", model) for model in models]
    lines = ["model,D,loss"]
    for model, count in zip(models, counts, strict=True):
        params = count["params"]["total"]
        lines += [f"{model},{ratio * params},{additive(params, ratio * params)}" for ratio in RATIOS]
    path = written(tmp_path, "\n".join(lines) + "\n")
    found = facts(capsys, "law", "fit", path, "--config-column", "model")
    largest = max(80 * c["params"]["total"] * c["flops"]["training_per_token"] for c in counts)
    assert found["largest_run_flops"] == pytest.approx(largest)
    other = facts(capsys, "law", "fit", path, "--config-column", "model", "--n-means", "non_embedding")
    assert (found["n_means"], other["n_means"]) == ("total", "non_embedding")
    assert other["coefficients"] != found["coefficients"]


def test_what_is_left_out_is_counted_by_reason(capsys: pytest.CaptureFixture[str]) -> None:
    path, unique = str(RUNS / "muennighoff.csv"), ("--unique-column", "unique_tokens")
    rows = [line.split(",") for line in Path(path).read_text().splitlines() if line[0].isdigit()]
    cells = [[float(cell) for cell in row] for row in rows]
    once = [row for row in cells if row[1] <= 1.001 * row[3]]
    few = [row for row in once if row[1] < 2 * row[0]]
    found = facts(capsys, "law", "fit", path, *unique, "--min-ratio", "2")
    assert found["dropped_by"] == {"tokens_per_parameter": len(few), "repeated_data": len(cells) - len(once)}
    assert found["dropped"] == len(few) + len(cells) - len(once)
    assert found["runs"] + found["dropped"] == len(cells)
    out = printed(capsys, "law", "fit", path, *unique, "--min-ratio", "2", "-v")
    assert f"{len(few)} of fewer than 2 tokens per parameter" in out
    assert f"{len(cells) - len(once)} of more than one epoch" in out


@pytest.mark.parametrize(
    ("form", "holds"),
    [
        ("coupled", lambda c: c["k"] != 1),
        ("additive", lambda c: c["k"] == 1 and c["alpha"] != c["beta"]),
        ("tied", lambda c: c["alpha"] == c["beta"]),
        ("zero_e", lambda c: c["E"] == 0),
    ],
)
def test_a_form_is_fitted(form: str, holds: Any, runs: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = facts(capsys, "law", "fit", runs, "--form", form)
    assert found["form"] == form
    assert holds(found["coefficients"])
    assert (found["prior"] is not None) == (form == "coupled")


def test_a_prior_moves_the_law(tmp_path: Path, runs: str, capsys: pytest.CaptureFixture[str]) -> None:
    narrow = written(tmp_path, 'families = ["one"]\n[alpha]\nmean = 0.2\nsd = 1e-6\n', "prior.toml")
    assert facts(capsys, "law", "fit", runs, "--prior", narrow)["coefficients"]["alpha"] == pytest.approx(0.2, abs=1e-4)
    assert facts(capsys, "law", "fit", runs, "--prior", narrow)["prior"] == {
        "families": ["one"],
        "moments": {"alpha": [0.2, 1e-6]},
    }
    published = facts(capsys, "law", "fit", runs, "--prior", "published")
    assert published["coefficients"] == facts(capsys, "law", "fit", runs)["coefficients"]
    assert "gadre" in published["prior"]["families"]
    alone = facts(capsys, "law", "fit", runs, "--prior", "none")
    assert alone["prior"] is None
    assert any("without a prior" in warning for warning in alone["warnings"])


def test_the_objective_is_the_sum_that_its_name_says(runs: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Huber's function of each residual at delta = 1e-3, summed."""
    found = facts(capsys, "law", "fit", runs, "--form", "additive", "--objective", "huber-1e-3")
    c, total = found["coefficients"], 0.0
    for line in Path(runs).read_text().splitlines()[1:]:
        params, tokens, loss = map(float, line.split(","))
        predicted = c["E"] + c["A"] / params ** c["alpha"] + c["B"] / tokens ** c["beta"]
        size = abs(math.log(predicted / loss))
        total += size**2 / 2 if size <= 1e-3 else 1e-3 * (size - 1e-3 / 2)
    assert found["objective"] == {"name": "huber-1e-3", "value": pytest.approx(total, rel=1e-9)}


def test_hold_out_predicts_the_runs_above_its_cut(runs: str, capsys: pytest.CaptureFixture[str]) -> None:
    computes = [6 * params * ratio * params for params in SIZES for ratio in RATIOS]
    for decades in (0.5, 1.0, 1.5):
        found = facts(capsys, "law", "fit", runs, "--hold-out", str(decades))["hold_out"]
        larger = [c for c in computes if c > max(computes) / 10**decades * (1 + 1e-6)]
        assert (found["decades"], found["runs"]) == (decades, len(larger))
        assert found["fitted"] == len(computes) - len(larger)
    assert facts(capsys, "law", "fit", runs)["hold_out"]["decades"] == 1


def broken(tmp_path: Path) -> str:
    """Runs whose large half has another recipe: no law of the small half predicts them."""
    header, *lines = simulated(0.001).splitlines()
    worse = []
    for line in lines:
        params, tokens, loss = map(float, line.split(","))
        is_large = params * tokens > 1e9 * 8e10 / 10**1.5
        worse.append(f"{params},{tokens},{loss * 1.3 if is_large else loss}")
    return written(tmp_path, "\n".join([header, *worse]) + "\n", "broken.csv")


def test_a_law_that_fails_its_backtest_is_a_warning_and_strictly_a_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, law = broken(tmp_path), tmp_path / "my.toml"
    found = facts(capsys, "law", "fit", path, "--hold-out", "1.5")
    assert found["hold_out"]["failed"]
    assert any("fails its own backtest: more than a third" in warning for warning in found["warnings"])
    assert main(["law", "fit", path, "--hold-out", "1.5", "--strict", "--write-law", str(law)]) == 1
    assert "fails its own backtest" in capsys.readouterr().out
    assert not law.exists()


def test_strict_passes_a_law_that_predicts_its_own_runs(runs: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "warning: the law fails" not in printed(capsys, "law", "fit", runs, "--hold-out", "1.5", "--strict")


@pytest.mark.parametrize("form", ["coupled", "additive", "zero_e"])
def test_a_written_law_says_the_same_and_plans(
    form: str, tmp_path: Path, runs: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "my.toml"
    point = ("--predict", "N=8B,D=2T", "--flops", "1e22")
    found = facts(
        capsys, "law", "fit", runs, "--form", form, "--n-means", "non_embedding", *point, "--write-law", str(path)
    )
    law = load_law(str(path))
    assert law.loss(8e9, 2e12) == pytest.approx(found["predictions"][0]["loss"], rel=1e-12)
    shown = facts(capsys, "law", "show", str(path))
    assert shown["coefficients"] == found["coefficients"]
    assert shown["law_details"]["n_means"] == "non_embedding"
    assert shown["law_details"]["fitted"]["params"] == [2e7, 1e9]
    assert "18 runs of runs.csv" in shown["law_details"]["citation"]
    (best,) = [best for best in shown["optima"] if best["flops"] == 1e22]
    assert best["params"] == pytest.approx(found["optimum"]["params"]["value"], rel=1e-9)
    planned = facts(capsys, "plan", "--budget", "100k", "--law", str(path))
    assert planned["law"] == "my"
    assert planned["loss"] == pytest.approx(law.loss(planned["law_params"], planned["tokens"]), rel=1e-9)
    assert planned["optimum"]["loss"] <= planned["loss"] * (1 + 1e-12)


def test_json_is_finite(runs: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = facts(capsys, "law", "fit", runs)
    json.dumps(found, allow_nan=False)


def test_the_order_of_the_lines_changes_nothing(tmp_path: Path, runs: str, capsys: pytest.CaptureFixture[str]) -> None:
    header, *lines = Path(runs).read_text().splitlines()
    random.Random(1).shuffle(lines)
    shuffled = written(tmp_path / "other", "\n".join([header, *lines]) + "\n")
    point = ("--predict", "N=8B,D=2T")
    assert facts(capsys, "law", "fit", shuffled, *point) == facts(capsys, "law", "fit", runs, *point)


def test_the_units_of_n_and_d_change_nothing(tmp_path: Path, runs: str, capsys: pytest.CaptureFixture[str]) -> None:
    """In thousands: compute and everything of N and D is smaller by as much, every loss the same."""
    header, *lines = Path(runs).read_text().splitlines()
    cells = [line.split(",") for line in lines]
    scaled = [f"{float(n) / 1e3!r},{float(d) / 1e3!r},{loss}" for n, d, loss in cells]
    path = written(tmp_path, "\n".join([header, *scaled]) + "\n", "scaled.csv")
    usual = facts(capsys, "law", "fit", runs, "--predict", "N=8B,D=2T")
    found = facts(capsys, "law", "fit", path, "--predict", "N=8M,D=2B")
    for key in ("loss", "low_80", "high_80", "low_95", "high_95"):
        assert found["predictions"][0][key] == pytest.approx(usual["predictions"][0][key], rel=1e-6)
    for key in ("value", "low_80", "high_95"):
        for quantity in ("params", "tokens"):
            assert 1e3 * found["optimum"][quantity][key] == pytest.approx(usual["optimum"][quantity][key], rel=1e-4)
    assert found["kappa"] == pytest.approx(usual["kappa"], rel=1e-6)
    assert found["hold_out"] == pytest.approx(usual["hold_out"], rel=1e-5)


def test_a_law_draws_itself(tmp_path: Path, runs: str, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("law.PNG", "law.svg"):
        printed(capsys, "law", "fit", runs, "--plot", str(tmp_path / name))
    assert (tmp_path / "law.PNG").read_bytes().startswith(b"\x89PNG")
    drawn = (tmp_path / "law.svg").read_text()
    assert "not fitted, as diamonds" in drawn  # at the default hold-out


def test_a_picture_of_a_law_needs_matplotlib_alone(
    tmp_path: Path, runs: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "analytic.report.law_plot", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib.axes", None)
    files = ("--plot", str(tmp_path / "law.png"), "--write-law", str(tmp_path / "my.toml"))
    assert "--plot needs matplotlib" in refusal(capsys, "law", "fit", runs, *files)
    assert [found.name for found in tmp_path.iterdir()] == ["runs.csv"]


def test_a_bound_that_says_nothing_is_not_spelled_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Six runs of one ratio and no prior leave the law open."""
    path = written(tmp_path, simulated(0.002))
    out = printed(capsys, "law", "fit", path, "--form", "additive", "--min-ratio", "60")
    assert "to over 100 (80%)" in out
    assert max(map(len, out.splitlines()[3].split())) < 20
