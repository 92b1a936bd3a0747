"""Bad input of `law fit`: one line, exit 2."""

from __future__ import annotations

from pathlib import Path

import pytest

from analytic.io.files import configs_dir
from tests.commands import refusal
from tests.law_runs import simulated, written

RUNS = configs_dir() / "laws" / "runs"
GOOD = simulated(0.002)
OLMO = str(RUNS / "olmo-c4.csv")


@pytest.fixture
def runs(tmp_path: Path) -> str:
    return written(tmp_path, simulated(0.002))


@pytest.mark.parametrize(
    ("text", "argv", "message"),
    [
        ("", (), "runs.csv: no runs below the header"),
        ("N,D\n1e8,2e9\n", (), "runs.csv: column 'loss' is not in the header (N, D)"),
        (GOOD + "7B,1e9,3\n", (), "runs.csv: line 20: column 'N' = '7B': expected a number above 0"),
        (GOOD + "1e8,1e9\n", (), "runs.csv: line 20: 2 cells, expected 3"),
        (GOOD + "1e8,nan,3\n", (), "line 20: column 'D' = 'nan'"),
        (GOOD + "1e8,1e9,-3\n", (), "line 20: column 'loss' = '-3'"),
        ("N,D,loss\n1e8,2e9,3\n", (), "runs.csv: 1 runs of at least 1 tokens per parameter, expected at least 4"),
        (GOOD, ("--min-ratio", "1000"), "runs.csv: 0 runs of at least 1000 tokens per parameter"),
        (GOOD, ("--min-ratio", "-1"), "--min-ratio: '-1'"),
        (GOOD, ("--columns", "N=size"), "column 'size' is not in the header"),
        (GOOD, ("--columns", "M=size"), "--columns 'M=size'"),
        (GOOD, ("--columns", "N=a,N=b"), "--columns 'N=a,N=b': 'N=b'"),
        (GOOD, ("--config-column", "N", "--columns", "N=N"), "--columns N=: not with --config-column"),
        (GOOD, ("--config-column", "N"), "runs.csv: line 2: column 'N': "),
        (GOOD, ("--unique-column", "U"), "column 'U' is not in the header"),
        (GOOD, ("--form", "cubic"), "invalid choice: 'cubic'"),
        (GOOD, ("--form", "repeats"), "--form repeats: expected --unique-column"),
        (GOOD, ("--form", "repeats", "--flops", "1e22"), "--flops: not with --form repeats"),
        (GOOD, ("--form", "additive", "--prior", "none"), "--prior: only with --form coupled, not additive"),
        (GOOD, ("--prior", "absent.toml"), "absent.toml: No such file"),
        (GOOD, ("--objective", "l2"), "invalid choice: 'l2'"),
        (GOOD, ("--n-means", "active"), "invalid choice: 'active'"),
        (GOOD, ("--hold-out", "9"), "runs.csv: --hold-out: nothing to hold out 9 decades below the largest run"),
        (GOOD, ("--hold-out", "0"), "--hold-out: '0'"),
        (GOOD, ("--predict", "N=8B"), "--predict 'N=8B': D is missing"),
        (GOOD, ("--predict", "N=8B,D=lots"), "'lots': expected a number"),
        (GOOD, ("--predict", "N=8B,D=0"), "D = 0: expected from 1 to"),
        (GOOD, ("--predict", "N=8B,D=2T,U=1T"), "--predict 'N=8B,D=2T,U=1T': 'U=1T'"),
        (GOOD, ("--flops", "1e33"), "--flops: '1e33'"),
        (GOOD, ("--write-law", "my.json"), "expected a path that ends in .toml"),
        (GOOD, ("--write-law", "besiroglu.toml"), "besiroglu is a shipped law"),
        (GOOD, ("--write-law", "deepseek.toml"), "deepseek is a shipped law"),
        (GOOD, ("--write-law", "absent/my.toml"), "absent/my.toml: cannot be written"),
        (GOOD, ("--strickt",), "did you mean --strict?"),
    ],
)
def test_bad_input_is_one_line(
    text: str, argv: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, text)
    assert message in refusal(capsys, "law", "fit", path, *argv)
    assert [found.name for found in tmp_path.iterdir()] == ["runs.csv"]


def test_what_fits_is_not_for_show(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--predict: only with law fit" in refusal(capsys, "law", "show", "besiroglu", "--predict", "N=8B,D=2T")
    assert "absent.csv: No such file" in refusal(capsys, "law", "fit", "absent.csv")
