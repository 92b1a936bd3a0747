"""An answer: its typed value, and the document that the command prints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from analytic.report.document import Document
from analytic.report.html import document_html
from analytic.report.json import document_object
from analytic.report.text import document_text

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Result(Generic[Value]):
    """An answer: the typed value, and the document that the command prints.

    `result["key"]` is a figure of its JSON, `str(result)` the command's answer, and notebooks show it as a table.
    """

    value: Value
    document: Document

    @property
    def data(self) -> dict[str, Any]:
        """What `--json` prints."""
        return document_object(self.document)

    def __getitem__(self, key: str) -> Any:
        return self.data[key]

    def __str__(self) -> str:
        return document_text(self.document, is_verbose=False)

    def _repr_html_(self) -> str:
        return document_html(self.document)
