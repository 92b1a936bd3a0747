"""Runs from a CSV: what is read, and every fault by its line and column."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from analytic.errors import FileError, SpecError
from analytic.scaling.runs import MOST_RUNS, Columns, Run, read_runs

GOOD = "N,D,loss\n7e7,1.4e9,3.9\n1.6e8,3.2e9,3.4\n"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "runs.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_runs_are_read_in_order(tmp_path: Path) -> None:
    assert read_runs(written(tmp_path, GOOD)) == (Run(7e7, 1.4e9, 3.9), Run(1.6e8, 3.2e9, 3.4))


def test_comments_blank_lines_spaces_quotes_and_further_columns_are_ignored(tmp_path: Path) -> None:
    text = '\ufeff# ours\n\nname, loss ,D,N\n"a, b", 3.9 ,"1400000000",+7.0E7\n# the end\n'
    assert read_runs(written(tmp_path, text)) == (Run(7e7, 1.4e9, 3.9),)


def test_columns_have_the_names_asked_for(tmp_path: Path) -> None:
    columns = Columns(params="size", tokens="seen", loss="val", unique_tokens="own")
    (run,) = read_runs(written(tmp_path, "size,seen,val,own\n7e7,4e9,3.9,1e9\n"), columns)
    assert run == Run(7e7, 4e9, 3.9, unique_tokens=1e9)


def test_compute_is_6nd_unless_a_configuration_is_counted(tmp_path: Path) -> None:
    assert Run(2.0, 3.0, 1.0).flops == 36.0
    path = written(tmp_path, "config,D,loss\nsmall,10,3.0\n")
    (run,) = read_runs(path, Columns(config="config"), lambda cell: (len(cell), 7.0))
    assert run == Run(5, 10.0, 3.0, math.inf, 7.0)
    assert run.flops == 70.0


def test_a_configuration_that_cannot_be_counted_is_named_by_line_and_column(tmp_path: Path) -> None:
    def refuse(cell: str) -> tuple[float, float]:
        raise SpecError(f"{cell}: no such model")

    with pytest.raises(FileError, match=r"runs\.csv: line 2: column 'config': small: no such model$"):
        read_runs(written(tmp_path, "config,D,loss\nsmall,10,3.0\n"), Columns(config="config"), refuse)


NUMBERS = ["", "nan", "inf", "-inf", "-1", "0", "1e400", "1e-400", "7B", "1_000", "0x10", "1 000", "None", "1,0", "٣"]
BAD_CELLS = [
    *[("N", cell) for cell in [*NUMBERS, "1e16", "1e-13"]],
    *[("D", cell) for cell in [*NUMBERS, "1e19", "9e-13"]],
    *[("loss", cell) for cell in [*NUMBERS, "101", "9e-7"]],
]


@pytest.mark.parametrize(("column", "cell"), BAD_CELLS)
def test_a_bad_cell_is_named_by_line_column_and_value(tmp_path: Path, column: str, cell: str) -> None:
    cells = {"N": "7e7", "D": "1.4e9", "loss": "3.9"} | {column: f'"{cell}"'}
    path = written(tmp_path, f"# a comment\nN,D,loss\n1e8,2e9,3.5\n{','.join(cells.values())}\n")
    with pytest.raises(FileError) as caught:
        read_runs(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: line 4: column '{column}' = {cell!r}: expected a number from 1e-")
    assert "\n" not in message


BAD_FILES = {
    "": "no runs",
    "# only a comment\n": "no runs",
    "N,D,loss\n": "no runs below the header",
    "N,D\n1,2\n": "column 'loss' is not in the header",
    "n,d,loss\n1,2,3\n": "column 'N' is not in the header",
    "N;D;loss\n1;2;3\n": "column 'N' is not in the header",
    "N\tD\tloss\n1\t2\t3\n": "column 'N' is not in the header",
    "N,D,loss,N\n1,2,3,4\n": "column 'N' appears twice",
    "7e7,1.4e9,3.9\n": "column 'N' is not in the header",
    "N,D,loss\n1,2\n": "line 2: 2 cells, expected 3",
    "N,D,loss\n1,2,3,4\n": "line 2: 4 cells, expected 3",
    "N,D,loss\n1,2,3\n\n1,2,3,4\n": "line 4: 4 cells, expected 3",
    'N,D,loss\n1,2,"3\n': "line 2: not CSV",
    'N,D,loss\n1,2,"3"x\n': "line 2: not CSV",
    "N,D,loss\n" + "1" * 200_000 + ",2,3\n": "line 2: not CSV",
    '{"N": 1}': "column 'N' is not in the header",
    "N,D,loss\n" + "1,2,3\n" * (MOST_RUNS + 1): f"expected at most {MOST_RUNS}",
}


@pytest.mark.parametrize("text", BAD_FILES, ids=list(map(str, range(len(BAD_FILES)))))
def test_a_bad_file_is_one_line(tmp_path: Path, text: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(FileError) as caught:
        read_runs(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert BAD_FILES[text] in message
    assert "\n" not in message
    assert len(message) < 300 + len(str(path))


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_bytes(b"\x80\x04\x95 a pickle")
    with pytest.raises(FileError, match="not UTF-8 text"):
        read_runs(path)
    with pytest.raises(FileError, match="No such file"):
        read_runs(tmp_path / "absent.csv")
