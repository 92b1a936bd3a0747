"""`foretrain check-run`: the MFU that a published run implies."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from analytic.commands.options import Parser
from analytic.commands.verb import document_verb
from analytic.hardware.table import load_hardware
from analytic.io.files import configs_dir
from analytic.planning.published_run import load_run, shipped_runs
from analytic.report.document import Document
from analytic.report.published_run import published_run_document


def _add_arguments(parser: Parser) -> None:
    parser.add_argument("run", metavar="RUN", help="a shipped run (`foretrain list runs`), or a TOML file with one")


def _answer(args: Namespace) -> Document:
    hardware = load_hardware()
    shipped = configs_dir() / "runs" / f"{args.run}.toml"
    path = shipped if "/" not in args.run and shipped.exists() else Path(args.run)
    return published_run_document(load_run(path, hardware), shipped_runs(hardware))


VERB = document_verb(
    name="check-run",
    summary="The MFU that the figures of a published run imply.",
    examples=("foretrain check-run deepseek-v3", "foretrain check-run my_run.toml --json"),
    add_arguments=_add_arguments,
    answer=_answer,
)
