"""A document as text for people."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import assert_never

from analytic.report.document import Count, Document, Figure, Item, Line, Note, Section, Table, Terms

LABEL = 34
COUNT_LABEL, COUNT = 44, 30


def document_text(document: Document, *, is_verbose: bool) -> str:
    """The answer and the warnings; with `is_verbose` every section, too."""
    lines = [*_answer(document.answer), *(f"warning: {warning}" for warning in document.warnings)]
    answer = "\n".join(lines) + "\n"
    return f"{answer}\n{sections_text(document.sections)}" if is_verbose else answer


def sections_text(sections: Iterable[Section]) -> str:
    """Every section that has something for people, an empty line between them."""
    blocks = ["\n".join(_section(section)) for section in sections]
    return "\n\n".join(block for block in blocks if block) + "\n"


def table(rows: Iterable[Sequence[str]], *, left: int = 1) -> list[str]:
    """Aligned columns, the first `left` of them to the left and the rest to the right."""
    return aligned(rows, lambda i: i < left)


def aligned(rows: Iterable[Sequence[str]], is_left: Callable[[int], bool]) -> list[str]:
    """Columns as wide as their widest cell."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(w) if is_left(i) else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def figure_line(label: str, text: str) -> str:
    return f"{label:<{LABEL}}{text}".rstrip()


def count_line(label: str, value: int, rounded: str = "") -> str:
    """A labelled integer in full, and rounded next to it."""
    return f"{label:<{COUNT_LABEL}}{value:>{COUNT},}   {rounded}".rstrip()


def _answer(lines: Sequence[Line]) -> Iterator[str]:
    width = max((len(line.label) for line in lines), default=0) + 2
    return (f"{line.label:<{width}}{line.text}" for line in lines)


def _section(section: Section) -> Iterator[str]:
    lines = [line for item in section.items for line in _item(item)]
    if section.title and lines:
        yield section.title
    yield from lines


def _item(item: Item) -> Iterator[str]:
    match item:
        case Figure(label="") | Count(label="") | Terms(is_shown=False):
            return
        case Figure(label=label, value=value, text=text, origin=origin):
            said = str(value) if text is None else text
            yield figure_line(label, f"{said} ({origin})" if origin else said)
        case Count(label=label, value=count, rounded=rounded, remark=remark):
            yield count_line(label, count, f"{rounded}   {remark}" if remark else rounded)
        case Terms(values=values):
            yield from (count_line(f"  {term}", value) for term, value in values.items())
        case Table():
            yield from table_lines(item)
        case Note(text=text):
            yield text
        case _:
            assert_never(item)


def table_lines(item: Table) -> Iterator[str]:
    """What people see of a table."""
    shown = [i for i, column in enumerate(item.columns) if column.heading]
    if not shown:
        return
    rows = [[item.columns[i].heading for i in shown], *([row[i].text for i in shown] for row in item.rows)]
    yield from aligned(rows, lambda i: item.columns[shown[i]].is_left)
