"""A machine whose MFU comes from a calibration."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from analytic.hardware.table import load_hardware
from analytic.model.flops import training_flops
from analytic.model.params import parameter_counts
from analytic.planning.backward_file import load_setup
from tests.calibration_cases import SECONDS_PER, backward_file, calibration, explained, grid, llama, written

MODEL = llama(3072, 5)


def seconds_per_micro_batch(path: Path, steps: int) -> float:
    """Of a plan with so many micro-batches to an optimizer step."""
    keys = json.loads(path.read_text())
    keys["training_efficiency"]["gradient_accumulation_steps"] = steps
    path.write_text(json.dumps(keys))
    setup = load_setup(path, load_hardware())
    flops = training_flops(MODEL.spec, seq_len=4096, convention=setup.convention).model_flops
    return flops / (setup.mfu.value * setup.peak_flops_per_s)


def test_accumulation_shares_the_optimizer_s_step(tmp_path: Path) -> None:
    """Of four micro-batches each bears a quarter of its bytes: seven passes in fp32, and copies 2 to 4 bytes and back.

    On one GPU the time differs by the other three quarters.
    """
    written(tmp_path / "c.json", calibration([explained(of) for of in grid()]))
    path = backward_file(tmp_path / "plan.json", MODEL, {"calibration": "c.json"})
    alone, accumulating = (seconds_per_micro_batch(path, steps) for steps in (1, 4))
    step_bytes = parameter_counts(MODEL.spec).total * (7 * 4 + 2 * (2 + 4))
    assert alone - accumulating == pytest.approx(3 / 4 * step_bytes * SECONDS_PER[3], rel=1e-6)
