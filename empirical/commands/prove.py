"""`trainmeter-verify`: every formula against every witness; where there is a device, what it takes and how fast it is.

torch takes seconds to import: it comes after the arguments and the files have been found good.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from analytic.commands.options import Parser, number_up_to, positive_integer, run
from analytic.errors import PlannerError, UsageError
from analytic.hardware.table import load_hardware
from analytic.huggingface import config as hf
from analytic.io.files import model_config_paths
from analytic.performance.calibration import Calibration, Case
from analytic.planning.forward import DEFAULT_LAW
from analytic.planning.this_machine import CPU_FAMILY, CUDA_FAMILY, machine_plan
from analytic.report.count import Workload
from analytic.scaling.law_file import load_law
from empirical.proof.findings import Findings
from empirical.proof.workers import ModelJob, check_models, default_workers

if TYPE_CHECKING:
    import torch

    from empirical.measure.memory import MeasuredPeak

DEFAULT_OUT = Path("calibration.json")
MOST_MINUTES = 7 * 24 * 60


def verify(argv: Sequence[str] | None = None) -> int:
    """Check formulas against witnesses. Returns 0 if all agree, 1 if any differs, 2 on bad input."""
    return run("trainmeter-verify", lambda: _verify(argv))


def _verify(argv: Sequence[str] | None) -> int:
    args = _parser().parse_args(argv)
    jobs = [_job(path, args.seq_len) for path in args.configs or model_config_paths()]
    device = _device(args.device, is_needed=args.train is not None)
    found = Findings()
    if device is not None:
        found.calibration = _begun(args.calibration_out, device)
    try:
        _find(found, jobs, device, args)
    except (KeyboardInterrupt, PlannerError):  # minutes of measurements are printed first
        _print(found, is_json=args.json)
        raise
    _print(found, is_json=args.json)
    return 1 if found.failed else 0


def _parser() -> Parser:
    parser = Parser(prog="trainmeter-verify", description="Prove the formulas against the real models.")
    add = parser.add_argument
    add("configs", type=Path, nargs="*", metavar="CONFIG", help="default: every config shipped")
    add("--seq-len", type=positive_integer, metavar="N", help="default: each config's own")
    add("--jobs", type=positive_integer, metavar="N", help="processes; default: one a core")
    add("--device", metavar="DEVICE", help="measure on cuda (default where there is one) or cpu")
    add(
        "--calibration-out",
        type=Path,
        default=DEFAULT_OUT,
        metavar="FILE",
        help=f"what is timed on the device, default {DEFAULT_OUT}; a file of the same device is gone on with",
    )
    add(
        "--train",
        type=number_up_to(MOST_MINUTES),
        metavar="MINUTES",
        help="then train what a plan for this machine says, for that long: planned against actual",
    )
    add("--json", action="store_true", help="the same facts for machines, in base units")
    return parser


def _job(path: Path, seq_len: int | None) -> ModelJob:
    config = hf.load(path)
    return config, Workload.of(config, seq_len=seq_len).seq_len


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


def _find(found: Findings, jobs: Sequence[ModelJob], device: torch.device | None, args: argparse.Namespace) -> None:
    """All that is asked for, into `found` as it is known."""
    with _progress() as progress:
        task = progress.add_task("formulas against witnesses", total=len(jobs))

        def on_done(name: str) -> None:
            progress.update(task, advance=1, description=name)

        _check(found, jobs, args.jobs or default_workers(len(jobs)), on_done)
        if device is not None:
            _measure(found, jobs, device, args, progress)
            if args.train is not None:
                _train(found, device, args.train, progress)


def _check(found: Findings, jobs: Sequence[ModelJob], workers: int, on_done: Callable[[str], None]) -> None:
    """The checks of models, into `found`; an interrupt leaves those that were made."""
    proven = check_models(jobs, workers, on_done)
    found.checks += proven.results
    if proven.was_interrupted:
        raise KeyboardInterrupt


def _measure(
    found: Findings, jobs: Sequence[ModelJob], device: torch.device, args: argparse.Namespace, progress: Progress
) -> None:
    """Peak memory beside its prediction, for each model; and seconds, into the calibration's file."""
    from empirical.commands.calibrate import tell
    from empirical.measure.calibrate import calibrate
    from empirical.measure.memory import measured_memory

    # what is shipped is too large for a CPU: there, only what was named is run
    measured = jobs if args.configs or device.type == "cuda" else ()
    task = progress.add_task(f"memory on {device.type}", total=len(measured))
    for config, seq_len in measured:
        rows: list[MeasuredPeak] = []
        for row in measured_memory(config, seq_len, device):
            rows.append(row)
            found.memory[config.name] = rows  # each as it is measured: an interrupt leaves those before it
        found.memory[config.name] = rows
        progress.update(task, advance=1, description=f"{config.name}: memory on {device.type}")
    assert found.calibration is not None
    cases = _cases(jobs if args.configs else (), device, found.calibration.machine.memory_bytes)
    task = progress.add_task(f"seconds on {device.type}", total=len(cases))
    for made in calibrate(args.calibration_out, found.calibration, cases, device):
        for reading in made.readings[len(found.calibration.readings) :]:
            tell(reading)
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
        sys.stdout.write(json.dumps({**found.as_json(), "versions": versions()}, indent=2) + "\n")
    else:
        sys.stdout.write(report.verify_text(found, load_hardware(), versions()))


def _progress() -> Progress:
    columns = (SpinnerColumn(), TextColumn("{task.description:<40}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True)
