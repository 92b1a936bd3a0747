"""`foretrain plan`: a budget or a machine to a model, or a machine and an architecture to tokens and a loss."""

from __future__ import annotations

from argparse import Namespace
from importlib import import_module
from pathlib import Path

from analytic.api.plans import DEFAULT_FAMILY, DEFAULT_LAWS, plan, plan_setup
from analytic.api.result import Result
from analytic.commands.options import Parser, add_flags, given, mfus, prices, refuse
from analytic.commands.pictures import kind_of, needs_matplotlib
from analytic.commands.verb import document_verb
from analytic.defaults import DEFAULT_DTYPE, DEFAULT_INFERENCE_MFU
from analytic.hardware.table import load_hardware
from analytic.huggingface.write import to_config
from analytic.io.files import json_bytes, write_files
from analytic.planning.forward import Plan
from analytic.report.document import Document
from analytic.scaling.laws import MANY_EPOCHS

DESIGN = ("law", "kind", "vocab_size", "seq_len", "attention", "dtype")
MORE = ("calibration", "micro_batch", "days", "num_gpus", "dataset_tokens", "max_epochs", "params")
INFERENCE = ("inference_tokens", "inference_mfu", "inference_gpu")
# What a setup file states itself: each would be ignored, and so is refused.
NOT_WITH_SETUP = ("gpus", "for", "gpu", "mfu", *DESIGN, *MORE, *INFERENCE, "write_config", "plot")


def _add_arguments(parser: Parser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    add_flags(what, "budget", "gpus", "setup", help_of={"gpus": "a machine, such as 64xh100, with --for"})
    add_flags(parser, "for", "gpu", "mfu", *DESIGN, "calibration", "micro_batch")
    add_flags(parser.add_mutually_exclusive_group(), "days", "num_gpus")
    add_flags(parser, "dataset_tokens", "max_epochs", "params", *INFERENCE, "write_config", "plot")


def _answer(args: Namespace) -> Document:
    if args.setup is not None:
        for name in NOT_WITH_SETUP:
            option = f"--{name.replace('_', '-')}"
            refuse(getattr(args, name) is not None, f"{option}: not with --setup, whose file states the rest")
        return plan_setup(args.setup).document
    hours = getattr(args, "for")
    refuse((args.gpus is None) != (hours is None), "--gpus and --for: expected together, such as 64xh100 for 3w")
    if args.gpus is not None:
        for name in ("gpu", "days", "num_gpus", *INFERENCE):
            refuse(getattr(args, name) is not None, f"--{name.replace('_', '-')}: not with --gpus, a machine as it is")
    for name in INFERENCE[1:]:
        is_stray = getattr(args, name) is not None and args.inference_tokens is None
        refuse(is_stray, f"--{name.replace('_', '-')}: only with --inference-tokens")
    same = args.plot is not None and args.plot == args.write_config
    refuse(same, "--plot: expected another path than --write-config")
    hardware = load_hardware()
    refuse(args.micro_batch is not None and args.calibration is None, "--micro-batch: only with --calibration")
    result = plan(
        budget=args.budget,
        gpus=args.gpus,
        hours=hours,
        gpu=prices(args.gpu, hardware),
        mfu=mfus(args.mfu, hardware),
        assumed=_assumed(args),
        **given(args, *DESIGN, *MORE, *INFERENCE),
    )
    _write(result, args)
    return result.document


def _write(result: Result[Plan], args: Namespace) -> None:
    """The files asked for, all or none."""
    files: dict[Path, bytes] = {}
    if args.write_config:
        seq_len = result.value.request.family.seq_len
        files[args.write_config] = json_bytes(to_config(result.value.spec, seq_len))
    if args.plot:
        picture = needs_matplotlib(lambda: import_module("analytic.report.plot").picture_of)
        files[args.plot] = picture(result.value, kind_of(args.plot))
    write_files(files)


def _assumed(args: Namespace) -> tuple[str, ...]:
    """The defaults that this plan rests on."""
    family = DEFAULT_FAMILY
    defaults: dict[str, object] = {
        "law": DEFAULT_LAWS[args.kind or family.kind],
        "kind": family.kind,
        "vocab_size": family.vocab_size,
        "seq_len": family.seq_len,
        "attention": family.convention,
        "dtype": DEFAULT_DTYPE,
    }
    if args.calibration:
        defaults["micro_batch"] = 1
    if args.dataset_tokens:
        defaults["max_epochs"] = MANY_EPOCHS
    if args.inference_tokens:
        defaults |= {"inference_mfu": DEFAULT_INFERENCE_MFU, "inference_gpu": "what trains"}
    return tuple(
        f"--{name.replace('_', '-')} {value}" for name, value in defaults.items() if getattr(args, name) is None
    )


VERB = document_verb(
    name="plan",
    summary="Which model to train, on how many tokens, to which loss: from a budget or from a machine.",
    examples=(
        "foretrain plan --budget 200k --gpu h100=2.5 --dataset-tokens 500B",
        "foretrain plan --gpus 64xh100 --for 3w --plot plan.svg --write-config model.json",
    ),
    add_arguments=_add_arguments,
    answer=_answer,
)
