"""Text for people of what was verified and measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from analytic.calibration_report import calibration_text
from analytic.hardware import Hardware
from analytic.memory_report import setup_text
from analytic.report import table
from empirical.checks import Check

if TYPE_CHECKING:
    from empirical.cli import Findings
    from empirical.memory_measured import MeasuredPeak


def verify_text(found: Findings, hardware: Hardware, versions: Mapping[str, str]) -> str:
    """What `trainmeter-verify` prints: a row for each witness, disagreements down to the term, what was measured."""
    failed = [check for check in found.checks if check.status == "fail"]
    lines = [*_rows(found.checks), ""]
    for check in failed:
        lines += [*_failure(check), ""]
    for model, peaks in found.memory.items():
        lines += [*_memory_rows(model, peaks), ""]
    if found.calibration is not None:
        lines.append(calibration_text(found.calibration, hardware))
    with_versions = ", ".join(f"{name} {version}" for name, version in versions.items())
    passed = len(found.checks) - len(failed)
    lines.append(f"{len(found.checks)} checks: {passed} passed, {len(failed)} failed ({with_versions})")
    return "\n".join(lines) + "\n"


def _rows(checks: Sequence[Check]) -> list[str]:
    rows = [("model", "quantity", "witness", "formula", "witness says", "difference", "")]
    previous = ("", "")
    for check in checks:
        model = check.model if check.model != previous[0] else ""
        quantity = check.quantity if (check.model, check.quantity) != previous else ""
        previous = (check.model, check.quantity)
        measured = "-" if check.measured is None else f"{check.measured:,}"
        difference = "-" if check.difference is None else f"{check.difference:,}"
        rows.append((model, quantity, check.witness, f"{check.analytic:,}", measured, difference, check.status))
    return table(rows, left=3)


def _failure(check: Check) -> Iterator[str]:
    yield f"FAIL {check.model}: {check.quantity}, {check.witness}"
    if check.error:
        yield f"  {check.error}"
    if check.terms:
        rows = [("  term", "formula", "witness says", "difference")]
        rows += [(f"  {key}", f"{a:,}", f"{m:,}", f"{m - a:,}") for key, (a, m) in check.terms.items()]
        yield from table(rows)


def _memory_rows(model: str, peaks: Sequence[MeasuredPeak]) -> Iterator[str]:
    """Predicted beside measured, each under a setup that is stated; what nothing explains has a column of its own."""
    if not peaks:
        yield f"{model}: memory: no schedule to put beside it"
        return
    yield f"{model}: {setup_text(peaks[0].setup).partition(', ')[2]}:"
    header = (
        "  memory",
        "",
        "dtype",
        "predicted",
        "inside kernels",
        "measured",
        "unexplained",
        "allocated",
        "reserved",
    )
    rows: list[tuple[str, ...]] = [header]
    for peak in peaks:
        figures = (
            peak.predicted_bytes,
            peak.inside_bytes,
            peak.measured_bytes,
            peak.unexplained_bytes,
            peak.allocated_bytes,
            peak.reserved_bytes,
        )
        said = ("-" if value is None else f"{value:,}" for value in figures)
        rows.append((f"  {peak.implementation}", f"{peak.subject}, {peak.quantity}", peak.setup.precision, *said))
    yield from table(rows, left=3)
