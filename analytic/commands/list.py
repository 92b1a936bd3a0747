"""`foretrain list`: the models, families, GPUs, laws and published runs that are known."""

from __future__ import annotations

from argparse import Namespace

from analytic.commands.options import Parser
from analytic.commands.verb import document_verb
from analytic.report.catalogue import TABLES, catalogue_document
from analytic.report.document import Document


def _add_arguments(parser: Parser) -> None:
    parser.add_argument("what", choices=tuple(TABLES), metavar="|".join(TABLES), help="what to list")


def _answer(args: Namespace) -> Document:
    return catalogue_document(args.what)


VERB = document_verb(
    name="list",
    summary="What is known: models, families, GPUs, laws, published runs.",
    examples=("foretrain list models", "foretrain list gpus --json"),
    add_arguments=_add_arguments,
    answer=_answer,
    is_always_verbose=True,
)
