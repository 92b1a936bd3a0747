"""A document as one JSON object, in base units."""

from __future__ import annotations

import json
from typing import assert_never

from analytic.report.document import Count, Document, Figure, Item, Json, Note, Table, Terms
from analytic.version import version

LARGEST_EXACT_FLOAT = 2**53  # a reader that parses every number as a double may lose larger integers


def document_json(document: Document) -> str:
    """The text of the object. Integers above 2^53 have a float twin, `NAME_float`.

    `schema` names the keys, which docs/json.md lists; `version` is that of the tool.
    """
    return json.dumps(document_object(document), indent=2, allow_nan=False) + "\n"


def document_object(document: Document) -> dict[str, Json]:
    """The object itself."""
    result: dict[str, Json] = {"schema": f"foretrain/{document.verb}/1", "version": version()}
    for section in document.sections:
        for item in section.items:
            _add(result, item)
    result["warnings"] = list(document.warnings)
    return result


def _add(into: dict[str, Json], item: Item) -> None:
    match item:
        case Figure(key=key, value=value) | Count(key=key, value=value):
            if key:
                _put(into, key, value)
        case Terms(key=key, values=values):
            _put(into, key, dict(values))
        case Table(key=key, columns=columns, rows=rows):
            if key:
                keys = [column.key for column in columns]
                _put(into, key, [_row(keys, [cell.value for cell in row]) for row in rows])
        case Note():
            return
        case _:
            assert_never(item)


def _row(keys: list[str], values: list[Json]) -> dict[str, Json]:
    row: dict[str, Json] = {}
    for key, value in zip(keys, values, strict=True):
        if key:
            _put(row, key, value)
    return row


def _put(into: dict[str, Json], dotted: str, value: Json) -> None:
    """Set a value at a dotted key; a key that is there already is a mistake of ours."""
    *parents, leaf = dotted.split(".")
    for parent in parents:
        into = into.setdefault(parent, {})
    assert leaf not in into, dotted
    into[leaf] = value
    if type(value) is int and abs(value) > LARGEST_EXACT_FLOAT:
        into[f"{leaf}_float"] = float(value)
