"""A calibration as text: every case, its rate and its MFU, the device's ceilings, and how well a fit tells it."""

from __future__ import annotations

from collections.abc import Iterator

from analytic.errors import UsageError
from analytic.hardware.table import Hardware
from analytic.model.training import Precision
from analytic.performance.calibration import Calibration, Reading
from analytic.performance.regression import fit, stacks
from analytic.report.text import table
from analytic.report.units import flops_text


def calibration_text(made: Calibration, hardware: Hardware) -> str:
    """What `foretrain calibrate` prints."""
    machine = made.machine
    with_versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    precisions = dict.fromkeys(reading.case.setup.precision for reading in made.readings)
    blocks = [
        [f"measured on {machine.device}, {made.date}, 1 device ({with_versions}; source {machine.revision})"],
        [line for precision in precisions for line in _ceilings(made, precision, hardware)],
        _cases(made, hardware),
        [f"{reading.case.label}: {reading.error}" for reading in made.readings if reading.error],
        ["fits, and their errors leaving out one case at a time", *_fits(made)],
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def _ceilings(made: Calibration, precision: Precision, hardware: Hardware) -> Iterator[str]:
    peak = made.peak(precision, hardware)
    if peak is not None:
        yield f"{precision}: MFU is a share of {flops_text(round(peak[0]))}/s, {peak[1]}"
    products, copies = made.ceiling("matmul", precision), made.ceiling("copy", precision)
    if products is not None and copies is not None:
        yield f"  best matrix product {flops_text(round(products))}/s, copy {copies / 1e9:.1f} GB/s, read and written"


def _cases(made: Calibration, hardware: Hardware) -> list[str]:
    header = ("case", "median s", "spread", "FLOP/s", "MFU, full", "of matmul", "peak bytes")
    rows = [_row(reading, made, hardware) for reading in made.readings if not reading.error]
    return table([header, *rows])


def _row(reading: Reading, made: Calibration, hardware: Hardware) -> tuple[str, ...]:
    mfu, products = made.mfu(reading, hardware), made.ceiling("matmul", reading.case.setup.precision)
    spread = (max(reading.seconds) - min(reading.seconds)) / reading.median_seconds
    rate = reading.flops_per_s()
    return (
        reading.case.label,
        f"{reading.median_seconds:.6f}",
        f"{spread * 100:.1f}%",
        flops_text(round(rate)),
        "-" if mfu is None else f"{mfu * 100:.1f}%",
        "-" if products is None else f"{rate / products * 100:.1f}%",
        "-" if reading.peak_bytes is None else f"{reading.peak_bytes:,}",
    )


def _fits(made: Calibration) -> Iterator[str]:
    for stack in stacks(made):
        try:
            model = fit(made, stack)
        except UsageError as error:
            yield f"  none of {error}"
        else:
            errors = f"median {model.median_error * 100:.1f}%, worst {model.worst_error * 100:.1f}%"
            yield f"  {stack}: {errors} of {len(model.readings)} cases, {model.unused} more not used"
