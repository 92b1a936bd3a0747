"""A document as a fragment of HTML, for notebooks."""

from __future__ import annotations

from html import escape

from analytic.report.document import Document


def document_html(document: Document) -> str:
    """The answer and the warnings as a table."""
    rows = [(line.label, line.text) for line in document.answer]
    rows += [("warning", warning) for warning in document.warnings]
    cells = (f'<tr><th style="text-align:left">{escape(a)}</th><td>{escape(b)}</td></tr>' for a, b in rows)
    return f"<table>{''.join(cells)}</table>"
