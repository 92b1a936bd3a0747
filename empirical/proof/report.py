"""Text for people of what was verified and measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from analytic.hardware.table import Hardware
from analytic.planning.this_machine import MachinePlan
from analytic.report.calibration import calibration_text
from analytic.report.memory import setup_text
from analytic.report.plan import compared_with_flat
from analytic.report.text import table, table_lines
from empirical.proof.check import Check

if TYPE_CHECKING:
    from empirical.measure.memory import MeasuredPeak
    from empirical.measure.train import Trained
    from empirical.proof.findings import Findings


def verify_text(found: Findings, hardware: Hardware, versions: Mapping[str, str]) -> str:
    """What `foretrain prove` prints: a row for each witness, disagreements down to the term, what was measured."""
    failed = [check for check in found.checks if check.status == "fail"]
    lines = [*_rows(found.checks), ""]
    for check in failed:
        lines += [*_failure(check), ""]
    for model, peaks in found.memory.items():
        lines += [*_memory_rows(model, peaks), ""]
    if found.calibration is not None:
        lines.append(calibration_text(found.calibration, hardware))
    if found.planned is not None:
        lines += [*_planned(found.planned), ""]
    if found.planned is not None and found.trained is not None:
        lines += [*_against(found.planned, found.trained), ""]
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
            None if peak.error else peak.inside_bytes,
            peak.measured_bytes,
            peak.unexplained_bytes,
            peak.allocated_bytes,
            peak.reserved_bytes,
        )
        said = ("-" if value is None else f"{value:,}" for value in figures)
        rows.append((f"  {peak.implementation}", f"{peak.subject}, {peak.quantity}", peak.setup.precision, *said))
    yield from table(rows, left=3)
    for peak in peaks:
        if peak.error:
            yield f"  {peak.implementation}, {peak.subject}, {peak.setup.precision}: {peak.error}"


def _planned(planned: MachinePlan) -> Iterator[str]:
    """A plan for this machine, beside the same at a constant MFU."""
    yield f"a plan for this machine: {planned.minutes:g} min of 1 device, {planned.case.label}"
    yield f"  N = {planned.plan.params.total:,}, from the formula; {setup_text(planned.case.setup)}"
    yield f"  MFU {planned.mfu.value * 100:.2f}% {planned.mfu.origin}, of {planned.peak_source}"
    if planned.plan.extrapolations:
        outside = ", ".join(each.quantity for each in planned.plan.extrapolations)
        yield f"  loss predicted by {planned.plan.request.law.name}, which was not fitted on such {outside}"
    if planned.why_assumed:
        yield f"  no calibrated MFU: {planned.why_assumed}"
    else:
        yield from table_lines(compared_with_flat(planned.plan, planned.flat))


def _against(planned: MachinePlan, trained: Trained) -> Iterator[str]:
    """What was planned beside what its training came to."""
    if trained.error and not trained.steps:
        yield f"not trained: {trained.error}"
        return
    plan, flops_per_s = planned.plan, trained.flops_per_s
    peak = plan.option.gpu.peak(planned.case.setup.precision)
    ended = ", interrupted" if trained.was_interrupted else ""
    ended += f", ended by an error: {trained.error}" if trained.error else ""
    yield f"trained {trained.steps:,} steps on synthetic tokens{ended}"
    yield from table(
        [
            ("planned against actual", "planned", "actual", "difference"),
            _pair("MFU, full attention, %", 100 * planned.mfu.value, flops_per_s and 100 * flops_per_s / peak, 2),
            _pair("tokens per second", planned.tokens_per_s, trained.tokens_per_s, 1),
            _pair("seconds a step", planned.step_seconds, trained.step_seconds, 6),
            _pair("seconds", 60 * planned.minutes, trained.seconds, 2),
            _pair("tokens", plan.outcome.tokens, trained.tokens, 0),
            _pair("peak memory, bytes requested; planned: by the schedule", planned.peak_bytes, trained.peak_bytes, 0),
            _pair("energy, J; planned: at the board's TDP", planned.energy_joules, trained.energy_joules, 0),
        ]
    )


def _pair(label: str, planned: float | None, actual: float | None, digits: int) -> tuple[str, ...]:
    foreseen = "unknown" if planned is None else f"{planned:,.{digits}f}"
    found = "unreadable" if actual is None else f"{actual:,.{digits}f}"
    difference = "-" if not planned or actual is None else f"{100 * (actual / planned - 1):+.2f}%"
    return f"  {label}", foreseen, found, difference
