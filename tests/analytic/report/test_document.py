"""A document as text and as JSON: one is what people read, the other what machines read, of the same figures."""

from __future__ import annotations

import json

import pytest

from analytic.report.document import (
    Cell,
    Column,
    Count,
    Document,
    Figure,
    Item,
    Line,
    Note,
    Section,
    Table,
    Terms,
    fact,
    facts,
)
from analytic.report.json import document_json, document_object
from analytic.report.text import document_text
from analytic.version import version

TABLE = Table(
    "rows",
    (Column("name", "name", is_left=True), Column("hidden", ""), Column("", "shown")),
    [[Cell("a", "A"), Cell(1, "no"), Cell(None, "10")], [Cell("bbb", "B"), Cell(2, "no"), Cell(None, "7")]],
)


def of(*items: Item, warnings: tuple[str, ...] = ()) -> Document:
    return Document("count", [Line("answer", "42"), Line("x", "y")], [Section("title", items)], warnings)


def text(*items: Item) -> str:
    """The section alone."""
    return document_text(of(*items), is_verbose=True).partition("\n\n")[2]


def test_json_begins_with_its_schema_and_version_and_ends_with_warnings() -> None:
    found = document_object(of(fact("a", 1), warnings=("careful",)))
    assert found == {"schema": "foretrain/count/1", "version": version(), "a": 1, "warnings": ["careful"]}
    assert list(found) == ["schema", "version", "a", "warnings"]


def test_dotted_keys_nest() -> None:
    found = document_object(of(*facts({"b": 1, "c.d": 2}, "a."), Terms("a.e", {"x.y": 3})))
    assert found["a"] == {"b": 1, "c": {"d": 2}, "e": {"x.y": 3}}


def test_a_key_is_given_once() -> None:
    with pytest.raises(AssertionError, match=r"^a\.b$"):
        document_object(of(fact("a.b", 1), Count("a.b", "label", 1)))


@pytest.mark.parametrize("value", [2**53 + 1, 10**24, -(2**53) - 1])
def test_an_integer_that_a_double_may_lose_has_a_twin(value: int) -> None:
    found = json.loads(document_json(of(fact("a.b", value))))
    assert found["a"] == {"b": value, "b_float": float(value)}
    assert isinstance(found["a"]["b_float"], float)


@pytest.mark.parametrize("value", [2**53, -(2**53), 1e300, True, None, "9" * 30])
def test_nothing_else_has_one(value: object) -> None:
    assert "a_float" not in document_object(of(fact("a", value)))


def test_twins_in_tables() -> None:
    table = Table("rows", (Column("flops", "C"),), [[Cell(10**20, "big")], [Cell(1, "small")]])
    assert document_object(of(table))["rows"] == [{"flops": 10**20, "flops_float": 1e20}, {"flops": 1}]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_json_has_not_is_no_figure(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        document_json(of(fact("a", value)))


def test_only_the_answer_and_the_warnings_without_verbose() -> None:
    document = of(Note("a note"), warnings=("careful",))
    assert document_text(document, is_verbose=False) == "answer  42\nx       y\nwarning: careful\n"
    assert document_text(document, is_verbose=True) == "answer  42\nx       y\nwarning: careful\n\ntitle\na note\n"


def test_a_figure_shows_its_text_and_its_origin() -> None:
    assert text(Figure("a", "label", 0.5)) == f"title\n{'label':<34}0.5\n"
    assert text(Figure("a", "label", 0.5, "a half", "counted")) == f"title\n{'label':<34}a half (counted)\n"


def test_a_count_is_printed_in_full() -> None:
    assert (
        text(Count("a", "label", 1234567, "1.2 M", "of it"))
        == f"title\n{'label':<44}{'1,234,567':>30}   1.2 M   of it\n"
    )


def test_what_has_no_label_is_for_machines() -> None:
    items = (fact("a", 1), Count("b", "", 2), Terms("c", {"x": 3}, is_shown=False))
    assert text(*items) == "\n"  # a section with nothing to show has no title either
    assert document_object(of(*items)).items() >= {"a": 1, "b": 2, "c": {"x": 3}}.items()


def test_what_has_no_key_is_for_people() -> None:
    items = (Figure("", "label", None, "said"), Note("noted"), Table("", TABLE.columns, TABLE.rows))
    assert document_object(of(*items)).keys() == {"schema", "version", "warnings"}
    assert "said" in text(*items)


def test_a_table_is_aligned_and_its_columns_need_a_heading_or_a_key() -> None:
    assert text(TABLE) == "title\nname  shown\nA        10\nB         7\n"
    assert document_object(of(TABLE))["rows"] == [{"name": "a", "hidden": 1}, {"name": "bbb", "hidden": 2}]
    assert text(Table("rows", (Column("name", ""),), [[Cell("a", "A")]])) == "\n"
