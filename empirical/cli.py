"""`trainmeter-verify`: every formula against every witness, and one measured layer where there is a GPU.

torch takes seconds to import: it comes after the arguments and the files have been found good.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from analytic import hf
from analytic.commandline import Parser, positive_integer, run
from analytic.errors import UsageError
from analytic.files import model_config_paths, write_json
from analytic.hardware import load_hardware
from analytic.summary import Workload
from empirical.verify import Job, default_workers, verify_all

if TYPE_CHECKING:
    import torch

    from empirical.probe import Probe


def verify(argv: Sequence[str] | None = None) -> int:
    """Check formulas against witnesses. Returns 0 if all agree, 1 if any differs, 2 on bad input."""
    return run("trainmeter-verify", lambda: _verify(argv))


def _verify(argv: Sequence[str] | None) -> int:
    args = _parser().parse_args(argv)
    if args.probe not in (None, "cpu", "cuda"):
        raise UsageError(f"--probe {args.probe}: expected cuda or cpu")
    jobs = [_job(path, args.seq_len) for path in args.configs or model_config_paths()]
    from empirical import report
    from empirical.versions import versions

    device = _probe_device(args.probe)
    if device is not None and not os.access(args.probe_out.parent, os.W_OK):
        raise UsageError(f"--probe-out {args.probe_out}: its folder is not one that can be written to")
    with _progress() as progress:
        task = progress.add_task("formulas against witnesses", total=len(jobs))

        def finished(name: str) -> None:
            progress.update(task, advance=1, description=name)

        checks = verify_all(jobs, args.jobs or default_workers(len(jobs)), finished)
        probes = _probe(jobs, device, args.probe_out, progress) if device is not None else []
    failed = sum(check.status == "fail" for check in checks)
    if args.json:
        facts = {
            "checks": [check.as_json() for check in checks],
            "passed": len(checks) - failed,
            "failed": failed,
            "probes": [probe.as_json() for probe in probes],
            "versions": versions(),
        }
        sys.stdout.write(json.dumps(facts, indent=2) + "\n")
    else:
        sys.stdout.write(report.verify_text(checks, probes, load_hardware(), versions()))
    if len({check.model for check in checks}) < len({job[0].name for job in jobs}):
        raise KeyboardInterrupt
    return 1 if failed else 0


def _parser() -> Parser:
    parser = Parser(prog="trainmeter-verify", description="Prove the formulas against the real models.")
    parser.add_argument("configs", type=Path, nargs="*", metavar="CONFIG", help="default: every config shipped")
    parser.add_argument("--seq-len", type=positive_integer, metavar="N", help="default: each config's own")
    parser.add_argument("--jobs", type=positive_integer, metavar="N", help="processes; default: one a core")
    parser.add_argument("--probe", metavar="DEVICE", help="measure a layer on cuda (default where there is one) or cpu")
    parser.add_argument("--probe-out", type=Path, default=Path("probe.json"), metavar="FILE", help="where to write it")
    parser.add_argument("--json", action="store_true", help="the same facts for machines, in base units")
    return parser


def _job(path: Path, seq_len: int | None) -> Job:
    config = hf.load(path)
    return config, Workload.of(config, seq_len=seq_len).seq_len


def _probe_device(asked: str | None) -> torch.device | None:
    """The device to measure on: the one asked for, else CUDA where there is one, else none.

    Raises:
        UsageError: a device that is not there.
    """
    import torch

    if asked is None:
        return torch.device("cuda") if torch.cuda.is_available() else None
    if asked == "cuda" and not torch.cuda.is_available():
        raise UsageError("--probe cuda: no CUDA device here")
    return torch.device(asked)


def _probe(jobs: Sequence[Job], device: torch.device, path: Path, progress: Progress) -> list[Probe]:
    """Measure one layer of each model; the file holds what was measured after every one of them."""
    from empirical.probe import probe_layer
    from empirical.versions import versions

    probes: list[Probe] = []
    task = progress.add_task(f"one layer on {device.type}", total=len(jobs))
    for config, seq_len in jobs:
        probes.append(probe_layer(config, device, seq_len=seq_len))
        facts: dict[str, Any] = {
            "schema": "trainmeter-probe-1",
            "time_utc": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": versions(),
            "probes": [probe.as_json() for probe in probes],
        }
        write_json(path, facts)
        progress.update(task, advance=1, description=f"{config.name} on {device.type}")
    return probes


def _progress() -> Progress:
    columns = (SpinnerColumn(), TextColumn("{task.description:<40}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True)
