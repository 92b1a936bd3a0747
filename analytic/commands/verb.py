"""What a verb of the command is, and how it runs."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from analytic.commands.options import Parser, add_flags
from analytic.commands.run import run
from analytic.report.document import Document
from analytic.report.json import document_json
from analytic.report.text import document_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """One verb.

    Attributes:
        summary: one line. examples: two commands, for `--help`.
        add_arguments: to its parser. execute: the parsed arguments; returns the exit status.
    """

    name: str
    summary: str
    examples: tuple[str, str]
    add_arguments: Callable[[Parser], None]
    execute: Callable[[Namespace], int]

    def main(self, argv: Sequence[str] | None = None) -> int:
        """Run the verb. Returns the exit status, which is 2 on bad input."""
        return run(f"foretrain {self.name}", lambda: self.execute(self._parser().parse_args(argv)))

    def _parser(self) -> Parser:
        parser = Parser(prog=f"foretrain {self.name}", description=self.summary, examples=self.examples)
        self.add_arguments(parser)
        add_flags(parser, "json")
        return parser


def document_verb(
    *,
    name: str,
    summary: str,
    examples: tuple[str, str],
    add_arguments: Callable[[Parser], None],
    answer: Callable[[Namespace], Document],
    is_always_verbose: bool = False,
) -> Verb:
    """A verb that answers with a document, printed as text or as JSON.

    Args:
        is_always_verbose: its sections are the answer, and there is no `-v`.
    """

    def add_all(parser: Parser) -> None:
        add_arguments(parser)
        if not is_always_verbose:
            add_verbose(parser)

    def execute(args: Namespace) -> int:
        print_document(answer(args), is_json=args.json, is_verbose=is_always_verbose or args.verbose)
        return 0

    return Verb(name=name, summary=summary, examples=examples, add_arguments=add_all, execute=execute)


def add_verbose(parser: Parser) -> None:
    parser.add_argument("-v", "--verbose", action="store_true", help="every term, with its origin")


def print_document(document: Document, *, is_json: bool, is_verbose: bool) -> None:
    sys.stdout.write(document_json(document) if is_json else document_text(document, is_verbose=is_verbose))
