"""Runs to fit a law to: N, D and loss of each, from a CSV file whose faults are named by line and column."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from analytic.errors import FileError, PlannerError, UsageError
from analytic.io.files import read_text
from analytic.io.located import located
from analytic.limits import MAX_PARAMETERS, MOST_TOKENS

MOST_RUNS = 10_000
LEAST_AMOUNT = 1e-12  # of N and D, whatever their unit
LEAST_LOSS = 1e-6
MOST_LOSS = 100.0  # a guess among a million tokens costs 13.8 nats: more is a perplexity
DEFAULT_SCHEDULE = "schedule"
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)

# The parameters and the training FLOPs per token of a configuration that a cell names.
CountConfig = Callable[[str], tuple[float, float]]


@dataclass(frozen=True, slots=True, order=True)
class Run:
    """One training run.

    Attributes:
        params: N, as its source counts it.
        tokens: D, tokens seen.
        loss: nats per token.
        unique_tokens: distinct tokens; infinite where each was seen once.
        flops_per_token: of training; 6 N where it was not counted.
        schedule: of the learning rate, as its source names it.
    """

    params: float
    tokens: float
    loss: float
    unique_tokens: float = math.inf
    flops_per_token: float | None = None
    schedule: str = ""

    @property
    def flops(self) -> float:
        """Training compute."""
        return self.tokens * (6 * self.params if self.flops_per_token is None else self.flops_per_token)


@dataclass(frozen=True, slots=True)
class Columns:
    """What the columns of a file are called.

    Attributes:
        config: of cells that name a configuration, which then gives N and FLOPs per token in place of `params`.
        schedule: of learning-rate schedules; where None, the column "schedule" if there is one.
    """

    params: str = "N"
    tokens: str = "D"
    loss: str = "loss"
    unique_tokens: str | None = None
    config: str | None = None
    schedule: str | None = None


def columns_named(
    text: str, *, config: str | None = None, unique_tokens: str | None = None, schedule: str | None = None
) -> Columns:
    """Columns from text such as `N=size,D=seen,loss=val`; what is not named has its usual name.

    Raises:
        UsageError: another text, or N named although configurations give it.
    """
    with located(f"columns {text!r}"):
        named = named_values(text, ("N", "D", "loss"))
        if "N" in named and config is not None:
            raise UsageError("expected no N, which the column of configurations gives")
    return Columns(
        params=named.get("N", "N"),
        tokens=named.get("D", "D"),
        loss=named.get("loss", "loss"),
        unique_tokens=unique_tokens,
        config=config,
        schedule=schedule,
    )


def named_values(text: str, names: Sequence[str]) -> dict[str, str]:
    """`NAME=VALUE` between commas; each name once.

    >>> named_values("N=8B, D=2T", ("N", "D"))
    {'N': '8B', 'D': '2T'}
    """
    pairs: dict[str, str] = {}
    for part in text.split(",") if text else ():
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not value or name not in names or name in pairs:
            expected = ",".join(f"{one}=.." for one in names)
            raise UsageError(f"{part!r}: expected {expected}, each once")
        pairs[name] = value
    return pairs


def read_runs(path: Path, columns: Columns | None = None, count_config: CountConfig | None = None) -> tuple[Run, ...]:
    """The runs of a CSV file in its order. Lines that start with # are comments; further columns are ignored.

    Args:
        count_config: counts N and FLOPs per token of a cell of `columns.config`.

    Raises:
        FileError: naming the path, the line, the column, the value and what was expected.
    """
    columns = columns or Columns()
    text = read_text(path)
    try:
        runs = tuple(_located_run(line, cells, columns, count_config) for line, cells in _records(text, columns))
        if not runs:
            raise FileError("no runs below the header")
    except FileError as error:
        raise FileError(f"{path}: {error}") from None
    return runs


def _records(text: str, columns: Columns) -> Iterator[tuple[int, Mapping[str, str]]]:
    """The line number and the cells by column of each run; blank lines and comments are left out."""
    numbered = [(i, line) for i, line in enumerate(text.splitlines(), 1) if line.strip() and not line.startswith("#")]
    if len(numbered) > MOST_RUNS + 1:
        raise FileError(f"{len(numbered) - 1} lines below the header, expected at most {MOST_RUNS}")
    reader = csv.reader((line for _, line in numbered), strict=True)
    header: list[str] | None = None
    try:
        for cells in reader:
            line = numbered[reader.line_num - 1][0]
            if header is None:
                header = [cell.strip() for cell in cells]
                _check_header(header, columns)
            elif len(cells) != len(header):
                raise FileError(f"line {line}: {len(cells)} cells, expected {len(header)} as in the header")
            else:
                yield line, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise FileError(f"line {numbered[reader.line_num - 1][0]}: not CSV ({error})") from None


def _check_header(header: list[str], columns: Columns) -> None:
    """Raise unless every column that is read is there, once."""
    sizes = columns.params if columns.config is None else columns.config
    asked = [sizes, columns.tokens, columns.loss, columns.unique_tokens, columns.schedule]
    for column in asked:
        if column is not None and header.count(column) != 1:
            fault = "appears twice" if column in header else f"is not in the header ({_short(', '.join(header))})"
            raise FileError(f"column {column!r} {fault}")


def _located_run(line: int, cells: Mapping[str, str], columns: Columns, count_config: CountConfig | None) -> Run:
    try:
        return _run(cells, columns, count_config)
    except PlannerError as error:
        raise FileError(f"line {line}: {error}") from None


def _run(cells: Mapping[str, str], columns: Columns, count_config: CountConfig | None) -> Run:
    flops_per_token = None
    if columns.config is not None and count_config is not None:
        params, flops_per_token = _counted(cells[columns.config], columns.config, count_config)
    else:
        params = _number(cells, columns.params, LEAST_AMOUNT, MAX_PARAMETERS)
    unique = math.inf
    if columns.unique_tokens is not None:
        unique = _number(cells, columns.unique_tokens, LEAST_AMOUNT, MOST_TOKENS)
    return Run(
        params=params,
        tokens=_number(cells, columns.tokens, LEAST_AMOUNT, MOST_TOKENS),
        loss=_number(cells, columns.loss, LEAST_LOSS, MOST_LOSS),
        unique_tokens=unique,
        flops_per_token=flops_per_token,
        schedule=cells.get(columns.schedule or DEFAULT_SCHEDULE, "").strip(),
    )


def _counted(cell: str, column: str, count_config: CountConfig) -> tuple[float, float]:
    try:
        return count_config(cell.strip())
    except PlannerError as error:
        raise FileError(f"column {column!r}: {error}") from None


def _number(cells: Mapping[str, str], column: str, least: float, most: float) -> float:
    """A plain decimal number; not nan, not 1_000, not 7B."""
    cell = cells[column].strip()
    value = float(cell) if _NUMBER.fullmatch(cell) else math.nan
    if not least <= value <= most:
        raise FileError(f"column {column!r} = {_short(cell)!r}: expected a number from {least:g} to {most:g}")
    return value


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
