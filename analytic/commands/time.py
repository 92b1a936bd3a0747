"""`foretrain time`: days and dollars of a training run."""

from __future__ import annotations

from argparse import Namespace

from analytic.commands.count import add_model
from analytic.commands.options import Parser, add_flags, refuse
from analytic.commands.verb import document_verb
from analytic.hardware.prices import given_price
from analytic.hardware.table import load_hardware
from analytic.huggingface.config import load
from analytic.huggingface.shipped import find_model
from analytic.performance.mfu import Assumed
from analytic.planning.market import DEFAULT_DTYPE
from analytic.planning.timing import Run, time_on
from analytic.report.document import Document
from analytic.report.timing import time_document


def _add_arguments(parser: Parser) -> None:
    add_model(parser)
    add_flags(parser, "tokens", "gpus", "mfu", "dtype", "seq_len", "attention")


def run_of(args: Namespace) -> Run:
    """What is to be trained."""
    refuse(args.tokens is None, "--tokens: expected how many to train on, such as 15T")
    config = load(find_model(args.model))
    return Run(
        config=config,
        tokens=args.tokens,
        seq_len=args.seq_len or config.default_seq_len,
        dtype=args.dtype or DEFAULT_DTYPE,
        convention=args.attention or "full",
    )


def _answer(args: Namespace) -> Document:
    run = run_of(args)
    refuse(args.gpus is None, "--gpus: expected GPUs such as 512xh100 or 512xh100=2.5")
    hardware = load_hardware()
    gpu = hardware.find(args.gpus.name)
    usd = args.gpus.usd_per_gpu_hour
    given = [value for name, value in args.mfu or () if name is None or hardware.find(name) == gpu]
    refuse(len(given) > 1, f"--mfu: the MFU of {gpu.key} is given twice")
    return time_document(
        time_on(
            run,
            gpu,
            hardware,
            num_gpus=args.gpus.count,
            price=None if usd is None else given_price(usd),
            mfu=Assumed(value=given[0], by="given") if given else None,
        )
    )


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
