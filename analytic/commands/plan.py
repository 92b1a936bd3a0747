"""`trainmeter-plan`: from dollars to a model, from a machine to a model, and what a published run implies."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from analytic.commands.options import Parser, number_up_to, positive_integer, positive_number, refuse
from analytic.commands.run import run
from analytic.errors import UsageError
from analytic.hardware.gpus import DTYPES
from analytic.hardware.table import Hardware, load_hardware
from analytic.huggingface.write import to_config
from analytic.io.files import json_bytes, write_files
from analytic.limits import MOST_DAYS, MOST_EPOCHS, MOST_GPUS, MOST_TOKENS
from analytic.model.flops import AttentionConvention
from analytic.performance.calibration_file import load_calibration
from analytic.performance.mfu import Assumed, Mfu
from analytic.performance.predict import Calibrated
from analytic.planning.architectures import Family, Kind
from analytic.planning.backward import plan_backward
from analytic.planning.backward_file import load_setup
from analytic.planning.budget import DataLimit
from analytic.planning.forward import DEFAULT_LAW, DEFAULT_MFU, Plan, Request, make_plan
from analytic.planning.market import DEFAULT_DTYPE, Market, compare
from analytic.planning.published_run import load_run, shipped_runs
from analytic.planning.search import tuned
from analytic.report.backward import backward_text
from analytic.report.plan import forward_text
from analytic.report.plan_json import backward_json, claim_json, forward_json
from analytic.report.published_run import claim_text
from analytic.scaling.law_file import load_law, load_laws

PROGRAM = "trainmeter-plan"
DEFAULT_MICRO_BATCH = 1
DEFAULT_FAMILY = Family(kind="dense", vocab_size=32_000, seq_len=4096)
# What only a budget's plan reads; beside --setup or --check-run each would be ignored, and so is refused.
FORWARD_ONLY = (
    *("gpu", "mfu", "law", "kind", "vocab_size", "seq_len", "attention", "dtype", "days", "num_gpus"),
    *("dataset_tokens", "max_epochs", "write_config", "plot", "calibration", "micro_batch"),
)
PICTURES = (".png", ".svg")


def plan(argv: Sequence[str] | None = None) -> int:
    """Make a plan and print it. Returns the exit status: 0, or 2 on bad input."""
    return run(PROGRAM, lambda: _plan(argv))


def _plan(argv: Sequence[str] | None) -> int:
    args = _parser().parse_args(argv)
    hardware = load_hardware()
    if args.budget is not None:
        text, facts = _forward(args, hardware)
    else:
        for name in FORWARD_ONLY:
            if getattr(args, name) is not None:
                raise UsageError(f"--{name.replace('_', '-')}: only with --budget; the file states the rest")
        text, facts = _backward(args.setup, hardware) if args.setup else _claim(args.check_run, hardware)
    sys.stdout.write(json.dumps(facts, indent=2, allow_nan=False) + "\n" if args.json else text)
    return 0


def _forward(args: argparse.Namespace, hardware: Hardware) -> tuple[str, dict[str, Any]]:
    refuse(
        args.plot is not None and args.plot == args.write_config, "--plot: expected another path than --write-config"
    )
    request = _request(args, hardware)
    laws = load_laws() | {request.law.name: request.law}
    flat: Plan | None = None
    if args.calibration:
        calibrated = Calibrated(load_calibration(args.calibration))
        flat = make_plan(request, ())
        request = tuned(request, calibrated, hardware, args.micro_batch or DEFAULT_MICRO_BATCH)
    made = make_plan(request, laws.values())
    files: dict[Path, bytes] = {}
    if args.write_config:
        files[args.write_config] = json_bytes(to_config(made.spec, request.family.seq_len))
    if args.plot:
        files[args.plot] = _picture_of(made, args.plot)
    write_files(files)
    return forward_text(made, flat), forward_json(made, flat)


def _backward(path: Path, hardware: Hardware) -> tuple[str, dict[str, Any]]:
    made = plan_backward(load_setup(path, hardware), load_laws().values())
    return backward_text(made), backward_json(made)


def _claim(path: Path, hardware: Hardware) -> tuple[str, dict[str, Any]]:
    claimed, published = load_run(path, hardware), shipped_runs(hardware)
    return claim_text(claimed, published), claim_json(claimed, published)


def _picture_of(made: Plan, path: Path) -> bytes:
    try:
        from analytic.report.plot import picture_of  # matplotlib takes most of a second to import
    except ModuleNotFoundError:
        raise UsageError("--plot needs matplotlib, which is not installed") from None
    return picture_of(made, path.suffix.removeprefix(".").casefold())


def _request(args: argparse.Namespace, hardware: Hardware) -> Request:
    if args.micro_batch and not args.calibration:
        raise UsageError("--micro-batch: only with --calibration, whose MFU depends on it")
    family = DEFAULT_FAMILY
    return Request(
        budget_usd=args.budget,
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
    )


def _assumed(args: argparse.Namespace) -> tuple[str, ...]:
    """The defaults that this plan stands on."""
    family = DEFAULT_FAMILY
    defaults = {
        "law": DEFAULT_LAW,
        "kind": family.kind,
        "vocab_size": family.vocab_size,
        "seq_len": family.seq_len,
        "attention": family.convention,
        "dtype": DEFAULT_DTYPE,
    }
    if args.calibration:
        defaults["micro_batch"] = str(DEFAULT_MICRO_BATCH)
    return tuple(
        f"--{name.replace('_', '-')} {value}" for name, value in defaults.items() if getattr(args, name) is None
    )


def _market(args: argparse.Namespace, hardware: Hardware) -> Market:
    general: Mfu | None = None
    by_gpu: dict[str, Mfu] = {}
    for name, value in args.mfu or ():
        given = Assumed(value=value, by="given")
        if name is None:
            refuse(general is not None, "--mfu: the MFU of every GPU is given twice")
            general = given
        else:
            key = hardware.find(name).key
            refuse(key in by_gpu, f"--mfu: {key} is given twice")
            by_gpu[key] = given
    prices: dict[str, float | None] = {}
    for name, price in args.gpu or ():
        if (key := hardware.find(name).key) in prices:
            raise UsageError(f"--gpu: {key} is given twice")
        prices[key] = price
    if prices and (stray := by_gpu.keys() - prices.keys()):
        raise UsageError(f"--mfu {', '.join(sorted(stray))}: not among the GPUs of --gpu")
    general = general or Assumed(value=DEFAULT_MFU, by="default")
    return compare(hardware, mfu=general, mfu_by_gpu=by_gpu, price_by_gpu=prices, dtype=args.dtype or DEFAULT_DTYPE)


def _parser() -> Parser:
    parser = Parser(prog=PROGRAM, description="Plan a pretraining run from a budget, or from a machine.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--budget", type=positive_number, metavar="USD", help="dollars to spend")
    what.add_argument("--setup", type=Path, metavar="PATH", help="a machine and an architecture, to plan backward from")
    what.add_argument("--check-run", type=Path, metavar="PATH", help="a published run, to see what MFU it implies")
    add = parser.add_argument
    add("--gpu", action="append", type=_gpu, metavar="NAME[=USD]", help="compare only these; with a price per hour")
    add("--mfu", action="append", type=_mfu, metavar="[NAME=]X", help=f"model FLOPs utilization, assumed {DEFAULT_MFU}")
    add("--calibration", type=Path, metavar="FILE", help="what was timed: MFU by shape instead of a constant")
    add("--micro-batch", type=positive_integer, metavar="B", help="sequences a GPU takes at a time, by default 1")
    add("--dtype", choices=DTYPES, help=f"whose dense peak counts, by default {DEFAULT_DTYPE}")
    add("--law", metavar="NAME|PATH", help=f"a scaling law, by default {DEFAULT_LAW}; or a TOML file with one")
    add("--kind", choices=get_args(Kind), help=f"by default {DEFAULT_FAMILY.kind}")
    add("--vocab-size", type=positive_integer, metavar="V", help=f"by default {DEFAULT_FAMILY.vocab_size}")
    add("--seq-len", type=positive_integer, metavar="N", help=f"by default {DEFAULT_FAMILY.seq_len}")
    add("--attention", choices=get_args(AttentionConvention), help=f"counted, by default {DEFAULT_FAMILY.convention}")
    when = parser.add_mutually_exclusive_group()
    when.add_argument("--days", type=number_up_to(MOST_DAYS), metavar="D", help="finish within so many days")
    when.add_argument("--num-gpus", type=_integer_up_to(MOST_GPUS), metavar="N", help="rent so many GPUs")
    add("--dataset-tokens", type=_integer_up_to(MOST_TOKENS), metavar="T", help="unique tokens there are")
    add("--max-epochs", type=number_up_to(MOST_EPOCHS), metavar="E", help="how often they may be seen")
    add("--write-config", type=Path, metavar="PATH", help="write the architecture as a config.json")
    add("--plot", type=_picture, metavar="PATH", help="draw loss against N and D, as .png or .svg")
    add("--json", action="store_true", help="the same facts for machines, in base units")
    return parser


def _integer_up_to(most: int) -> Any:
    def read(text: str) -> int:
        value = positive_number(text)
        if value != int(value) or value > most:
            raise argparse.ArgumentTypeError(f"{text!r}: expected an integer from 1 to {most:g}")
        return int(value)

    return read


def _picture(text: str) -> Path:
    path = Path(text)
    if path.suffix.casefold() not in PICTURES:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a path that ends in {' or '.join(PICTURES)}")
    return path


def _gpu(text: str) -> tuple[str, float | None]:
    name, equals, price = text.partition("=")
    return name, positive_number(price) if equals else None


def _mfu(text: str) -> tuple[str | None, float]:
    name, equals, value = text.rpartition("=")
    return name if equals else None, positive_number(value)
