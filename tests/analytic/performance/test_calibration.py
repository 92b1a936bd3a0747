"""The calibration file: it is read back as written, and what no calibration could be is refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analytic.errors import FileError, PlannerError, UsageError
from analytic.hardware.table import load_hardware
from analytic.io.files import configs_dir, write_json
from analytic.model.training import TrainingSetup
from analytic.performance import calibration_file
from analytic.performance.calibration import Ceiling
from analytic.performance.calibration_file import load_calibration, to_json
from tests.calibration_cases import FP32, LLAMA, MIXTRAL, calibration, case, explained, written
from tests.configurations import parsed

ONE = explained(case(parsed(LLAMA)))


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    readings = [
        ONE,
        explained(case(parsed(LLAMA), "step", FP32)),
        explained(case(parsed(MIXTRAL), routing="balanced", built_by="ours", is_compiled=True)),
    ]
    made = calibration(readings)
    read = load_calibration(written(tmp_path / "calibration.json", made))
    assert to_json(read) == to_json(made)
    assert [replace(r, case=ONE.case) for r in read.readings] == [replace(r, case=ONE.case) for r in readings]
    assert [r.case.setup for r in read.readings] == [r.case.setup for r in readings]
    assert [(r.case.built_by, r.case.is_compiled, r.case.routing) for r in read.readings] == [
        ("transformers", False, "none"),
        ("transformers", False, "none"),
        ("ours", True, "balanced"),
    ]
    assert [r.case.layers for r in read.readings] == [r.case.layers for r in readings]
    assert read.date == "2026-01-02"


SETUPS = [
    TrainingSetup(seq_len=7, micro_batch=3, precision="fp16"),
    TrainingSetup(seq_len=7, optimizer="adamw_foreach", checkpointing="full"),
    TrainingSetup(seq_len=7, optimizer="none", attention_kernel="cudnn"),
    TrainingSetup(seq_len=7, has_master_weights=True),
    TrainingSetup(seq_len=7, is_accumulating=True),
]


@pytest.mark.parametrize("setup", SETUPS)
def test_every_fact_of_a_setup_is_read_back(setup: TrainingSetup, tmp_path: Path) -> None:
    path = written(tmp_path / "c.json", calibration([explained(case(parsed(LLAMA), setup=setup))]))
    assert load_calibration(path).readings[0].case.setup == setup


DATA = Path(__file__).parents[2] / "data"


def test_a_file_of_schema_1_is_still_read() -> None:
    """A part of the file that schema 1 was last written as."""
    made = load_calibration(DATA / "calibration-schema-1.json")
    (reading,) = made.readings
    step = reading.case
    assert (made.machine.device, made.machine.memory_bytes) == ("cpu", 25_325_268_992)
    assert (step.part, step.layer, step.of_layers, step.is_compiled, step.routing) == ("step", None, 2, False, "none")
    assert step.config.spec.hidden_size == 64
    assert step.setup == TrainingSetup(
        seq_len=64,
        micro_batch=1,
        precision="bf16",
        optimizer="adamw_fused",
        checkpointing="full",
        attention_kernel="flash",
        has_master_weights=True,
        is_accumulating=False,
    )
    assert reading.time_utc == "2026-11-22T00:03:33+00:00"
    assert [(c.kind, c.precision, c.work) for c in made.ceilings] == [
        ("matmul", "bf16", 2 * 1024**3),
        ("copy", None, 2 * 2**26),
    ]


def test_schema_2_is_this_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same facts under the keys of schema 2: whoever changes that file breaks those that others wrote."""
    monkeypatch.setattr(calibration_file, "version", lambda: "0.0.0")
    golden = DATA / "calibration-schema-2.json"
    for source in (DATA / "calibration-schema-1.json", golden):
        write_json(tmp_path / "c.json", to_json(load_calibration(source)))
        assert (tmp_path / "c.json").read_text() == golden.read_text()


def test_the_shipped_calibration_is_of_schema_2() -> None:
    raw = json.loads((configs_dir() / "calibrations" / "cpu.json").read_text())
    assert raw["schema"] == "foretrain/calibration/2"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("readings", 0, "case", "setup", "is_accumulating"), "readings[0]: is_accumulating = 3"),
        (("readings", 0, "case", "setup", "accumulating"), "readings[0]: accumulating: no such key"),
        (("readings", 0, "case", "compiled"), "readings[0]: compiled: no such key"),
        (("ceilings", 0, "flops"), "ceilings[0]: flops: no such key"),
        (("ceilings", 0, "work"), "ceilings[0]: work = '3'"),
    ],
)
def test_what_schema_1_could_not_hold_is_refused(change: tuple[Any, ...], said: str, tmp_path: Path) -> None:
    raw = json.loads((DATA / "calibration-schema-1.json").read_text())
    inner = raw
    for step in change[:-1]:
        inner = inner[step]
    inner[change[-1]] = "3" if change[-1] == "work" else 3
    (tmp_path / "c.json").write_text(json.dumps(raw))
    with pytest.raises(FileError) as refused:
        load_calibration(tmp_path / "c.json")
    assert str(refused.value).startswith(f"{tmp_path / 'c.json'}: {said}")


