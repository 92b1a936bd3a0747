"""`foretrain time`: days and dollars of a training run."""

from __future__ import annotations

from argparse import Namespace

from analytic.api import time
from analytic.commands.options import Parser, add_flags, add_model, given, mfus, refuse
from analytic.commands.verb import document_verb
from analytic.hardware.table import load_hardware
from analytic.report.document import Document

FLAGS = ("dtype", "seq_len", "attention")


def _add_arguments(parser: Parser) -> None:
    add_model(parser)
    add_flags(parser, "tokens", "gpus", "mfu", *FLAGS)


def _answer(args: Namespace) -> Document:
    refuse(args.tokens is None, "--tokens: expected how many to train on, such as 15T")
    refuse(args.gpus is None, "--gpus: expected GPUs such as 512xh100 or 512xh100=2.5")
    hardware = load_hardware()
    found = mfus(args.mfu, hardware)
    mfu = found.get(hardware.find(args.gpus.name).key, found.get(None))
    return time(args.model, tokens=args.tokens, gpus=args.gpus, mfu=mfu, **given(args, *FLAGS)).document


VERB = document_verb(
    name="time",
    summary="Days, dollars and energy of a training run.",
    examples=(
        "foretrain time llama-3-8b --tokens 15T --gpus 512xh100=2.5",
        "foretrain time deepseek-v3 --tokens 14.8T --gpus 2048xh800 --mfu 39%",
    ),
    add_arguments=_add_arguments,
    answer=_answer,
)
