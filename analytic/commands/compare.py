"""`foretrain compare`: GPUs next to each other."""

from __future__ import annotations

from argparse import Namespace

from analytic.commands.count import add_model
from analytic.commands.options import Parser, add_flags, refuse
from analytic.commands.time import run_of
from analytic.commands.verb import document_verb
from analytic.hardware.prices import given_price
from analytic.hardware.table import Hardware, load_hardware
from analytic.performance.mfu import Assumed, Mfu
from analytic.planning.timing import time_on
from analytic.report.document import Document
from analytic.report.timing import compare_document


def _add_arguments(parser: Parser) -> None:
    add_model(parser)
    add_flags(parser, "tokens", "gpu", "mfu", "dtype", "seq_len", "attention")
    when = parser.add_mutually_exclusive_group()
    add_flags(when, "num_gpus", "days")


def mfus_of(args: Namespace, hardware: Hardware) -> dict[str | None, Mfu]:
    """The MFUs given, by GPU; None is that of every other GPU."""
    found: dict[str | None, Mfu] = {}
    for name, value in args.mfu or ():
        key = None if name is None else hardware.find(name).key
        refuse(key in found, f"--mfu: {'the MFU of every GPU' if key is None else key} is given twice")
        found[key] = Assumed(value=value, by="given")
    return found


def _answer(args: Namespace) -> Document:
    run, hardware = run_of(args), load_hardware()
    refuse(not args.gpu, "--gpu: expected GPUs to compare, such as --gpu h100=2.5 --gpu b200=4.5")
    mfus, timings = mfus_of(args, hardware), {}
    for name, usd in args.gpu:
        gpu = hardware.find(name)
        refuse(gpu.key in timings, f"--gpu: {gpu.key} is given twice")
        timings[gpu.key] = time_on(
            run,
            gpu,
            hardware,
            num_gpus=args.num_gpus,
            days=args.days,
            price=None if usd is None else given_price(usd),
            mfu=mfus.get(gpu.key, mfus.get(None)),
        )
    return compare_document(list(timings.values()))


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
