"""Reading a calibration: a versioned file, of which nothing that could not be is taken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar, get_args

from analytic.errors import FileError
from analytic.huggingface.config import parse
from analytic.io.files import read_json_object
from analytic.io.keys import Derived, Keys
from analytic.io.located import located
from analytic.limits import MAX_LAYERS
from analytic.model.training import Precision, TrainingSetup
from analytic.performance.calibration import (
    SCHEMA,
    Builder,
    Calibration,
    Case,
    Ceiling,
    Machine,
    Part,
    Reading,
    Routing,
)

MOST_BYTES = 10**15  # far above any device
MOST_WORK = 10**18
LEAST_SECONDS, MOST_SECONDS = 1e-9, 1e6  # of one run: below the tick of any clock, and days

Item = TypeVar("Item")


def load_calibration(path: Path) -> Calibration:
    """Read a calibration.

    Raises:
        FileError: and its kin: of another schema, truncated, or a fact that cannot be; names path, entry and key.
    """
    raw = read_json_object(path)
    if raw.get("schema") != SCHEMA:
        raise FileError(f"{path}: schema = {raw.get('schema')!r}: expected {SCHEMA!r}")
    with located(path):
        keys = Keys(raw)
        _exactly(keys, ("schema", "machine", "ceilings", "readings"))
        return Calibration(
            name=path.name,
            machine=_machine(keys.section("machine") or Keys({})),
            ceilings=_each(keys, "ceilings", _ceiling),
            readings=_each(keys, "readings", _reading),
        )


def _exactly(keys: Keys, names: tuple[str, ...]) -> None:
    keys.require(names, "calibration")
    keys.allow(names)


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


def _ceiling(keys: Keys) -> Ceiling:
    _exactly(keys, ("kind", "precision", "work", "seconds"))
    kind: Any = keys.text("kind", among=("matmul", "copy"))
    precision: Any = keys.text("precision", among=get_args(Precision))
    work = keys.integer("work", most=MOST_WORK)
    return Ceiling(kind=kind, precision=precision, work=work, seconds=_seconds(keys, least=1))


def _reading(keys: Keys) -> Reading:
    _exactly(keys, ("case", "seconds", "peak_bytes", "time_utc", "conditions", "error"))
    error = keys.text("error")
    peak = None if keys.config["peak_bytes"] is None else keys.integer("peak_bytes", least=0, most=MOST_BYTES)
    return Reading(
        case=_case(keys.section("case") or Keys({})),
        seconds=_seconds(keys, least=0 if error else 1),
        peak_bytes=peak,
        time_utc=_time(keys),
        conditions=_texts(keys, "conditions"),
        error=error,
    )


def _case(keys: Keys) -> Case:
    _exactly(keys, tuple(Case.__dataclass_fields__.keys() - {"config"} | {"model", "architecture"}))
    part: Any = keys.text("part", among=get_args(Part))
    built_by: Any = keys.text("built_by", among=get_args(Builder))
    routing: Any = keys.text("routing", among=get_args(Routing))
    architecture = keys.section("architecture") or Keys({})
    return Case(
        config=parse(Path(f"{keys.text('model')}.json"), Keys(architecture.config)),
        part=part,
        layer=None if keys.config["layer"] is None else keys.integer("layer", least=0, most=MAX_LAYERS),
        of_layers=keys.integer("of_layers", most=MAX_LAYERS),
        setup=_setup(keys.section("setup") or Keys({})),
        built_by=built_by,
        is_compiled=keys.flag("is_compiled", Derived(False, "required")),
        routing=routing,
    )


def _setup(keys: Keys) -> TrainingSetup:
    _exactly(keys, tuple(field.name for field in fields(TrainingSetup)))
    for name in ("has_master_weights", "is_accumulating", "counts_kernel_bytes"):
        keys.flag(name, Derived(False, "required"))
    return TrainingSetup(**keys.config)


def _seconds(keys: Keys, *, least: int) -> tuple[float, ...]:
    values = keys.config["seconds"]
    is_good = type(values) is list and all(
        type(v) in (int, float) and LEAST_SECONDS <= v <= MOST_SECONDS for v in values
    )
    if not is_good or len(values) < least:
        keys.reject("seconds", values, f"a list of {least} or more numbers from {LEAST_SECONDS:g} to {MOST_SECONDS:g}")
    return tuple(map(float, values))


def _time(keys: Keys) -> str:
    """A moment as it is printed: its day is told with every measured figure."""
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
