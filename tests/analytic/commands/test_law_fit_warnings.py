"""What `law fit` warns of."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from analytic.io.files import configs_dir
from empirical.commands.main import main
from tests.commands import facts
from tests.law_runs import RATIOS, SIZES, simulated, written

RUNS = configs_dir() / "laws" / "runs"
OLMO = str(RUNS / "olmo-c4.csv")


@pytest.fixture
def runs(tmp_path: Path) -> str:
    return written(tmp_path, simulated(0.002))


def warned(capsys: pytest.CaptureFixture[str], *argv: str) -> list[str]:
    found: list[str] = facts(capsys, "law", "fit", *argv)["warnings"]
    return found


def test_few_runs_are_a_warning_and_no_backtest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, "\n".join(simulated().splitlines()[:6]) + "\n")
    found = facts(capsys, "law", "fit", path)
    assert found["hold_out"] is None
    assert any(warning.startswith("5 runs: intervals were checked") for warning in found["warnings"])
    assert any(warning.startswith("no backtest") for warning in found["warnings"])
    assert main(["law", "fit", path, "--strict"]) == 1


def test_beyond_a_decade_and_a_half_twenty_tokens_a_parameter(runs: str, capsys: pytest.CaptureFixture[str]) -> None:
    """C = 6 N 20 N: 4.8e22 FLOP are N = 2e10 and D = 4e11."""
    (warning,) = [w for w in warned(capsys, runs, "--flops", "4.8e22") if "D = 20 N" in w]
    assert "2.0 decades beyond" in warning
    assert warning.endswith("here N 20B, D 400B")
    assert not [w for w in warned(capsys, runs, "--flops", "1.4e22") if "D = 20 N" in w]
    far = warned(capsys, runs, "--predict", "N=1B,D=80T")
    assert any("1 of the runs predicted are beyond 1 decade, at most 3.0" in w for w in far)


def test_a_k_that_the_runs_leave_open_is_said(tmp_path: Path, runs: str, capsys: pytest.CaptureFixture[str]) -> None:
    noisy = written(tmp_path, simulated(0.03), "noisy.csv")
    assert any(w.startswith("k is not identified") for w in warned(capsys, noisy))
    assert not any(w.startswith("k is not identified") for w in warned(capsys, OLMO))


def scheduled(large: str, header: str = "schedule") -> str:
    """The simulated runs, the largest size with another schedule."""
    head, *lines = simulated(0.002).splitlines()
    rows = [f"{line},{large if line.startswith('1000000000.0') else 'cosine'}" for line in lines]
    return "\n".join([f"{head},{header}", *rows]) + "\n"


def test_schedules_that_differ_are_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """15 runs of up to 6 x 5e8 x 4e10 FLOP, and three of 1e9 parameters and up to 8e10 tokens: 4.8e20."""
    path = written(tmp_path, scheduled("wsd"))
    (warning,) = [w for w in warned(capsys, path) if "schedule" in w]
    assert warning.startswith("2 schedules: cosine (15, up to 1.2e+20 FLOP), wsd (3, up to 4.8e+20 FLOP)")
    assert not [w for w in warned(capsys, written(tmp_path, scheduled("cosine"))) if "schedule" in w]
    named = written(tmp_path, scheduled("wsd", "lr"), "named.csv")
    assert not [w for w in warned(capsys, named) if "schedule" in w]
    assert [w for w in warned(capsys, named, "--schedule-column", "lr") if w.startswith("2 schedules")]
    assert [w for w in warned(capsys, written(tmp_path, scheduled(""))) if "not stated (3" in w]


def test_laws_that_disagree_are_a_warning(tmp_path: Path, runs: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A law of E = 0 and slow exponents is far from a published one of any scale."""
    lines = ["N,D,loss"]
    for params in SIZES:
        lines += [f"{params},{r * params},{30 / params**0.12 + 60 / (r * params) ** 0.13!r}" for r in RATIOS]
    path = written(tmp_path, "\n".join(lines) + "\n", "slow.csv")
    point = ("--predict", "N=1B,D=20B")
    found = facts(capsys, "law", "fit", path, "--form", "zero_e", *point)
    scaled = [one for one in found["comparisons"] if one["law"].startswith("besiroglu x ")]
    assert [one["disagrees"] for one in scaled] == [True, True]
    (warning,) = [w for w in found["warnings"] if w.startswith("besiroglu x ")]
    own = (found["predictions"][0]["loss"], found["optimum"]["loss"]["value"])
    apart = [abs(math.log(one["loss"] / loss)) for one, loss in zip(scaled, own, strict=True)]
    assert f"says {scaled[apart.index(max(apart))]['loss']:.3f} at N" in warning
    agreed = facts(capsys, "law", "fit", runs, "--form", "additive", *point)
    assert agreed["comparisons"][0]["law"] == "additive, huber-1e-3"
    assert [one["disagrees"] for one in agreed["comparisons"] if one["law"].startswith("additive")] == [False, False]
