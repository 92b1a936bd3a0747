"""The calibration file: what is written is read back, and what no calibration could be is refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analytic.errors import FileError, PlannerError, UsageError
from analytic.hardware.table import load_hardware
from analytic.performance.calibration import Ceiling
from analytic.performance.calibration_file import load_calibration
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
    assert read.as_json() == made.as_json()
    assert [r.case.layers for r in read.readings] == [r.case.layers for r in readings]
    assert read.date == "2026-01-02"


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
        (_set("schema", "trainmeter-calibration-99"), "schema = 'trainmeter-calibration-99'"),
        (_set("readings.0.seconds", []), "readings[0]: seconds"),
        (_set("readings.0.seconds", [0.0]), "readings[0]: seconds = [0.0]"),
        (_set("readings.0.seconds", [5e-324]), "readings[0]: seconds = [5e-324]"),
        (_set("readings.0.seconds", [10**400]), "readings[0]: seconds = [1000000000"),
        (_set("readings.0.time_utc", "yesterday"), "readings[0]: time_utc = 'yesterday'"),
        (_set("readings.0.time_utc", "2026-01-02T03:04:05"), "readings[0]: time_utc"),
        (_set("readings.0.case.setup.counts_kernel_bytes", "no"), "readings[0]: counts_kernel_bytes = 'no'"),
        (_set("readings.0.case.setup.rounding_bytes", 512.0), "readings[0]: rounding_bytes = 512.0"),
        (_set("readings.0.mfu", 0.5), "readings[0]: mfu: no such key"),
        (_set("readings.0.case.setup.seq_len", 0), "readings[0]: seq_len = 0"),
        (_set("readings.0.case.setup.is_accumulating", 1), "readings[0]: is_accumulating"),
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
    raw = calibration([ONE]).as_json()
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
        Ceiling(kind="copy", precision="fp32", work=10**12, seconds=(1.0,)),
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
