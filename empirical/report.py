"""Text for people of what was verified and measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from analytic.hardware import Hardware
from analytic.memory_report import setup_text
from analytic.report import flops_text, table
from empirical.checks import Check

if TYPE_CHECKING:
    from empirical.probe import Probe


def verify_text(
    checks: Sequence[Check], probes: Sequence[Probe], hardware: Hardware, versions: Mapping[str, str]
) -> str:
    """What `trainmeter-verify` prints: a row for each witness, then the disagreements down to the term."""
    failed = [check for check in checks if check.status == "fail"]
    lines = [*_rows(checks), ""]
    for check in failed:
        lines += [*_failure(check), ""]
    for probe in probes:
        lines += [*_probe_lines(probe, hardware), ""]
    with_versions = ", ".join(f"{name} {version}" for name, version in versions.items())
    lines.append(f"{len(checks)} checks: {len(checks) - len(failed)} passed, {len(failed)} failed ({with_versions})")
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


def _probe_lines(probe: Probe, hardware: Hardware) -> Iterator[str]:
    yield (
        f"measured on {probe.device}: {probe.model}, layer {probe.layer}, {probe.dtype}, "
        f"batch {probe.batch_size} x {probe.seq_len:,} tokens ({probe.implementation})"
    )
    if probe.error:
        yield f"  {probe.error}"
        return
    yield f"  peak above the base of {probe.base_bytes:,} bytes: forward {probe.forward_peak_bytes:,}"
    yield f"    forward, recomputation and backward {probe.step_peak_bytes:,}"
    spread = f"{min(probe.step_seconds):.6f} to {max(probe.step_seconds):.6f} s"
    yield f"  seconds a step: median {probe.median_seconds:.6f} of {len(probe.step_seconds)}, {spread}"
    yield from _memory_rows(probe)
    rate = probe.model_flops / probe.median_seconds
    mfu = probe.mfu(hardware)
    share = "no published peak for this device: no MFU" if mfu is None else f"MFU {mfu:.3f} of the dense peak"
    work = f"{flops_text(probe.model_flops)}, full attention, recomputation not counted"
    yield f"  {work}: {flops_text(round(rate))}/s, {share}"


def _memory_rows(probe: Probe) -> Iterator[str]:
    """Predicted beside measured, each under a setup that is stated; what nothing explains has a column of its own."""
    if not probe.memory:
        yield "  memory: no schedule to put beside it"
        return
    yield f"  {setup_text(probe.memory[0].setup).partition(', ')[2]}:"
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
    for peak in probe.memory:
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