def _set(path: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(raw: Any) -> None:
        *steps, last = path.split(".")
        for step in steps:
            raw = raw[int(step)] if step.isdigit() else raw[step]
        raw[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_set("schema", "foretrain/calibration/99"), "schema = 'foretrain/calibration/99': expected one of foretrain/"),
        (_set("schema", ["foretrain/calibration/2"]), "schema = ['foretrain/calibration/2']: expected one of"),
        (_set("version", 2), "version = 2"),
        (_set("readings.0.seconds", []), "readings[0]: seconds"),
        (_set("readings.0.seconds", [0.0]), "readings[0]: seconds = [0.0]"),
        (_set("readings.0.seconds", [5e-324]), "readings[0]: seconds = [5e-324]"),
        (_set("readings.0.seconds", [10**400]), "readings[0]: seconds = [1000000000"),
        (_set("readings.0.time_utc", "yesterday"), "readings[0]: time_utc = 'yesterday'"),
        (_set("readings.0.time_utc", "2026-01-02T03:04:05"), "readings[0]: time_utc"),
        (_set("readings.0.case.setup.rounding_bytes", 512), "readings[0]: rounding_bytes: no such key"),
        (_set("readings.0.case.setup.optimizer", "adam"), "readings[0]: optimizer = 'adam'"),
        (_set("readings.0.case.setup.precision", "fp8"), "readings[0]: precision = 'fp8'"),
        (_set("readings.0.case.compiled", "no"), "readings[0]: compiled = 'no'"),
        (_set("readings.0.mfu", 0.5), "readings[0]: mfu: no such key"),
        (_set("readings.0.case.setup.seq_len", 0), "readings[0]: seq_len = 0"),
        (_set("readings.0.case.setup.accumulating", 1), "readings[0]: accumulating"),
        (_set("readings.0.case.part", "backward"), "readings[0]: part"),
        (_set("readings.0.case.layer", 3), "readings[0]: layer = 3"),
        (_set("readings.0.case.of_layers", 1), "readings[0]: of_layers = 1"),
        (_set("readings.0.case.routing", "balanced"), "readings[0]: routing"),
        (_set("readings.0.case.architecture.hidden_size", -1), "readings[0]: hidden_size = -1"),
        (_set("machine.device", 3), "device = 3"),
        (_set("ceilings", {}), "ceilings"),
    ],
)
def test_what_cannot_be_is_refused(change: Callable[[Any], None], said: str, tmp_path: Path) -> None:
    raw = to_json(calibration([ONE]))
    change(raw)
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(raw))
    with pytest.raises(PlannerError) as refused:
        load_calibration(path)
    assert str(refused.value).startswith(f"{path}: {said}")
    assert "\n" not in str(refused.value)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "calibration.json", calibration([ONE]))
    path.write_text(path.read_text()[:-40])
    with pytest.raises(FileError, match="not JSON"):
        load_calibration(path)


def test_infinity_is_no_time(tmp_path: Path) -> None:
    path = written(tmp_path / "calibration.json", calibration([ONE]))
    seconds = json.dumps(list(ONE.seconds))
    path.write_text(path.read_text().replace(seconds, "[1e999]"))
    with pytest.raises(FileError, match="seconds"):
        load_calibration(path)


def test_a_case_that_cannot_be_is_refused() -> None:
    for wrong in ({"part": "step", "layer": 0}, {"layer": None}, {"routing": "router"}):
        with pytest.raises(UsageError):
            case(parsed(LLAMA), **wrong)
    with pytest.raises(UsageError, match="built_by"):
        case(parsed(LLAMA), "step", built_by="ours")


def test_the_peak_is_the_datasheet_s_or_else_the_measured_ceiling_and_says_which() -> None:
    hardware = load_hardware()
    ceilings = (
        Ceiling(kind="matmul", precision="bf16", work=8 * 10**9, seconds=(2.0, 1.0, 4.0)),
        Ceiling(kind="matmul", precision="bf16", work=6 * 10**9, seconds=(1.0,)),
        Ceiling(kind="copy", precision=None, work=10**12, seconds=(1.0,)),
    )
    assert calibration([ONE]).peak("bf16", hardware) == (989e12, "published dense peak of h200")
    cpu = calibration([ONE], device="cpu")
    assert cpu.peak("bf16", hardware) is None
    assert cpu.mfu(ONE, hardware) is None
    object.__setattr__(cpu, "ceilings", ceilings)
    assert cpu.peak("bf16", hardware) == (6e9, "best matrix product measured on cpu")
    assert cpu.peak("fp32", hardware) is None
    assert cpu.ceiling("copy", "bf16") == 1e12
    assert cpu.mfu(ONE, hardware) == ONE.case.model_flops() / ONE.median_seconds / 6e9
