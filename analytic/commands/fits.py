"""`foretrain fits`: does a model train on these GPUs, and how large a micro-batch do they take."""

from __future__ import annotations

from argparse import Namespace

from analytic.api import fits
from analytic.commands.options import Parser, add_flags, add_model, given, refuse
from analytic.commands.verb import document_verb
from analytic.report.document import Document

FLAGS = ("reserve", "seq_len", "micro_batch", "recompute", "precision", "optimizer", "attention_kernel")


def _add_arguments(parser: Parser) -> None:
    add_model(parser)
    add_flags(parser, "gpus", *FLAGS, help_of={"recompute": "none or full; default: the least that fits"})


def _answer(args: Namespace) -> Document:
    refuse(args.gpus is None, "--gpus: expected GPUs such as 8xa100-80 or 1x80GiB")
    return fits(args.model, args.gpus, **given(args, *FLAGS)).document


VERB = document_verb(
    name="fits",
    summary="Does a model train on these GPUs: memory of each, the largest micro-batch, the longest sequence.",
    examples=(
        "foretrain fits llama-3.2-1b --gpus 1xh100 --seq-len 8k",
        "foretrain fits llama-3-8b --gpus 8xa100-80 --micro-batch 2",
    ),
    add_arguments=_add_arguments,
    answer=_answer,
)
