"""The calibration file, in both directions. Its keys are listed here by hand: a dataclass may change, the file may not.

It holds raw facts: what ran, its seconds and bytes, where and when. Whatever is derived, such as an MFU, is not in it.
A file of schema 1 is still read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar, get_args

from analytic.huggingface.config import parse
from analytic.io.files import read_json_object
from analytic.io.keys import Derived, Keys
from analytic.io.located import located
from analytic.limits import MAX_LAYERS
from analytic.model.checkpointing import Checkpointing
from analytic.model.optimizer import Optimizer
from analytic.model.training import AttentionKernel, Precision, TrainingSetup
from analytic.performance.calibration import (
    Builder,
    Calibration,
    Case,
    Ceiling,
    Machine,
    Part,
    Reading,
    RoutingMode,
)
from analytic.version import version

SCHEMA = "foretrain/calibration/2"
MOST_BYTES = 10**15  # far above any device
MOST_WORK = 10**18
LEAST_SECONDS, MOST_SECONDS = 1e-9, 1e6  # of one run: below the tick of any clock, and days

# Of each schema that is read, what it calls a key of schema 2.
_KEY_NAMES: Mapping[str, Mapping[str, str]] = {
    SCHEMA: {},
    "trainmeter-calibration-1": {
        "compiled": "is_compiled",
        "master_weights": "has_master_weights",
        "accumulating": "is_accumulating",
        "flops": "work",
        "bytes": "work",
    },
}
_SETUP = (
    *("seq_len", "micro_batch", "precision", "optimizer", "checkpointing", "attention_kernel"),
    *("master_weights", "accumulating"),
)
_SETUP_UNUSED = ("rounding_bytes", "counts_kernel_bytes")  # of schema 1: they are of a prediction, not of a run
_CASE = ("model", "architecture", "part", "layer", "of_layers", "setup", "built_by", "compiled", "routing")

Item = TypeVar("Item")


def to_json(calibration: Calibration) -> dict[str, Any]:
    """The object of a calibration's file; `version` is that of the tool that writes it."""
    machine = calibration.machine
    return {
        "schema": SCHEMA,
        "version": version(),
        "machine": {
            "device": machine.device,
            "memory_bytes": machine.memory_bytes,
            "versions": dict(machine.versions),
            "revision": machine.revision,
        },
        "ceilings": [_ceiling_to_json(ceiling) for ceiling in calibration.ceilings],
        "readings": [_reading_to_json(reading) for reading in calibration.readings],
    }


def case_to_json(case: Case) -> dict[str, Any]:
    """A case as a calibration's file states it: two cases that are stated alike are the same."""
    return {
        "model": case.config.name,
        "architecture": dict(case.config.raw),
        "part": case.part,
        "layer": case.layer,
        "of_layers": case.of_layers,
        "setup": setup_to_json(case.setup),
        "built_by": case.built_by,
        "compiled": case.is_compiled,
        "routing": case.routing,
    }


def setup_to_json(setup: TrainingSetup) -> dict[str, Any]:
    """What ran. What a prediction assumes of the allocator and of kernels is not among it."""
    return {
        "seq_len": setup.seq_len,
        "micro_batch": setup.micro_batch,
        "precision": setup.precision,
        "optimizer": setup.optimizer,
        "checkpointing": setup.checkpointing,
        "attention_kernel": setup.attention_kernel,
        "master_weights": setup.has_master_weights,
        "accumulating": setup.is_accumulating,
    }


def _ceiling_to_json(ceiling: Ceiling) -> dict[str, Any]:
    seconds = list(ceiling.seconds)
    if ceiling.kind == "copy":
        return {"kind": ceiling.kind, "bytes": ceiling.work, "seconds": seconds}
    return {"kind": ceiling.kind, "precision": ceiling.precision, "flops": ceiling.work, "seconds": seconds}


def _reading_to_json(reading: Reading) -> dict[str, Any]:
    return {
        "case": case_to_json(reading.case),
        "seconds": list(reading.seconds),
        "peak_bytes": reading.peak_bytes,
        "time_utc": reading.time_utc,
        "conditions": dict(reading.conditions),
        "error": reading.error,
    }


def load_calibration(path: Path) -> Calibration:
    """Read a calibration of any schema so far.

    Raises:
        FileError: and its kin: of an unknown schema, truncated, or a fact that cannot be; names path, entry and key.
    """
    with located(path):
        keys = Keys(read_json_object(path))
        schema = keys.text("schema", among=tuple(_KEY_NAMES))
        names = _KEY_NAMES[schema]
        if schema == SCHEMA:
            keys.text("version")
        _exactly(keys, ("schema", "machine", "ceilings", "readings"), optional=("version",))
        return Calibration(
            name=path.name,
            machine=_machine(keys.section("machine") or Keys({})),
            ceilings=_each(keys, "ceilings", lambda item: _ceiling(item, names)),
            readings=_each(keys, "readings", lambda item: _reading(item, names)),
        )


def _exactly(keys: Keys, names: tuple[str, ...], optional: tuple[str, ...] = ()) -> None:
    keys.require(names, "calibration")
    keys.allow((*names, *optional))


