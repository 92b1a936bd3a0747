"""A result as a document: the answer in a few lines, then sections of figures, each with its unit and origin.

Text, JSON and later a page are renderings of one `Document`, so that they cannot disagree. A figure has a
key (its place in JSON, dotted; empty where only people read it) and a label (empty where only machines do).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Json = Any  # what `json.dumps` takes


@dataclass(frozen=True, slots=True)
class Figure:
    """One fact.

    Attributes:
        value: in base units, as JSON has it.
        text: the same for people, in a unit that they read; by default the value itself.
        origin: counted, measured, published, fitted or assumed, and where from.
    """

    key: str
    label: str
    value: Json
    text: str | None = None
    origin: str = ""


@dataclass(frozen=True, slots=True)
class Count:
    """An exact integer, printed in full and rounded, with a remark."""

    key: str
    label: str
    value: int
    rounded: str = ""
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Terms:
    """Integers by name: the terms that a total is made of. `label` True: people see them, too."""

    key: str
    values: Mapping[str, int]
    is_shown: bool = True


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table: its key in JSON ("" where only people read it), its heading ("" likewise)."""

    key: str
    heading: str
    is_left: bool = False


@dataclass(frozen=True, slots=True)
class Cell:
    """A value, and how people read it."""

    value: Json
    text: str


@dataclass(frozen=True, slots=True)
class Table:
    """Rows that share their columns: a list of objects in JSON."""

    key: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True, slots=True)
class Note:
    """A line that only people read."""

    text: str


Item = Figure | Count | Terms | Table | Note


@dataclass(frozen=True, slots=True)
class Section:
    """Figures that belong together, under a title that may be empty."""

    title: str
    items: Sequence[Item]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of an answer: what it is about, and what there is to say."""

    label: str
    text: str


@dataclass(frozen=True, slots=True)
class Document:
    """What a verb has to say.

    Attributes:
        verb: of the command; part of the name of the JSON schema.
        answer: at most eight lines: the answer, its range, the assumptions that matter most, the next command.
        sections: everything else, which `-v` prints.
        warnings: one line each, never silent.
    """

    verb: str
    answer: Sequence[Line]
    sections: Sequence[Section]
    warnings: Sequence[str] = field(default_factory=tuple)


def fact(key: str, value: Json) -> Figure:
    """A figure that only machines read."""
    return Figure(key, "", value)


def facts(values: Mapping[str, Json], prefix: str = "") -> Iterable[Figure]:
    """Several figures that only machines read, below a prefix."""
    return (fact(f"{prefix}{key}", value) for key, value in values.items())
