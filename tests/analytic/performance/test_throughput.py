"""Every source of throughput answers the same question, or says why not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from analytic.hardware.table import load_hardware
from analytic.performance.mfu import Assumed, Predicted, Published
from analytic.performance.predict import Calibrated
from analytic.performance.published import load_published
from analytic.performance.throughput import Flat, Job, Stated, Timed, Unknown
from tests.calibration_cases import SECONDS_PER, calibration, explained, grid, llama

HARDWARE = load_hardware()
H200 = HARDWARE.find("h200")
JOB = Job(
    config=llama(3072, 5), seq_len=4096, micro_batch=1, dtype="bf16", gpu=H200, peak_flops_per_s=H200.peak("bf16")
)


def test_a_flat_figure_is_the_same_for_every_job() -> None:
    given = Assumed(value=0.3, by="given")
    assert Flat(given).mfu(JOB) == Flat(given).mfu(replace(JOB, seq_len=1)) == given


def test_what_others_published_is_of_the_same_gpu_and_dtype() -> None:
    stated, h100 = Stated(load_published(HARDWARE)), HARDWARE.find("h100")
    assert isinstance(stated.mfu(replace(JOB, gpu=h100)), Published)
    for other in (replace(JOB, gpu=h100, dtype="fp16"), replace(JOB, gpu=HARDWARE.find("t4")), replace(JOB, gpu=None)):
        assert stated.mfu(other) == Unknown("no published run on this GPU at this dtype")


def test_of_two_stacks_the_faster_is_predicted() -> None:
    """The compiled layers take half the seconds of the others: twice the MFU."""
    halves = [each / 2 for each in SECONDS_PER]
    eager = [explained(of) for of in grid()]
    compiled = [explained(replace(of, is_compiled=True), halves) for of in grid()]
    slow, fast = (Timed(Calibrated(calibration(readings))).mfu(JOB) for readings in (eager, [*eager, *compiled]))
    assert isinstance(slow, Predicted)
    assert isinstance(fast, Predicted)
    assert fast.value == pytest.approx(2 * slow.value, rel=1e-6)
    assert "compiled" in fast.kernel


def test_what_was_never_timed_is_unknown_and_says_why() -> None:
    timed = Timed(Calibrated(calibration([explained(of) for of in grid()])))
    fp8 = timed.mfu(replace(JOB, dtype="fp8"))
    assert isinstance(fp8, Unknown)
    assert fp8.reason.startswith("no calibration of fp8: expected one of ")
    far = timed.mfu(replace(JOB, seq_len=131_072))
    assert isinstance(far, Unknown)
    assert "times away in" in far.reason
