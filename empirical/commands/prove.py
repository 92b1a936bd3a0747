"""`foretrain prove`: every formula against every witness; where there is a device, what it takes and how fast it is.

torch takes seconds to import: it comes after the arguments and the files have been found good.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from analytic.commands.options import Parser, add_flags, reader, refuse
from analytic.commands.verb import Verb
from analytic.defaults import DEFAULT_LAW
from analytic.errors import PlannerError, UsageError
from analytic.hardware.table import load_hardware
from analytic.huggingface.config import load
from analytic.huggingface.shipped import find_model
from analytic.io.files import model_config_paths
from analytic.performance.calibration import Calibration, Case
from analytic.planning.counts import Workload
from analytic.planning.this_machine import CPU_FAMILY, CUDA_FAMILY, machine_plan
from analytic.scaling.law_file import load_law
from analytic.version import version
from empirical.commands.sweep import sweep
from empirical.proof.findings import Findings
from empirical.proof.layouts import (
    Grid,
    RankJob,
    is_described,
    jobs_of,
    jobs_of_layout,
    one_of_each_family,
    parse_layout,
)
from empirical.proof.workers import ModelJob, ProofJob, check_models, default_workers

if TYPE_CHECKING:
    import torch
    from rich.progress import Progress

    from empirical.measure.memory import MeasuredPeak

DEFAULT_OUT = Path("calibration.json")


def _add_arguments(parser: Parser) -> None:
    add = parser.add_argument
    add("models", nargs="*", metavar="MODEL", help="default: every shipped one; with --sweep, model types")
    add_flags(parser, "seq_len", "jobs", "device")
    add(
        "--layouts",
        choices=get_args(Grid),
        help="ranks of which layouts are simulated: a few (default), or every rank and precision of FSDP and HSDP; "
        "where no model is named, of one model a family",
    )
    add("--layout", type=reader(parse_layout), metavar="KEY=N,...", help="only this layout, such as dp_shard=8,tp=2")
    add(
        "--calibration-out",
        type=Path,
        default=DEFAULT_OUT,
        metavar="FILE",
        help=f"what is timed on the device; default: {DEFAULT_OUT}; a file of the same device is continued",
    )
    add_flags(parser, "train")
    add("--sweep", action="store_true", help="every causal language model class of transformers, by its defaults")
    add("--perturb", action="store_true", help="with --sweep: change every key of the supported classes, one at a time")


def _execute(args: argparse.Namespace) -> int:
    """Returns 0 if all agree, 1 if any differs."""
    refuse(args.perturb and not args.sweep, "--perturb: only with --sweep")
    if args.sweep:
        for name in ("seq_len", "device", "train", "layout", "layouts"):
            refuse(getattr(args, name) is not None, f"--{name.replace('_', '-')}: not with --sweep")
        return sweep(args.models, args.jobs, is_perturbed=args.perturb, is_json=args.json)
    refuse(args.layout is not None and args.layouts is not None, "--layouts: not with --layout")
    paths = [find_model(name) for name in args.models] or model_config_paths()
    jobs = [_job(path, args.seq_len) for path in paths]
    rank_jobs = list(_rank_jobs(jobs, args))
    device = _device(args.device, is_needed=args.train is not None)
    found = Findings()
    if device is not None:
        found.calibration = _begun(args.calibration_out, device)
    try:
        _find(found, jobs, rank_jobs, device, args)
    except (KeyboardInterrupt, PlannerError):
        if found.checks:  # minutes of measurements are printed first
            _print(found, is_json=args.json)
        raise
    _print(found, is_json=args.json)
    return 1 if found.failed else 0


def _job(path: Path, seq_len: int | None) -> ModelJob:
    config = load(path)
    return config, Workload.of(config, seq_len=seq_len).seq_len


def _rank_jobs(jobs: Sequence[ModelJob], args: argparse.Namespace) -> Iterator[RankJob]:
    """The ranks to simulate: of every model that is named, else of one a family."""
    described = one_of_each_family(config for config, _ in jobs)
    for config, seq_len in jobs:
        if args.layout is not None and (args.models or config in described):
            yield from jobs_of_layout(config, seq_len, args.layout)
        elif args.layout is None and (is_described(config) if args.models else config in described):
            yield from jobs_of(config, seq_len, args.layouts or "default")


def _device(asked: str | None, *, is_needed: bool) -> torch.device | None:
    """The device to measure on: the one asked for, else CUDA where there is one, else the CPU, or none."""
    from empirical.measure.machine import device_named

    device = device_named(asked)
    return device if asked is not None or is_needed or device.type == "cuda" else None


def _begun(path: Path, device: torch.device) -> Calibration:
    """The calibration to write, as far as it is on disk.

    Raises:
        UsageError: a folder that cannot be written to. FileError: a file that is not of this machine.
    """
    from empirical.measure.calibrate import begin
    from empirical.measure.machine import this_machine

    if not os.access(path.parent, os.W_OK):
        raise UsageError(f"--calibration-out {path}: its folder is not one that can be written to")
    return begin(path, this_machine(device), is_resumed=path.exists())


def _find(
    found: Findings,
    jobs: Sequence[ModelJob],
    rank_jobs: Sequence[RankJob],
    device: torch.device | None,
    args: argparse.Namespace,
) -> None:
    """All that is asked for, into `found` as it is known."""
    proofs: list[ProofJob] = [*jobs, *rank_jobs]
    with _progress() as progress:
        task = progress.add_task("formulas against witnesses", total=len(proofs))

        def on_done(name: str) -> None:
            progress.update(task, advance=1, description=name)

        _check(found, proofs, args.jobs or default_workers(len(proofs)), on_done)
        if device is not None:
            _measure(found, jobs, device, args, progress)
            if args.train is not None:
                _train(found, device, args.train, progress)


def _check(found: Findings, jobs: Sequence[ProofJob], workers: int, on_done: Callable[[str], None]) -> None:
    """The checks of models and ranks, into `found`; an interrupt leaves those that were made."""
    proven = check_models(jobs, workers, on_done)
    found.checks += proven.results
    if proven.was_interrupted:
        raise KeyboardInterrupt


def _measure(
    found: Findings, jobs: Sequence[ModelJob], device: torch.device, args: argparse.Namespace, progress: Progress
) -> None:
    """Peak memory next to its prediction, for each model; and seconds, into the calibration's file."""
    from empirical.commands.calibrate import print_reading
    from empirical.measure.calibrate import calibrate
    from empirical.measure.memory import measured_memory

    # what is shipped is too large for a CPU: there, only what was named is run
    measured = jobs if args.models or device.type == "cuda" else ()
    task = progress.add_task(f"memory on {device.type}", total=len(measured))
    for config, seq_len in measured:
        rows: list[MeasuredPeak] = []
        for row in measured_memory(config, seq_len, device):
            rows.append(row)
            found.memory[config.name] = rows  # each as it is measured: an interrupt leaves those before it
        found.memory[config.name] = rows
        progress.update(task, advance=1, description=f"{config.name}: memory on {device.type}")
    assert found.calibration is not None
    cases = _cases(jobs if args.models else (), device, found.calibration.machine.memory_bytes)
    task = progress.add_task(f"seconds on {device.type}", total=len(cases))
    for made in calibrate(args.calibration_out, found.calibration, cases, device):
        for reading in made.readings[len(found.calibration.readings) :]:
            print_reading(reading)
        found.calibration = made
        progress.update(task, completed=len(made.readings))


