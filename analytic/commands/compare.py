"""`foretrain compare`: GPUs next to each other."""

from __future__ import annotations

from argparse import Namespace

from analytic.api import compare
from analytic.commands.options import Parser, add_flags, add_model, given, mfus, prices, refuse
from analytic.commands.verb import document_verb
from analytic.hardware.table import load_hardware
from analytic.report.document import Document

FLAGS = ("dtype", "seq_len", "attention", "num_gpus", "days")


def _add_arguments(parser: Parser) -> None:
    add_model(parser)
    add_flags(parser, "tokens", "gpu", "mfu", "dtype", "seq_len", "attention")
    add_flags(parser.add_mutually_exclusive_group(), "num_gpus", "days")


def _answer(args: Namespace) -> Document:
    refuse(args.tokens is None, "--tokens: expected how many to train on, such as 15T")
    refuse(not args.gpu, "--gpu: expected GPUs to compare, such as --gpu h100=2.5 --gpu b200=4.5")
    hardware = load_hardware()
    asked = prices(args.gpu, hardware)
    return compare(
        args.model, tokens=args.tokens, gpus=asked, mfu=mfus(args.mfu, hardware), **given(args, *FLAGS)
    ).document


VERB = document_verb(
    name="compare",
    summary="GPUs next to each other: days, dollars, energy, and whether the model fits.",
    examples=(
        "foretrain compare llama-3-8b --tokens 1T --gpu h100=2.5 --gpu b200=4.5",
        "foretrain compare mixtral-8x7b --tokens 2T --gpu a100-80 --gpu h200=3.1 --days 30",
    ),
    add_arguments=_add_arguments,
    answer=_answer,
    is_always_verbose=True,
)
