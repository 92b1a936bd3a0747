"""`foretrain law`: what a scaling law says, and where it was fitted."""

from __future__ import annotations

from argparse import Namespace

from analytic.commands.options import Parser
from analytic.commands.verb import document_verb
from analytic.report.document import Document
from analytic.report.law import law_document
from analytic.scaling.law_file import load_law


def _add_arguments(parser: Parser) -> None:
    parser.add_argument("action", choices=("show",), metavar="show", help="coefficients, origin and optimum of a law")
    parser.add_argument("law", metavar="NAME|FILE", help="a shipped law, or a TOML file with one")


def _answer(args: Namespace) -> Document:
    return law_document(load_law(args.law))


VERB = document_verb(
    name="law",
    summary="Scaling laws: what one says, and where it was fitted.",
    examples=("foretrain law show besiroglu", "foretrain law show my_law.toml --json"),
    add_arguments=_add_arguments,
    answer=_answer,
)
