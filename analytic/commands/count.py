"""`foretrain count`: parameters, FLOPs and memory of a model, from the formulas alone."""

from __future__ import annotations

from argparse import Namespace

from analytic.api import count
from analytic.commands.options import Parser, add_flags, add_model, given
from analytic.commands.verb import document_verb
from analytic.report.document import Document

FLAGS = ("seq_len", "batch_size", "attention", "recompute", "mtp")
MEMORY = ("micro_batch", "precision", "optimizer", "master_weights", "attention_kernel", "accumulating", "rounding")


def _add_arguments(parser: Parser) -> None:
    add_model(parser)
    add_flags(parser, *FLAGS)
    add_flags(parser.add_argument_group("memory of a training step on one GPU"), *MEMORY)


def _answer(args: Namespace) -> Document:
    return count(args.model, **given(args, *FLAGS, *MEMORY)).document


VERB = document_verb(
    name="count",
    summary="Parameters, FLOPs and memory of a model, from formulas that `foretrain prove` checks.",
    examples=(
        "foretrain count llama-3-8b",
        "foretrain count path/to/config.json --seq-len 8k --precision fp16 --recompute full -v",
    ),
    add_arguments=_add_arguments,
    answer=_answer,
)
