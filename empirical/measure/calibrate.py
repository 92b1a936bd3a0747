"""Time cases into a calibration, whose file is complete after every case."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from analytic.errors import FileError
from analytic.io.files import json_bytes, write_json
from analytic.io.located import located
from analytic.performance.calibration import Calibration, Case, Ceiling, Machine
from analytic.performance.calibration_file import case_to_json, load_calibration, to_json
from empirical.measure.machine import conditions
from empirical.measure.memory import why
from empirical.measure.throughput import MATMUL_SIZES, copy_ceiling, matmul_ceiling, measure


def begin(path: Path, machine: Machine, *, is_resumed: bool) -> Calibration:
    """An empty calibration, or the one on disk to continue.

    Raises:
        FileError: the file exists already, or is to be continued on another device or with other versions.
    """
    is_there = path.exists()
    if is_there and not is_resumed:
        raise FileError(f"{path}: already there: expected another --out, or --resume to continue it")
    if not is_there:  # a first run may have been interrupted before it wrote anything
        return Calibration(name=path.name, machine=machine, ceilings=(), readings=())
    found = load_calibration(path)
    if found.machine.device != machine.device:
        raise FileError(f"{path}: measured on {found.machine.device}, this is {machine.device}")
    if found.machine.versions != machine.versions:
        raise FileError(f"{path}: measured with {_versions(found.machine)}, this is {_versions(machine)}")
    return found


def _if_it_runs(time: Callable[[], Ceiling]) -> list[Ceiling]:
    """A ceiling; or none and a line on stderr, where memory does not suffice or the device has no such product."""
    try:
        return [time()]
    except Exception as failure:  # whatever a library refuses on this device, the cases continue
        print(f"a ceiling of the device: {why(failure)}", file=sys.stderr, flush=True)
        return []


def _versions(machine: Machine) -> str:
    return ", ".join(f"{name} {version}" for name, version in machine.versions.items())


def calibrate(path: Path, begun: Calibration, cases: Iterable[Case], device: torch.device) -> Iterator[Calibration]:
    """Time what is not timed yet, ceilings first; yields the calibration each time its file was written."""
    todo, made = list(cases), begun
    for case in todo:  # what cannot be written is refused before it is timed
        with located(case.config.path):
            json_bytes(case_to_json(case))
    have = {ceiling.precision for ceiling in made.ceilings if ceiling.kind == "matmul"}
    for precision in sorted({case.setup.precision for case in todo} - have):
        products = [partial(matmul_ceiling, precision, size, device) for size in MATMUL_SIZES[device.type]]
        copies = [] if made.ceilings else [partial(copy_ceiling, device)]
        found = [ceiling for time in (*products, *copies) for ceiling in _if_it_runs(time)]
        made = replace(made, ceilings=(*made.ceilings, *found))
        write_json(path, to_json(made))
        yield made
    done = [case_to_json(reading.case) for reading in made.readings]
    for case in todo:
        if case_to_json(case) in done:
            continue
        made = replace(made, readings=(*made.readings, measure(case, device, lambda: conditions(device))))
        write_json(path, to_json(made))
        yield made
