"""`trainmeter-count`: parameters, FLOPs and memory of a configuration, from the formulas alone."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from analytic.commands.options import Parser, positive_integer, refuse
from analytic.commands.run import run
from analytic.errors import UsageError
from analytic.huggingface import config as hf
from analytic.huggingface.config import ModelConfig
from analytic.memory.capacity import RESERVE_BYTES
from analytic.model.flops import AttentionConvention, Checkpointing
from analytic.model.training import AttentionKernel, Optimizer, Precision, TrainingSetup, check_kernel, fused_kernel
from analytic.report import text as report
from analytic.report.count import Workload, summarize
from analytic.report.memory import fits_text, memory_text
from analytic.report.memory_json import fits_as_json, memory_as_json

NOT_WITH_FITS = ("attention", "checkpointing", "mtp")


def count(argv: Sequence[str] | None = None) -> int:
    """Print what a model costs. Returns the exit status: 0, or 2 on bad input."""
    return run("trainmeter-count", lambda: _count(argv))


def _count(argv: Sequence[str] | None) -> int:
    args = _parser().parse_args(argv)
    if args.families:
        refuse(args.config is not None, "--families: expected without a CONFIG")
        from analytic.report.families import families_json, families_text  # reads every shipped configuration

        sys.stdout.write(families_json() if args.json else families_text())
        return 0
    refuse(args.config is None, "CONFIG: expected a Hugging Face config.json, or --families")
    refuse(args.reserve is not None and args.fits is None, "--reserve: expected only with --fits")
    for name in NOT_WITH_FITS:
        is_ignored = args.fits is not None and bool(getattr(args, name))
        refuse(is_ignored, f"--{name}: expected without --fits, whose answer does not depend on it")
    config = hf.load(args.config)
    workload = Workload.of(
        config,
        seq_len=args.seq_len,
        batch_size=args.batch_size,
        convention=args.attention or "full",
        checkpointing=args.checkpointing or "none",
        mtp=args.mtp,
    )
    setup = _setup(args, config, workload)
    if args.fits is not None:
        sys.stdout.write(_fits(config, setup, args))
        return 0
    summary = summarize(config, workload)
    if args.json:
        facts = summary.as_json() | {"memory": memory_as_json(config, setup)}
        sys.stdout.write(json.dumps(facts, indent=2) + "\n")
    else:
        sys.stdout.write(report.count_text(summary) + "\n" + memory_text(config, setup))
    return 0


def _parser() -> Parser:
    parser = Parser(prog="trainmeter-count", description="Count what a model costs, term by term.")
    parser.add_argument("config", type=Path, nargs="?", metavar="CONFIG", help="a Hugging Face config.json")
    parser.add_argument("--families", action="store_true", help="what can be read, instead of counting")
    parser.add_argument("--seq-len", type=positive_integer, metavar="N", help="tokens a sequence")
    parser.add_argument(
        "--batch-size", type=positive_integer, default=1, metavar="N", help="sequences that FLOPs count"
    )
    parser.add_argument("--attention", choices=get_args(AttentionConvention), help="which pairs count; default: full")
    parser.add_argument("--checkpointing", choices=get_args(Checkpointing), help="default: none")
    parser.add_argument("--mtp", action="store_true", help="include multi-token-prediction layers in the counts")
    parser.add_argument("--json", action="store_true", help="the same facts for machines, in base units")
    memory = parser.add_argument_group("memory of a training step on one GPU")
    memory.add_argument("--micro-batch", type=positive_integer, metavar="N", help="default: --batch-size")
    memory.add_argument("--dtype", choices=get_args(Precision), default="bf16")
    memory.add_argument("--master-weights", action="store_true", help="fp32 master weights and gradients besides")
    memory.add_argument("--optimizer", choices=get_args(Optimizer), default="adamw_fused")
    memory.add_argument(
        "--attention-kernel",
        choices=get_args(AttentionKernel),
        help="default: the fused one that CUDA has; eager in fp32",
    )
    memory.add_argument("--accumulating", action="store_true", help="gradients exist already; default: they are None")
    memory.add_argument("--rounding", type=int, choices=(1, 512), default=1, help="bytes the allocator rounds up to")
    memory.add_argument("--fits", metavar="GIB", help="what fits in so many GiB, or in a GPU given by name")
    memory.add_argument("--reserve", type=_gib, metavar="GIB", help="with --fits: kept free; default: 2e9 bytes")
    return parser


def _setup(args: argparse.Namespace, config: ModelConfig, workload: Workload) -> TrainingSetup:
    kernel = args.attention_kernel or ("eager" if args.dtype == "fp32" else fused_kernel(config.spec))
    check_kernel(kernel, config.spec)
    return TrainingSetup(
        seq_len=workload.seq_len,
        micro_batch=args.micro_batch or workload.batch_size,
        precision=args.dtype,
        has_master_weights=args.master_weights,
        optimizer=args.optimizer,
        checkpointing=workload.checkpointing,
        attention_kernel=kernel,
        is_accumulating=args.accumulating,
        rounding_bytes=args.rounding,
    )


def _fits(config: ModelConfig, setup: TrainingSetup, args: argparse.Namespace) -> str:
    memory_bytes = _memory_bytes(args.fits)
    reserve_bytes = RESERVE_BYTES if args.reserve is None else args.reserve
    if args.json:
        facts = fits_as_json(config, setup, memory_bytes=memory_bytes, reserve_bytes=reserve_bytes)
        return json.dumps(facts, indent=2) + "\n"
    is_given = args.reserve is not None
    return fits_text(config, setup, memory_bytes=memory_bytes, reserve_bytes=reserve_bytes, reserve_is_given=is_given)


def _memory_bytes(text: str) -> int:
    """A number of GiB, or the marketed memory of a GPU.

    Raises:
        UsageError: neither; the message lists the GPUs there are.
    """
    try:
        return _gib(text)
    except argparse.ArgumentTypeError:
        pass
    from analytic.hardware.table import load_hardware

    try:
        return load_hardware().find(text).memory_bytes
    except UsageError as error:
        raise UsageError(f"--fits {text}: expected a number of GiB or a GPU: {error}") from None


def _gib(text: str) -> int:
    """A number of GiB as bytes."""
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", text):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number of GiB")
    return round(float(text) * 2**30)
