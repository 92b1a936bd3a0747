"""Jobs in processes: results in the order of the jobs, and an interrupt that keeps what was done."""

from __future__ import annotations

import operator

import pytest

from empirical.proof import workers
from empirical.proof.check import Check
from empirical.proof.workers import Finished, check_models, run_jobs
from tests.calibration_cases import LLAMA
from tests.configurations import parsed


@pytest.mark.parametrize("count", [1, 2])
def test_results_are_in_the_order_of_the_jobs(count: int) -> None:
    done: list[tuple[int, int]] = []
    finished = run_jobs(operator.neg, [3, 1, 2], count, lambda *each: done.append(each), cost=lambda job: job)
    assert finished == Finished([-3, -1, -2], was_interrupted=False)
    assert sorted(done) == [(1, -1), (2, -2), (3, -3)]


@pytest.mark.parametrize("count", [1, 2])
def test_an_interrupt_is_reported_and_keeps_what_was_done(count: int) -> None:
    done: list[int] = []

    def on_done(job: int, result: int) -> None:
        done.append(result)
        if len(done) == 2:
            raise KeyboardInterrupt

    finished = run_jobs(operator.neg, [3, 1, 2], count, on_done)
    assert finished.was_interrupted
    assert sorted(finished.results) == sorted(done)
    assert len(done) == 2


def test_an_interrupt_after_the_last_job_is_reported_too() -> None:
    """No count of results could say so."""

    def interrupt(job: int, result: int) -> None:
        raise KeyboardInterrupt

    assert run_jobs(operator.neg, [1], 1, interrupt) == Finished([-1], was_interrupted=True)


def test_a_failing_job_is_an_error_and_no_interrupt() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        run_jobs(int, ["1", "x"], 1, lambda *_: None)


def test_the_checks_of_all_models_are_one_list(monkeypatch: pytest.MonkeyPatch) -> None:
    def two(job: workers.ModelJob) -> list[Check]:
        config, seq_len = job
        return [Check(model=config.name, quantity=q, witness="w", analytic=seq_len, measured=0) for q in ("a", "b")]

    monkeypatch.setattr(workers, "_check", two)
    names: list[str] = []
    finished = check_models([(parsed(LLAMA), 7), (parsed(LLAMA), 8)], 1, names.append)
    assert [(check.quantity, check.analytic) for check in finished.results] == [("a", 7), ("b", 7), ("a", 8), ("b", 8)]
    assert names == ["model", "model"]
    assert not finished.was_interrupted
