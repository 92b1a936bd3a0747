"""`foretrain law`: what a scaling law says and where it was fitted, and a law of one's own from a CSV of runs."""

from __future__ import annotations

from argparse import Namespace

from analytic.commands.law_fit import FIT_OPTIONS, fit
from analytic.commands.options import Parser, add_flags, given, refuse
from analytic.commands.verb import Verb, add_verbose, print_document
from analytic.report.law import law_document
from analytic.scaling.law_file import load_any_law


def _add_arguments(parser: Parser) -> None:
    parser.add_argument("action", choices=("show", "fit"), metavar="show|fit", help="show a law, or fit one to runs")
    parser.add_argument(
        "law", metavar="LAW|RUNS.csv", help="show: a shipped law, or a TOML file with one; fit: runs, a line each"
    )
    add_flags(parser.add_argument_group("fit"), *FIT_OPTIONS)
    add_verbose(parser)


def _execute(args: Namespace) -> int:
    if args.action == "fit":
        document, is_failed = fit(args)
    else:
        for name in given(args, *FIT_OPTIONS):
            refuse(True, f"--{name.replace('_', '-')}: only with law fit")
        document, is_failed = law_document(load_any_law(args.law)), False
    print_document(document, is_json=args.json, is_verbose=args.verbose)
    return 1 if is_failed else 0


VERB = Verb(
    name="law",
    summary="Scaling laws: what one says and where it was fitted; one's own, from a CSV of runs, with intervals.",
    examples=("foretrain law show besiroglu", "foretrain law fit runs.csv --predict N=8B,D=2T --write-law my.toml"),
    add_arguments=_add_arguments,
    execute=_execute,
)
