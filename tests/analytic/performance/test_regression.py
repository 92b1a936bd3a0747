"""The performance model: it finds the coefficients that seconds were made with, and refuses where it cannot know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytic.errors import UsageError
from analytic.memory.implementation import NotPredicted
from analytic.model.training import TrainingSetup
from analytic.performance.calibration import Case
from analytic.performance.regression import PerformanceModel, Stack, fit, non_negative_least_squares, stacks
from analytic.performance.work import Work, optimizer_bytes, work_of
from tests.calibration_cases import SECONDS_PER, calibration, case, explained, grid, llama
from tests.configurations import parsed

STACK = Stack(built_by="transformers", precision="bf16", attention_kernel="flash", is_compiled=False, routing="none")
MIXTRAL: dict[str, Any] = {"model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2}


def work(of: Case) -> Work:
    found = work_of(of)
    assert not isinstance(found, NotPredicted)
    return found


def made(cases: Sequence[Case]) -> PerformanceModel:
    return fit(calibration([explained(each) for each in cases]), STACK)


def test_the_coefficients_are_found_and_tell_a_shape_that_was_not_timed() -> None:
    model = made(grid())
    dense = [SECONDS_PER[i] for i in (0, 2, 3, 4)]
    assert [model.seconds_per[i] for i in (0, 2, 3, 4)] == pytest.approx(dense, rel=1e-6)
    assert model.seconds_per[1] == 0  # no experts, nothing said about them
    assert model.worst_error < 1e-6
    other = case(llama(3072, 5), "step", TrainingSetup(seq_len=2048, checkpointing="full"))
    assert model.seconds(other) == pytest.approx(explained(other).median_seconds, rel=1e-6)


def test_experts_have_a_coefficient_of_their_own() -> None:
    experts = [replace(of, config=llama(4096, **MIXTRAL), routing="balanced") for of in grid((4096,))]
    readings = [explained(of) for of in (*grid(), *experts)]
    by_routing = fit(calibration(readings), replace(STACK, routing="balanced"))
    assert by_routing.seconds_per == pytest.approx(SECONDS_PER, rel=1e-6)
    assert len(by_routing.readings) == len(readings)
    assert len(fit(calibration(readings), STACK).readings) == len(grid())


def test_an_error_is_of_a_case_told_by_the_others() -> None:
    """One reading 30% slow: told without it, it is 1/1.3 - 1 off, whatever the fit with it would say."""
    readings = [explained(of) for of in grid()]
    slow = readings[5]
    readings[5] = replace(slow, seconds=tuple(1.3 * s for s in slow.seconds))
    errors = fit(calibration(readings), STACK).errors
    assert errors[5] == pytest.approx(1 / 1.3 - 1, rel=1e-6)


def test_what_a_layer_executes() -> None:
    """By hand: H 256, 2 heads of 128 on 2 key-value heads, F 768, S 8: projections 4 H^2, feed-forward 3 H F."""
    config = llama(256)
    products = 2 * 8 * (4 * 256 * 256 + 3 * 256 * 768)
    down = 2 * 8 * 256 * 768
    scores = 2 * 2 * (8 * 9 // 2) * 2 * 128  # QK^T and PV of the pairs that the mask lets through
    setup = TrainingSetup(seq_len=8, micro_batch=3)
    forward, both = work(case(config, "forward", setup)), work(case(config, setup=setup))
    again = work(case(config, setup=replace(setup, checkpointing="full")))
    assert (forward.matmul_flops, forward.attention_flops, forward.layer_passes) == (3 * products, 3 * scores, 1)
    assert (both.matmul_flops, both.attention_flops, both.layer_passes) == (9 * products, 3 * 3.5 * scores, 3)
    assert again.matmul_flops == 12 * products - 3 * down
    assert (again.attention_flops, again.layer_passes) == (3 * 4.5 * scores, 4)
    eager = work(case(config, setup=replace(setup, attention_kernel="eager")))
    assert eager.attention_flops == 3 * 3 * 2 * 2 * 8 * 8 * 2 * 128
    step = work(case(config, "step", setup))
    assert step.matmul_flops == 2 * both.matmul_flops + 9 * 2 * 8 * 256 * 32_000
    assert forward.moved_bytes < both.moved_bytes < again.moved_bytes < eager.moved_bytes * 4


def test_what_the_optimizer_moves() -> None:
    """Per parameter: four values read and three written, in fp32; before it, a 16-bit gradient becomes an fp32 one."""
    config = llama(256)
    numel = 2 * 32_000 * 256 + 256 + 2 * (4 * 256 * 256 + 3 * 256 * 768 + 2 * 256)
    setup = TrainingSetup(seq_len=8)
    assert optimizer_bytes(case(config, "step", setup)) == numel * 7 * 2
    with_masters = case(config, "step", replace(setup, has_master_weights=True))
    assert optimizer_bytes(with_masters) == numel * (7 * 4 + (2 + 4) + (4 + 2))  # gradients to fp32, weights back
    assert optimizer_bytes(case(config, "step", replace(setup, optimizer="none"))) == 0


def test_work_is_of_what_ran_and_not_of_what_a_prediction_assumes() -> None:
    """The file does not state the latter: a case is worth the same before it is written and after it is read."""
    config = llama(256)
    for part in ("forward", "forward_backward", "step"):
        setup = TrainingSetup(seq_len=9, checkpointing="full")
        assumed = replace(setup, rounding_bytes=512, counts_kernel_bytes=True)
        assert work(case(config, part, setup)) == work(case(config, part, assumed))


@pytest.mark.parametrize(
    ("hidden_size", "setup", "said"),
    [
        (1024, TrainingSetup(seq_len=64), "64.0 times away in tokens of a micro-batch"),
        (4096, TrainingSetup(seq_len=4096, micro_batch=16), "8.0 times away in tokens of a micro-batch"),
        (128, TrainingSetup(seq_len=4096), "8.0 times away in"),
    ],
)
def test_beyond_four_times_there_is_no_prediction(hidden_size: int, setup: TrainingSetup, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        made(grid((1024, 4096))).seconds(case(llama(hidden_size), "step", setup))
    assert said in str(refused.value)
    assert "expected at most 4" in str(refused.value)


def test_the_distance_is_to_the_nearest_case_in_what_differs_most() -> None:
    model = made(grid((1024, 4096)))
    far = model.distance(case(llama(3072), "step", TrainingSetup(seq_len=2048)))
    assert far is not None
    assert (far.factor, far.dimension, far.nearest.config.spec.hidden_size) == (2, "seq_len", 4096)
    own = model.distance(grid((1024,))[-1])
    assert own is not None
    assert own.factor == 1
    experts = case(llama(4096, **MIXTRAL), "step", TrainingSetup(seq_len=4096), routing="balanced")
    assert model.distance(experts) is None
    with pytest.raises(UsageError, match="no such kind of layer"):
        model.seconds(experts)


def test_too_few_cases_make_no_fit() -> None:
    with pytest.raises(UsageError, match="no whole model was timed"):
        made([of for of in grid() if of.part != "step"])
    with pytest.raises(UsageError, match="5 cases, expected at least 6"):
        made(grid()[-5:])
    with pytest.raises(UsageError, match="0 cases"):
        fit(calibration([]), STACK)


def test_failed_cases_and_other_stacks_are_left_out() -> None:
    readings = [explained(of) for of in grid()]
    failed = replace(readings[0], seconds=(), error="does not fit")
    other = replace(readings[1], case=replace(readings[1].case, is_compiled=True))
    both = calibration([*readings, failed, other])
    assert len(fit(both, STACK).readings) == len(readings)
    assert stacks(both) == [STACK, replace(STACK, is_compiled=True)]


def test_a_model_without_a_schedule_is_said_to_be_unused() -> None:
    keys = {"model_type": "gpt2", "n_embd": 256, "n_head": 2, "n_layer": 2, "n_positions": 4096, "vocab_size": 99}
    gpt2 = case(parsed(keys), setup=TrainingSetup(seq_len=64))
    readings = [*(explained(of) for of in grid()), replace(explained(grid()[0]), case=gpt2)]
    model = fit(calibration(readings), STACK)
    assert model.unused == 1
    with pytest.raises(UsageError, match="no memory schedule for GPT2LMHeadModel"):
        model.seconds(gpt2)


POSITIVE = st.floats(0.1, 10)


@given(st.lists(st.tuples(POSITIVE, POSITIVE, POSITIVE), min_size=3, max_size=8))
def test_no_other_non_negative_coefficients_are_better(rows: list[tuple[float, ...]]) -> None:
    """At the least sum of squares, no step along any axis that stays non-negative lowers it."""

    def loss(x: Sequence[float]) -> float:
        return sum((sum(a * b for a, b in zip(row, x, strict=True)) - 1) ** 2 for row in rows)

    best = non_negative_least_squares(rows)
    assert min(best) >= 0
    for i in range(3):
        for step in (1e-3, -1e-3):
            other = [max(0.0, value + step * (i == j)) for j, value in enumerate(best)]
            assert loss(other) >= loss(best) - 1e-9


@given(st.lists(st.tuples(POSITIVE, POSITIVE, POSITIVE), min_size=3, max_size=8))
def test_the_minimum_is_the_best_plain_solution_over_some_of_the_columns(rows: list[tuple[float, ...]]) -> None:
    """By trying every choice of columns, of the scales of FLOPs, bytes and passes."""
    scales = (1e12, 1e9, 1.0)
    a = np.array(rows) * scales
    found = non_negative_least_squares(a.tolist())
    least = float(len(rows))
    for columns in (c for count in (1, 2, 3) for c in combinations(range(3), count)):
        x, *_ = np.linalg.lstsq(np.array(rows)[:, columns], np.ones(len(rows)), rcond=None)
        if min(x) >= 0:
            least = min(least, float(((np.array(rows)[:, columns] @ x - 1) ** 2).sum()))
    assert float(((a @ np.array(found) - 1) ** 2).sum()) == pytest.approx(least, rel=1e-9, abs=1e-12)
