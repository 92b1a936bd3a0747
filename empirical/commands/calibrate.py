"""`foretrain calibrate`: time layers and models on this machine, into a file that plans are made with."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any, get_args

from analytic.commands.options import FLAGS, Parser, add_flags, reader, refuse
from analytic.commands.verb import Verb
from analytic.errors import UsageError
from analytic.hardware.table import load_hardware
from analytic.huggingface.config import ModelConfig, load
from analytic.huggingface.shipped import find_model
from analytic.model.training import AttentionKernel, Precision
from analytic.performance.calibration import Case, Reading
from analytic.performance.calibration_file import to_json
from analytic.report.calibration import calibration_text

if TYPE_CHECKING:
    import argparse

    import torch


def _add_arguments(parser: Parser) -> None:
    add = parser.add_argument
    add("models", nargs="*", metavar="MODEL", help="default: small to large, dense and MoE")
    add_flags(parser, "out")
    add("--resume", action="store_true", help="continue that file: what it has is not timed again")
    many: dict[str, Any] = {"type": reader(FLAGS["seq_len"].read), "nargs": "+", "metavar": "N"}
    add("--seq-len", **many, help="default: each model's own")
    add("--micro-batch", **many, help="sequences at a time; default: 1")
    add("--precision", nargs="+", choices=get_args(Precision), help="default: bf16")
    add("--attention-kernel", nargs="+", choices=get_args(AttentionKernel), help="default: flash where it takes heads")
    add("--compile", action="store_true", help="layers compiled, too")
    add_flags(parser, "device")


def _execute(args: argparse.Namespace) -> int:
    """Returns 0; what was timed before an interrupt is on disk."""
    refuse(args.out is None, "--out: expected a file to write")
    shape = (args.seq_len, args.micro_batch, args.precision, args.attention_kernel)
    if not args.models and (args.compile or any(value is not None for value in shape)):
        raise UsageError("--seq-len, --micro-batch, --precision, --attention-kernel, --compile: only with MODEL")
    configs = [load(find_model(name)) for name in args.models]
    from empirical.measure import calibrate as measuring  # torch: only once the arguments are good
    from empirical.measure.cases import default_cases
    from empirical.measure.machine import device_named, this_machine

    device = device_named(args.device)
    machine = this_machine(device)
    begun = measuring.begin(args.out, machine, is_resumed=args.resume)
    cases = list(
        _cases_of(configs, args, device, machine.memory_bytes)
        if configs
        else default_cases(device, machine.memory_bytes)
    )
    made = begun
    for later in measuring.calibrate(args.out, begun, cases, device):
        for reading in later.readings[len(made.readings) :]:
            print_reading(reading)
        made = later
    sys.stdout.write(
        json.dumps(to_json(made), indent=2) + "\n" if args.json else calibration_text(made, load_hardware())
    )
    return 0


def _cases_of(
    configs: Sequence[ModelConfig], args: argparse.Namespace, device: torch.device, memory_bytes: int
) -> Iterator[Case]:
    from empirical.measure.cases import cases_of, setup_for

    for config in configs:
        lengths, batches = args.seq_len or [config.default_seq_len], args.micro_batch or [1]
        compiled, kernels = (False, True) if args.compile else (False,), args.attention_kernel or [None]
        for seq_len, batch, precision, kernel, is_compiled in product(
            lengths, batches, args.precision or ["bf16"], kernels, compiled
        ):
            setup = setup_for(config, seq_len, batch, precision, device, kernel)
            yield from cases_of(config, setup, memory_bytes, is_compiled=is_compiled)


def print_reading(reading: Reading) -> None:
    """One line on stderr, and one for each thing that makes the reading suspect."""
    from empirical.measure.machine import warnings_of

    outcome = reading.error or f"{reading.median_seconds:.6f} s"
    print(f"{reading.case.label}: {outcome}", file=sys.stderr, flush=True)
    for warning in warnings_of(reading.conditions):
        print(f"  warning: {warning}", file=sys.stderr, flush=True)


VERB = Verb(
    name="calibrate",
    summary="Time layers and training steps on this machine, into a file that plans are made with.",
    examples=(
        "foretrain calibrate --out h100.json",
        "foretrain calibrate llama-3-8b --seq-len 4k 8k --micro-batch 1 2 --out llama.json",
    ),
    add_arguments=_add_arguments,
    execute=_execute,
)
