"""`trainmeter-calibrate`: time layers and models on this machine, into a file that plans are made with."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from analytic.commands.options import Parser, positive_integer, run
from analytic.errors import UsageError
from analytic.hardware.table import load_hardware
from analytic.huggingface import config as hf
from analytic.model.training import AttentionKernel, Precision
from analytic.performance.calibration import Case, Reading
from analytic.performance.calibration_file import to_json
from analytic.report.calibration import calibration_text

if TYPE_CHECKING:
    import argparse

    import torch

PROGRAM = "trainmeter-calibrate"


def calibrate(argv: Sequence[str] | None = None) -> int:
    """Time the cases asked for. Returns 0, or 2 on bad input; what was timed before an interrupt is on disk."""
    return run(PROGRAM, lambda: _calibrate(argv))


def _calibrate(argv: Sequence[str] | None) -> int:
    args = _parser().parse_args(argv)
    shape = (args.seq_len, args.micro_batch, args.precision, args.attention_kernel)
    if not args.config and (args.compile or any(value is not None for value in shape)):
        raise UsageError("--seq-len, --micro-batch, --precision, --attention-kernel, --compile: only with --config")
    configs = [hf.load(path) for path in args.config or ()]
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
            tell(reading)
        made = later
    sys.stdout.write(
        json.dumps(to_json(made), indent=2) + "\n" if args.json else calibration_text(made, load_hardware())
    )
    return 0


def _parser() -> Parser:
    parser = Parser(prog=PROGRAM, description="Time layers and training steps on this machine.")
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="FILE", help="written whole after every case")
    add("--resume", action="store_true", help="go on with that file: what it has is not timed again")
    add("--config", type=Path, nargs="+", metavar="CONFIG", help="models; default: small to large, dense and MoE")
    add("--seq-len", type=positive_integer, nargs="+", metavar="N", help="default: each config's own")
    add("--micro-batch", type=positive_integer, nargs="+", metavar="N", help="sequences at a time; default: 1")
    add("--precision", nargs="+", choices=get_args(Precision), help="default: bf16")
    add("--attention-kernel", nargs="+", choices=get_args(AttentionKernel), help="default: flash where it takes heads")
    add("--compile", action="store_true", help="layers compiled, too")
    add("--device", metavar="DEVICE", help="cuda (default where there is one) or cpu")
    add("--json", action="store_true", help="the file's own object on stdout")
    return parser


def _cases_of(
    configs: Sequence[hf.ModelConfig], args: argparse.Namespace, device: torch.device, memory_bytes: int
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


def tell(reading: Reading) -> None:
    """One line on stderr, and one for each thing that makes the reading suspect."""
    from empirical.measure.machine import warnings_of

    outcome = reading.error or f"{reading.median_seconds:.6f} s"
    print(f"{reading.case.label}: {outcome}", file=sys.stderr, flush=True)
    for warning in warnings_of(reading.conditions):
        print(f"  warning: {warning}", file=sys.stderr, flush=True)