def _cases(jobs: Sequence[ModelJob], device: torch.device, memory_bytes: int) -> list[Case]:
    """Of the models that were named, in bf16; else a set that suits the machine."""
    from empirical.measure.cases import cases_of, default_cases, setup_for

    if not jobs:
        return list(default_cases(device, memory_bytes))
    setups = [(config, setup_for(config, seq_len, 1, "bf16", device)) for config, seq_len in jobs]
    return [case for config, setup in setups for case in cases_of(config, setup, memory_bytes)]


def _train(found: Findings, device: torch.device, minutes: float, progress: Progress) -> None:
    """Plan for this machine with what was just timed, prove the model of the plan, and train it."""
    from empirical.measure import train

    assert found.calibration is not None
    family = CUDA_FAMILY if device.type == "cuda" else CPU_FAMILY
    task = progress.add_task("a plan for this machine", total=None)
    law = load_law(DEFAULT_LAW)
    found.planned = machine_plan(found.calibration, minutes, family, law, load_hardware())
    case = found.planned.case
    jobs = [(case.config, case.setup.seq_len)]
    _check(found, jobs, 1, lambda _: None)
    progress.update(task, description=f"training, on {device.type}", total=60 * minutes)

    def on_progress(steps: int, seconds: float) -> None:
        progress.update(task, completed=seconds)
        print(f"trained {steps} steps in {seconds:.1f} s", file=sys.stderr, flush=True)

    found.trained = train.train(case, device, 60 * minutes, on_progress)
    if found.trained.was_interrupted:
        raise KeyboardInterrupt


def _print(found: Findings, *, is_json: bool) -> None:
    from empirical.measure.versions import versions
    from empirical.proof import report

    if is_json:
        envelope = {"schema": "foretrain/prove/1", "version": version()}
        sys.stdout.write(json.dumps({**envelope, **found.as_json(), "versions": versions()}, indent=2) + "\n")
    else:
        sys.stdout.write(report.verify_text(found, load_hardware(), versions()))


def _progress() -> Progress:
    from rich.console import Console  # not in the core installation: missing, it is one line that says what to install
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description:<40}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    is_silent = not console.is_terminal  # in a file the erased bar would leave an empty line before an error's
    return Progress(*columns, TimeElapsedColumn(), console=console, transient=True, disable=is_silent)


VERB = Verb(
    name="prove",
    summary="Every formula against every witness: the transformers classes, our layers, fvcore, FlopCounterMode.",
    examples=("foretrain prove llama-3-8b", "foretrain prove --sweep --perturb --jobs 2"),
    add_arguments=_add_arguments,
    execute=_execute,
)
