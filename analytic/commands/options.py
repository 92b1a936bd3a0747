"""The options of every verb: one table, in which a flag means the same everywhere."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Never, get_args

from analytic.errors import UsageError
from analytic.hardware.gpus import DTYPES
from analytic.hardware.table import Hardware
from analytic.limits import (
    MAX_DIMENSION,
    MAX_PARAMETERS,
    MOST_DAYS,
    MOST_DECADES,
    MOST_EPOCHS,
    MOST_FLOPS,
    MOST_GPUS,
    MOST_TOKENS,
    MOST_USD,
)
from analytic.model.checkpointing import Checkpointing
from analytic.model.flops import AttentionConvention
from analytic.model.optimizer import Optimizer
from analytic.model.training import AttentionKernel, Precision
from analytic.parallelism.layout import MOST_RANKS, PipelineSchedule
from analytic.parallelism.stacks import Stack
from analytic.scaling.fit import ObjectiveName
from analytic.scaling.forms import FormName
from analytic.scaling.laws import ParamsConvention
from analytic.units import GpuCount, parse_gpus, parse_hours, parse_integer, parse_length, parse_number, parse_share

PICTURES = (".png", ".svg")
MOST_MINUTES = 7 * 24 * 60
LAW_FORMS = (*get_args(FormName), "repeats")


class _StoreOnce(argparse.Action):
    """What argparse does with an option by default, except that a second value does not silently win."""

    _filled: argparse.Namespace | None = None  # what has a value already: another parse fills another namespace

    def __call__(
        self,
        _parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        if self._filled is namespace:
            raise argparse.ArgumentError(self, "given twice, expected once")
        self._filled = namespace
        setattr(namespace, self.dest, values)


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, and whose options are spelled out and given once."""

    def __init__(self, *, prog: str, description: str | None, examples: Sequence[str] = ()) -> None:
        epilog = "examples:\n" + "\n".join(f"  {example}" for example in examples) if examples else None
        super().__init__(
            prog=prog,
            description=description,
            epilog=epilog,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.register("action", None, _StoreOnce)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does; an option that is not known comes with the nearest one."""
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            known = [name for action in self._actions for name in action.option_strings]
            stray = next((text for text in unknown if text.startswith("-")), unknown[0])
            near = get_close_matches(stray.split("=")[0], known, n=1)
            self.error(f"unrecognized argument {stray}" + (f"; did you mean {near[0]}?" if near else ""))
        return parsed

    def error(self, message: str) -> Never:
        raise UsageError(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """One option.

    Attributes:
        aliases: older spellings, which `--help` does not show.
        read: from the text typed to the value; errors are `UsageError`s.
        is_repeated: may be given several times. is_switch: takes no value.
    """

    help: str
    metavar: str | None = None
    aliases: tuple[str, ...] = ()
    read: Callable[[str], Any] = str
    choices: Collection[str | int] | None = None
    is_repeated: bool = False
    is_switch: bool = False


def reader(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """A reader whose errors argparse shows with the option's name."""

    def checked(text: str) -> Any:
        try:
            return read(text)
        except UsageError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return checked


def _integer(most: int) -> Callable[[str], int]:
    return lambda text: parse_integer(text, most=most)


def _number(most: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        value = float(parse_number(text))
        if not 0 < value <= most:
            raise UsageError(f"{text!r}: expected a number above 0 and at most {most:g}")
        return value

    return read


def _seq_len(text: str) -> int:
    return parse_length(text, most=MAX_DIMENSION)


def _axis(text: str) -> int:
    return parse_integer(text, most=MOST_RANKS)


def _hours(text: str) -> float:
    hours = parse_hours(text)
    if hours > 24 * MOST_DAYS:
        raise UsageError(f"{text!r}: expected at most {MOST_DAYS:,} days")
    return hours


def _gpus(text: str) -> GpuCount:
    return parse_gpus(text, most=MOST_GPUS)


def _priced(text: str) -> tuple[str, float | None]:
    name, equals, price = text.partition("=")
    return name.strip(), float(parse_number(price)) if equals else None


def _mfu(text: str) -> tuple[str | None, float]:
    name, equals, value = text.rpartition("=")
    return name if equals else None, parse_share(value)


def _picture(text: str) -> Path:
    path = Path(text)
    if path.suffix.casefold() not in PICTURES:
        raise UsageError(f"{text!r}: expected a path that ends in {' or '.join(PICTURES)}")
    return path


# By name in the parsed arguments; the option is the name with dashes.
FLAGS: Mapping[str, Flag] = {
    # workload
    "seq_len": Flag(help="tokens a sequence; 4k is 4,096", metavar="N", read=_seq_len),
    "micro_batch": Flag(help="sequences that a GPU takes at a time", metavar="N", read=_integer(MAX_DIMENSION)),
    "batch_size": Flag(help="sequences that FLOPs count; default: 1", metavar="N", read=_integer(MAX_DIMENSION)),
    "recompute": Flag(
        help="what is recomputed in backward: none (default) or full, every layer",
        aliases=("--checkpointing",),
        choices=get_args(Checkpointing),
    ),
    "precision": Flag(
        help="of weights and activations; default: bf16", aliases=("--dtype",), choices=get_args(Precision)
    ),
    "dtype": Flag(help="whose dense peak counts; default: bf16", aliases=("--precision",), choices=DTYPES),
    "optimizer": Flag(help="default: adamw_fused", choices=get_args(Optimizer)),
    "attention_kernel": Flag(
        help="default: the fused one that CUDA has; eager in fp32", choices=get_args(AttentionKernel)
    ),
    "attention": Flag(help="which pairs count; default: full", choices=get_args(AttentionConvention)),
    "mtp": Flag(help="include multi-token-prediction layers in the counts", is_switch=True),
    "master_weights": Flag(help="fp32 master weights and gradients in addition", is_switch=True),
    "accumulating": Flag(help="gradients exist already; default: they are None", is_switch=True),
    "rounding": Flag(
        help="bytes the allocator rounds up to: 1 (default) or 512", metavar="BYTES", read=int, choices=(1, 512)
    ),
    # machine
    "gpus": Flag(help="such as 8xh100, 512xh100=2.5 (USD per GPU-hour) or 1x80GiB", metavar="NxGPU[=USD]", read=_gpus),
    "gpu": Flag(
        help="a GPU to compare, with its price per hour; may be repeated",
        metavar="NAME[=USD]",
        read=_priced,
        is_repeated=True,
    ),
    "mfu": Flag(
        help="model FLOPs utilization, of all GPUs or of one; may be repeated",
        metavar="[NAME=]X",
        read=_mfu,
        is_repeated=True,
    ),
    "reserve": Flag(
        help="memory kept free, such as 2GB; default: 2GB of one GPU, of several by layout", metavar="BYTES"
    ),
    "calibration": Flag(help="what was timed: MFU by shape instead of a constant", metavar="FILE", read=Path),
    # layout
    "dp_shard": Flag(help="ranks that share every state (FSDP); default: all that are left", metavar="N", read=_axis),
    "dp_replicate": Flag(help="copies of such a group (HSDP); default: 1", metavar="N", read=_axis),
    "tp": Flag(help="tensor-parallel ranks; default: 1", metavar="N", read=_axis),
    "pp": Flag(help="pipeline ranks; default: 1", metavar="N", read=_axis),
    "cp": Flag(help="context-parallel ranks; default: 1", metavar="N", read=_axis),
    "ep": Flag(help="ranks that share the experts; default: 1", metavar="N", read=_axis),
    "etp": Flag(help="ranks that share each expert; default: 1", metavar="N", read=_axis),
    "virtual_stages": Flag(help="pipeline stages of a rank; default: 1", metavar="N", read=_axis),
    "pipeline_schedule": Flag(
        help="default: 1f1b, interleaved with virtual stages", choices=get_args(PipelineSchedule)
    ),
    "global_batch": Flag(
        help="sequences of a step; default: a micro-batch a data rank", metavar="N", read=_integer(MAX_DIMENSION)
    ),
    "stack": Flag(help="the software; default: the first that fits", choices=get_args(Stack)),
    # data and time
    "tokens": Flag(help="train on so many, such as 15T", metavar="T", read=_integer(MOST_TOKENS)),
    "dataset_tokens": Flag(help="unique tokens there are", metavar="T", read=_integer(MOST_TOKENS)),
    "max_epochs": Flag(help="how often they may be seen", metavar="E", read=_number(MOST_EPOCHS)),
    "for": Flag(help="how long the GPUs are there, such as 3w, 21d or 720h", metavar="TIME", read=_hours),
    "days": Flag(help="finish within so many days", metavar="D", read=_number(MOST_DAYS)),
    "num_gpus": Flag(help="rent so many GPUs", metavar="N", read=_integer(MOST_GPUS)),
    # plan
    "budget": Flag(help="dollars to spend, such as 200k", metavar="USD", read=_number(MOST_USD)),
    "setup": Flag(help="a file with a machine and an architecture", metavar="FILE", read=Path),
    "law": Flag(help="a scaling law by name, or a TOML file with one", metavar="NAME|FILE"),
    "kind": Flag(help="dense (default) or moe", choices=("dense", "moe")),
    "vocab_size": Flag(help="default: 32,000", metavar="V", read=_integer(MAX_DIMENSION)),
    "params": Flag(help="train a model of this size, such as 8B", metavar="N", read=_integer(MAX_PARAMETERS)),
    "inference_tokens": Flag(
        help="the budget also pays for serving so many tokens", metavar="T", read=_integer(MOST_TOKENS)
    ),
    "inference_mfu": Flag(help="of serving; default: 0.1, assumed", metavar="X", read=parse_share),
    "inference_gpu": Flag(
        help="what serves, and its price per hour; default: what trains", metavar="NAME[=USD]", read=_priced
    ),
    "write_config": Flag(help="write the architecture as a config.json", metavar="PATH", read=Path),
    "plot": Flag(help="draw a picture, as .png or .svg", metavar="PATH", read=_picture),
    # law fit
    "columns": Flag(help="what they are called; default: N=N,D=D,loss=loss", metavar="N=..,D=..,loss=.."),
    "config_column": Flag(help="of models or config.json: N and FLOPs are counted", metavar="COLUMN"),
    "unique_column": Flag(help="of distinct tokens: only --form repeats keeps repeated data", metavar="COLUMN"),
    "schedule_column": Flag(help="of learning-rate schedules; default: schedule, if there is one", metavar="COLUMN"),
    "form": Flag(help="default: coupled", choices=LAW_FORMS),
    "prior": Flag(help="of the coupled form: published (default), none, or a TOML file", metavar="published|none|FILE"),
    "objective": Flag(help="default: mad, by the scatter of the runs", choices=get_args(ObjectiveName)),
    "n_means": Flag(help="what N counts; default: total", choices=get_args(ParamsConvention)),
    "min_ratio": Flag(
        help="least tokens per parameter; default: 1; 0 for additive, tied, zero_e",
        metavar="R",
        read=lambda text: float(parse_number(text)),
    ),
    "hold_out": Flag(
        help="predict the largest runs, of so many decades; default: 1", metavar="DECADES", read=_number(MOST_DECADES)
    ),
    "strict": Flag(help="exit 1, and write nothing, where the law fails its own backtest", is_switch=True),
    "predict": Flag(help="a run, such as N=8B,D=2T; may be repeated", metavar="N=..,D=..", is_repeated=True),
    "flops": Flag(help="of the optimum; default: 10 times the largest run", metavar="C", read=_number(MOST_FLOPS)),
    "write_law": Flag(help="write the law as a file for `plan --law`", metavar="PATH.toml", read=Path),
    # instruments
    "train": Flag(
        help="minutes: then train what a plan for this machine says, planned against actual",
        metavar="MINUTES",
        read=_number(MOST_MINUTES),
    ),
    "out": Flag(help="written whole after every case", metavar="FILE", read=Path),
    "jobs": Flag(help="processes; default: one a core", metavar="N", read=_integer(MAX_DIMENSION)),
    "device": Flag(help="measure on cuda (default where there is one) or cpu", metavar="DEVICE"),
    # output
    "json": Flag(help="the same facts for machines, in base units", is_switch=True),
}


def add_flags(parser: Any, *names: str, help_of: Mapping[str, str] | None = None) -> None:
    """Add options of the table to a parser or to a group of it; `help_of` replaces the help of some."""
    for name in names:
        flag = FLAGS[name]
        option = f"--{name.replace('_', '-')}"
        text = (help_of or {}).get(name, flag.help)
        if flag.is_switch:
            parser.add_argument(option, *flag.aliases, dest=name, action="store_true", help=text)
            continue
        options: dict[str, Any] = {"action": "append"} if flag.is_repeated else {}
        parser.add_argument(
            option,
            *flag.aliases,
            dest=name,
            type=reader(flag.read),
            choices=flag.choices,
            metavar=flag.metavar,
            help=text,
            **options,
        )


def refuse(condition: bool, message: str) -> None:
    """Raise where options contradict each other: one that would be read by nothing is an error, not ignored."""
    if condition:
        raise UsageError(message)


def add_model(parser: Parser) -> None:
    """MODEL, as every verb takes it."""
    parser.add_argument("model", metavar="MODEL", help="a shipped name, or a config.json or its folder")


def given(args: argparse.Namespace, *names: str) -> dict[str, Any]:
    """The options that were given: the rest is left to the defaults of the function that takes them."""
    return {name: value for name in names if (value := getattr(args, name)) is not None and value is not False}


def mfus(pairs: Sequence[tuple[str | None, float]] | None, hardware: Hardware) -> dict[str | None, float]:
    """The MFUs of `--mfu` by GPU; None is that of every other GPU.

    Raises:
        UsageError: one that is given twice.
    """
    found: dict[str | None, float] = {}
    for name, value in pairs or ():
        key = None if name is None else hardware.find(name).key
        refuse(key in found, f"--mfu: {'the MFU of every GPU' if key is None else key} is given twice")
        found[key] = value
    return found


def prices(pairs: Sequence[tuple[str, float | None]] | None, hardware: Hardware) -> dict[str, float | None]:
    """The GPUs of `--gpu` with the prices given.

    Raises:
        UsageError: one that is given twice.
    """
    found: dict[str, float | None] = {}
    for name, price in pairs or ():
        key = hardware.find(name).key
        refuse(key in found, f"--gpu: {key} is given twice")
        found[key] = price
    return found
