"""`foretrain fits`: does a model train on these GPUs, and how large a micro-batch do they take."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from importlib import import_module

from analytic.api.fitting import LAYOUT_OPTIONS, fits
from analytic.commands.options import Parser, add_flags, add_model, given, refuse
from analytic.commands.pictures import kind_of, needs_matplotlib
from analytic.commands.verb import document_verb
from analytic.io.files import write_files
from analytic.planning.fitting import CHOICES, Fitting
from analytic.planning.many_gpus import ManyGpus
from analytic.report.document import Document

FLAGS = (
    *("seq_len", "micro_batch", "global_batch", "recompute", "precision", "optimizer", "attention_kernel", "reserve"),
    *("stack", *LAYOUT_OPTIONS),
)


def _add_arguments(parser: Parser) -> None:
    add_model(parser)
    add_flags(parser, "gpus", "plot", *FLAGS, help_of={"recompute": "none or full; default: the least that fits"})


def _answer(args: Namespace) -> Document:
    refuse(args.gpus is None, "--gpus: expected GPUs such as 8xa100-80 or 1x80GiB")
    result = fits(args.model, args.gpus, **given(args, *FLAGS))
    if args.plot:
        write_files({args.plot: _picture(result.value, kind_of(args.plot))})
    return result.document


def _picture(found: Fitting | ManyGpus, kind: str) -> bytes:
    """Live bytes over a step with what was asked for, or with none and all; of several GPUs, also layouts."""
    drawn: bytes
    if isinstance(found, ManyGpus):
        drawn = needs_matplotlib(lambda: import_module("analytic.report.layouts_plot").many_picture)(found, kind)
        return drawn
    picture = needs_matplotlib(lambda: import_module("analytic.report.memory_plot").memory_picture)
    choices = CHOICES if found.recompute is None else (found.recompute,)
    setups = [replace(found.setup, checkpointing=choice) for choice in choices]
    drawn = picture(found.config, setups, found.memory_bytes, found.reserve_bytes, kind)
    return drawn


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
