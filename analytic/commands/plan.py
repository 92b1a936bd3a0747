"""`foretrain plan`: a budget to a model, or a machine and an architecture to tokens and a loss."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from datetime import date
from importlib import import_module
from pathlib import Path

from analytic.commands.options import Parser, add_flags, mfus, prices, refuse
from analytic.commands.pictures import kind_of, needs_matplotlib
from analytic.commands.verb import document_verb
from analytic.errors import UsageError
from analytic.hardware.table import Hardware, load_hardware
from analytic.huggingface.write import to_config
from analytic.io.files import json_bytes, write_files
from analytic.performance.calibration_file import load_calibration
from analytic.performance.mfu import Assumed, Mfu
from analytic.performance.predict import Calibrated
from analytic.planning.architectures import Family
from analytic.planning.assumptions import DEFAULT_LAW, DEFAULT_MFU
from analytic.planning.backward import plan_backward
from analytic.planning.backward_file import load_setup
from analytic.planning.budget import DataLimit, Dollars
from analytic.planning.forward import Plan, make_plan
from analytic.planning.market import DEFAULT_DTYPE, Market, compare, with_calibration
from analytic.planning.request import Request
from analytic.report.backward import backward_document
from analytic.report.document import Document
from analytic.report.plan import plan_document
from analytic.scaling.law_file import load_law, load_laws
from analytic.scaling.laws import MANY_EPOCHS

DEFAULT_MICRO_BATCH = 1
DEFAULT_FAMILY = Family(kind="dense", vocab_size=32_000, seq_len=4096)
# What only a budget's plan reads; with --setup each would be ignored, and so is refused.
FORWARD_ONLY = (
    *("gpu", "mfu", "law", "kind", "vocab_size", "seq_len", "attention", "dtype", "days", "num_gpus"),
    *("dataset_tokens", "max_epochs", "write_config", "plot", "calibration", "micro_batch"),
)


def _add_arguments(parser: Parser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    add_flags(what, "budget", "setup")
    add_flags(parser, "gpu", "mfu", "calibration", "micro_batch", "dtype", "law", "kind", "vocab_size", "seq_len")
    add_flags(parser, "attention")
    add_flags(parser.add_mutually_exclusive_group(), "days", "num_gpus")
    add_flags(parser, "dataset_tokens", "max_epochs", "write_config", "plot")


def _answer(args: Namespace) -> Document:
    hardware = load_hardware()
    if args.setup is None:
        return _forward(args, hardware)
    for name in FORWARD_ONLY:
        if getattr(args, name) is not None:
            raise UsageError(f"--{name.replace('_', '-')}: only with --budget; the file states the rest")
    return backward_document(plan_backward(load_setup(args.setup, hardware), load_laws().values()))


def _forward(args: Namespace, hardware: Hardware) -> Document:
    same = args.plot is not None and args.plot == args.write_config
    refuse(same, "--plot: expected another path than --write-config")
    request = _request(args, hardware)
    laws = load_laws() | {request.law.name: request.law}
    flat: Plan | None = None
    if args.calibration:
        calibrated = Calibrated(load_calibration(args.calibration))
        flat = make_plan(request, ())
        request = replace(request, market=with_calibration(request.market, calibrated, hardware))
    made = make_plan(request, laws.values(), today=date.today())
    files: dict[Path, bytes] = {}
    if args.write_config:
        files[args.write_config] = json_bytes(to_config(made.spec, request.family.seq_len))
    if args.plot:
        files[args.plot] = _picture_of(made, args.plot)
    write_files(files)
    return plan_document(made, flat)


def _picture_of(made: Plan, path: Path) -> bytes:
    picture = needs_matplotlib(lambda: import_module("analytic.report.plot").picture_of)
    drawn: bytes = picture(made, kind_of(path))
    return drawn


def _request(args: Namespace, hardware: Hardware) -> Request:
    if args.micro_batch and not args.calibration:
        raise UsageError("--micro-batch: only with --calibration, whose MFU depends on it")
    family = DEFAULT_FAMILY
    return Request(
        budget=Dollars(args.budget),
        market=_market(args, hardware),
        law=load_law(args.law or DEFAULT_LAW),
        family=Family(
            kind=args.kind or family.kind,
            vocab_size=args.vocab_size or family.vocab_size,
            seq_len=args.seq_len or family.seq_len,
            convention=args.attention or family.convention,
        ),
        data=DataLimit(dataset_tokens=args.dataset_tokens, max_epochs=args.max_epochs),
        num_gpus=args.num_gpus,
        days=args.days,
        assumed=_assumed(args),
        micro_batch=args.micro_batch or DEFAULT_MICRO_BATCH,
    )


def _assumed(args: Namespace) -> tuple[str, ...]:
    """The defaults that this plan rests on."""
    family = DEFAULT_FAMILY
    defaults: dict[str, object] = {
        "law": DEFAULT_LAW,
        "kind": family.kind,
        "vocab_size": family.vocab_size,
        "seq_len": family.seq_len,
        "attention": family.convention,
        "dtype": DEFAULT_DTYPE,
    }
    if args.calibration:
        defaults["micro_batch"] = DEFAULT_MICRO_BATCH
    if args.dataset_tokens:
        defaults["max_epochs"] = MANY_EPOCHS
    return tuple(
        f"--{name.replace('_', '-')} {value}" for name, value in defaults.items() if getattr(args, name) is None
    )


def _market(args: Namespace, hardware: Hardware) -> Market:
    given = {key: Assumed(value=value, by="given") for key, value in mfus(args.mfu, hardware).items()}
    general = given.get(None, Assumed(value=DEFAULT_MFU, by="default"))
    by_gpu: dict[str, Mfu] = {key: mfu for key, mfu in given.items() if key is not None}
    asked = prices(args.gpu, hardware)
    if asked and (stray := by_gpu.keys() - asked.keys()):
        raise UsageError(f"--mfu {', '.join(sorted(stray))}: not among the GPUs of --gpu")
    return compare(hardware, mfu=general, mfu_by_gpu=by_gpu, price_by_gpu=asked, dtype=args.dtype or DEFAULT_DTYPE)


VERB = document_verb(
    name="plan",
    summary="Which model to train, on how many tokens, to which loss: from a budget or from a machine.",
    examples=(
        "foretrain plan --budget 200k --gpu h100=2.5 --dataset-tokens 500B",
        "foretrain plan --budget 5M --law hoffmann --num-gpus 1024 --plot plan.svg --write-config model.json",
    ),
    add_arguments=_add_arguments,
    answer=_answer,
)
