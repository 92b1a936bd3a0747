"""Several GPUs: what was asked of the step is what is placed on them."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest

from analytic.huggingface.config import load
from analytic.huggingface.shipped import find_model
from analytic.memory.schedule import MemorySchedule, schedule_of
from analytic.model.checkpointing import Checkpointing
from analytic.model.optimizer import Optimizer
from analytic.model.training import TrainingSetup, planned_setup
from analytic.planning.fitting import Fitting, fit_on
from analytic.planning.placement import Placement

MODEL = load(find_model("llama-3.2-1b"))
SETUP = planned_setup(MODEL.spec, 2048, 2, "bf16")
MEMORY = 80 * 10**9


def fitted(
    setup: TrainingSetup = SETUP, *, recompute: Checkpointing | None = "full", reserve_bytes: int = 0
) -> Fitting:
    return fit_on(
        MODEL,
        setup,
        gpu="a GPU",
        num_gpus=8,
        memory_bytes=MEMORY,
        reserve_bytes=reserve_bytes,
        recompute=recompute,
    )


def on_each(fitting: Fitting) -> int:
    assert isinstance(fitting.placement, Placement)
    return fitting.placement.need.on_each(8)


@pytest.mark.parametrize("recompute", ["none", "full"])
@pytest.mark.parametrize("optimizer", get_args(Optimizer))
def test_the_step_that_was_asked_for_is_placed(recompute: Checkpointing, optimizer: Optimizer) -> None:
    setup = replace(SETUP, optimizer=optimizer, checkpointing=recompute)
    schedule = schedule_of(MODEL, setup)
    assert isinstance(schedule, MemorySchedule)
    step = schedule.step()
    layer = schedule.layer(MODEL.spec.layers[0]).base.total
    peak = max(step.elsewhere_peak_bytes, *step.layer_peaks.values())
    passes = -(-step.base.total_bytes // 8) + peak - step.base.total_bytes + layer
    assert on_each(fitted(setup, recompute=recompute)) == max(passes, -(-step.optimizer_peak_bytes // 8))


def test_the_reserve_is_the_one_that_was_given() -> None:
    room = MEMORY - on_each(fitted())
    assert fitted(reserve_bytes=room).fits is True
    assert fitted(reserve_bytes=room + 1).fits is False


def test_nothing_is_recomputed_where_that_fits() -> None:
    without = MEMORY - on_each(fitted(recompute="none"))
    assert fitted(recompute=None, reserve_bytes=without).chosen == "none"
    crowded = fitted(recompute=None, reserve_bytes=without + 1)
    assert (crowded.chosen, crowded.fits) == ("full", True)
