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
        (GOOD + "7B,1e9,3\n", (), "runs.csv: line 20: column 'N' = '7B': expected a number from 1e-12 to 1e+15"),
        (GOOD + "1e8,1e9\n", (), "runs.csv: line 20: 2 cells, expected 3"),
        (GOOD + "1e8,nan,3\n", (), "line 20: column 'D' = 'nan'"),
        (GOOD + "1e8,1e9,-3\n", (), "line 20: column 'loss' = '-3'"),
        ("N,D,loss\n1e8,2e9,3\n", (), "runs.csv: 1 runs of at least 1 tokens per parameter, expected at least 4"),
        (GOOD, ("--min-ratio", "1000"), "runs.csv: 0 runs of at least 1000 tokens per parameter"),
        (GOOD, ("--min-ratio", "-1"), "--min-ratio: '-1'"),
        (GOOD, ("--columns", "N=size"), "column 'size' is not in the header"),
        (GOOD, ("--columns", "M=size"), "columns 'M=size'"),
        (GOOD, ("--columns", "N=a,N=b"), "columns 'N=a,N=b': 'N=b'"),
        (
            GOOD,
            ("--config-column", "N", "--columns", "N=N"),
            "columns 'N=N': expected no N, which the column of configurations gives",
        ),
        (GOOD, ("--config-column", "N"), "runs.csv: line 2: column 'N': "),
        (GOOD, ("--config-column", ""), "runs.csv: column '' is not in the header"),
        (GOOD, ("--unique-column", "U"), "column 'U' is not in the header"),
        (GOOD, ("--form", "cubic"), "invalid choice: 'cubic'"),
        (GOOD, ("--form", "repeats"), "form repeats: expected a unique column"),
        (GOOD, ("--form", "repeats", "--flops", "1e22"), "flops: not with the form repeats"),
        (GOOD, ("--form", "additive", "--prior", "none"), "prior: only with the form coupled, not additive"),
        (GOOD, ("--prior", "absent.toml"), "absent.toml: No such file"),
        (GOOD, ("--objective", "l2"), "invalid choice: 'l2'"),
        (GOOD, ("--n-means", "active"), "invalid choice: 'active'"),
        (GOOD, ("--hold-out", "9"), "runs.csv: hold out: nothing to hold out 9 decades below the largest run"),
        (GOOD, ("--hold-out", "0"), "--hold-out: '0'"),
        (GOOD, ("--predict", "N=8B"), "predict 'N=8B': D is missing"),
        (GOOD, ("--predict", "N=8B,D=lots"), "'lots': expected a number"),
        (GOOD, ("--predict", "N=8B,D=0"), "D = 0: expected from 1 to"),
        (GOOD, ("--predict", "N=8B,D=2T,U=1T"), "predict 'N=8B,D=2T,U=1T': 'U=1T'"),
        (GOOD, ("--flops", "1e33"), "--flops: '1e33'"),
        (GOOD, ("--write-law", "my.json"), "expected a path that ends in .toml"),
        (GOOD, ("--write-law", "besiroglu.toml"), "besiroglu is a shipped law"),
        (GOOD, ("--write-law", "deepseek.toml"), "deepseek is a shipped law"),
        (GOOD, ("--write-law", "absent/my.toml"), "absent/my.toml: cannot be written"),
        (GOOD, ("--strickt",), "did you mean --strict?"),
        (GOOD, ("--schedule-column", "lr"), "runs.csv: column 'lr' is not in the header (N, D, loss)"),
        (GOOD, ("--plot", "law.pdf"), "--plot: 'law.pdf': expected a path that ends in .png or .svg"),
        (GOOD, ("--plot", "/nowhere/law.svg"), "/nowhere/law.svg: cannot be written"),
        (GOOD, ("--form", "repeats", "--plot", "law.svg"), "--plot: not with --form repeats"),
        (GOOD, ("--form", "repeats", "--strict"), "--strict: not with --form repeats"),
        (GOOD, ("--form", "repeats", "--write-law", "my.toml"), "--write-law: not with --form repeats"),
        (GOOD, ("--form", "repeats", "--hold-out", "1"), "hold_out: not with the form repeats"),
        (GOOD, ("--form", "repeats", "--prior", "none"), "prior: not with the form repeats"),
        (GOOD, ("--form", "repeats", "--objective", "mad"), "objective: not with the form repeats"),
        (GOOD, ("--predict", "N=8B,D=2T,N=1B"), "predict 'N=8B,D=2T,N=1B': 'N=1B': expected N=..,D=.., each once"),
        (GOOD, ("--predict", "N=1e16,D=2T"), "predict 'N=1e16,D=2T': N = 1e16: expected from 1 to 1e+15"),
        (GOOD, ("--min-ratio", "nan"), "--min-ratio: 'nan'"),
        (GOOD, ("--hold-out", "21"), "--hold-out: '21'"),
        (GOOD, ("--flops", "0"), "--flops: '0'"),
        (GOOD, ("--columns", "N=N,,D=D"), "columns 'N=N,,D=D': '': expected N=..,D=..,loss=.., each once"),
        (GOOD, ("--columns", "loss"), "columns 'loss': 'loss': expected N=..,D=..,loss=.., each once"),
        (GOOD, ("--prior", "runs.csv"), "runs.csv: No such file"),
        (GOOD.replace("loss", "perplexity", 1), ("--columns", "loss=ppl"), "column 'ppl' is not in the header"),
        (GOOD + "1e8,1e9,1e3\n", (), "line 20: column 'loss' = '1e3': expected a number from 1e-06 to 100"),
        (GOOD + "1e8;1e9;3\n", (), "line 20: 1 cells, expected 3 as in the header"),
        (GOOD + "1e8,1e9,3.1 nats\n", (), "line 20: column 'loss' = '3.1 nats'"),
        (GOOD + '1e8,1e9,"3.1\n', (), "line 20: not CSV"),
        (GOOD + "1e8,,3\n", (), "line 20: column 'D' = ''"),
        (GOOD + "N,D,loss\n", (), "line 20: column 'N' = 'N'"),
        (GOOD.replace("loss", "D", 1), (), "runs.csv: column 'D' appears twice"),
        ("N,D,loss\n" + "1e8,2e9,3\n" * 9, (), "runs.csv: every run has N = 1e+08: expected at least two"),
        ("N,D,loss\n" + "".join(f"{i}e8,2e9,3\n" for i in range(1, 9)), (), "every run has D = 2e+09"),
        ("\x00", (), "runs.csv: column 'N' is not in the header"),
        (GOOD, ("--form", "additive", "--min-ratio", "81"), "0 runs of at least 81 tokens per parameter"),
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


def test_of_two_files_none_is_written_where_one_cannot_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, GOOD)
    same = str(tmp_path / "law.svg")
    assert "expected a path that ends in .toml" in refusal(
        capsys, "law", "fit", path, "--plot", same, "--write-law", same
    )
    assert "/nowhere/my.toml: cannot be written" in refusal(
        capsys, "law", "fit", path, "--plot", same, "--write-law", "/nowhere/my.toml"
    )
    assert [found.name for found in tmp_path.iterdir()] == ["runs.csv"]