def _each(keys: Keys, name: str, read: Callable[[Keys], Item]) -> tuple[Item, ...]:
    """Every object of a list; an error names its place."""
    items = keys.config[name]
    if type(items) is not list or any(type(item) is not dict for item in items):
        keys.reject(name, items, "a list of objects")
    result = []
    for i, item in enumerate(items):
        with located(f"{name}[{i}]"):
            result.append(read(Keys(item)))
    return tuple(result)


def _machine(keys: Keys) -> Machine:
    _exactly(keys, ("device", "memory_bytes", "versions", "revision"))
    return Machine(
        device=keys.text("device"),
        memory_bytes=keys.integer("memory_bytes", most=MOST_BYTES),
        versions=_texts(keys, "versions"),
        revision=keys.text("revision"),
    )


def _ceiling(keys: Keys, names: Mapping[str, str]) -> Ceiling:
    kind: Any = keys.text("kind", among=("matmul", "copy"))
    unit = "flops" if kind == "matmul" else "bytes"
    work = names.get(unit, unit)
    _exactly(keys, ("kind", work, "seconds", *(("precision",) if kind == "matmul" or names else ())))
    precision: Any = keys.text("precision", among=get_args(Precision)) if kind == "matmul" else None
    amount = keys.integer(work, most=MOST_WORK)
    return Ceiling(kind=kind, precision=precision, work=amount, seconds=_seconds(keys, least=1))


def _reading(keys: Keys, names: Mapping[str, str]) -> Reading:
    _exactly(keys, ("case", "seconds", "peak_bytes", "time_utc", "conditions", "error"))
    error = keys.text("error")
    peak = None if keys.config["peak_bytes"] is None else keys.integer("peak_bytes", least=0, most=MOST_BYTES)
    return Reading(
        case=_case(keys.section("case") or Keys({}), names),
        seconds=_seconds(keys, least=0 if error else 1),
        peak_bytes=peak,
        time_utc=_time(keys),
        conditions=_texts(keys, "conditions"),
        error=error,
    )


def _case(keys: Keys, names: Mapping[str, str]) -> Case:
    _exactly(keys, tuple(names.get(key, key) for key in _CASE))
    part: Any = keys.text("part", among=get_args(Part))
    built_by: Any = keys.text("built_by", among=get_args(Builder))
    routing: Any = keys.text("routing", among=get_args(RoutingMode))
    architecture = keys.section("architecture") or Keys({})
    return Case(
        config=parse(Path(f"{keys.text('model')}.json"), Keys(architecture.config)),
        part=part,
        layer=None if keys.config["layer"] is None else keys.integer("layer", least=0, most=MAX_LAYERS),
        of_layers=keys.integer("of_layers", most=MAX_LAYERS),
        setup=_setup(keys.section("setup") or Keys({}), names),
        built_by=built_by,
        is_compiled=_flag(keys, names.get("compiled", "compiled")),
        routing=routing,
    )


def _setup(keys: Keys, names: Mapping[str, str]) -> TrainingSetup:
    _exactly(keys, tuple(names.get(key, key) for key in _SETUP), optional=_SETUP_UNUSED if names else ())
    precision: Any = keys.text("precision", among=get_args(Precision))
    optimizer: Any = keys.text("optimizer", among=get_args(Optimizer))
    checkpointing: Any = keys.text("checkpointing", among=get_args(Checkpointing))
    attention_kernel: Any = keys.text("attention_kernel", among=get_args(AttentionKernel))
    return TrainingSetup(
        seq_len=keys.integer("seq_len"),
        micro_batch=keys.integer("micro_batch"),
        precision=precision,
        optimizer=optimizer,
        checkpointing=checkpointing,
        attention_kernel=attention_kernel,
        has_master_weights=_flag(keys, names.get("master_weights", "master_weights")),
        is_accumulating=_flag(keys, names.get("accumulating", "accumulating")),
    )


def _flag(keys: Keys, name: str) -> bool:
    return keys.flag(name, Derived(False, "required"))


def _seconds(keys: Keys, *, least: int) -> tuple[float, ...]:
    values = keys.config["seconds"]
    is_good = type(values) is list and all(
        type(v) in (int, float) and LEAST_SECONDS <= v <= MOST_SECONDS for v in values
    )
    if not is_good or len(values) < least:
        keys.reject("seconds", values, f"a list of {least} or more numbers from {LEAST_SECONDS:g} to {MOST_SECONDS:g}")
    return tuple(map(float, values))


def _time(keys: Keys) -> str:
    """A moment as it is printed: its day is printed with every measured figure."""
    text = keys.text("time_utc")
    try:
        is_utc = datetime.fromisoformat(text).utcoffset() == timedelta(0)
    except ValueError:
        is_utc = False
    if not is_utc:
        keys.reject("time_utc", text, "a moment in UTC, such as 2026-01-02T03:04:05+00:00")
    return text


def _texts(keys: Keys, name: str) -> dict[str, str]:
    value = keys.config[name]
    if type(value) is not dict or any(type(text) is not str for text in value.values()):
        keys.reject(name, value, "an object of strings")
    return dict(value)
