"""Run independent jobs, several at a time in processes of their own. Imports no torch."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Generic, TypeVar

from analytic.huggingface.config import ModelConfig
from empirical.proof.check import Check
from empirical.proof.layouts import RankJob
from empirical.witnesses.own_process import from_clean_process, in_own_process

Job = TypeVar("Job")
Result = TypeVar("Result")
ModelJob = tuple[ModelConfig, int]  # a model, and the sequence length it is checked at
ProofJob = ModelJob | RankJob


@dataclass(frozen=True, slots=True)
class Finished(Generic[Result]):
    """The results of the jobs that were done, in the order of the jobs; an interrupt ends the run before the rest."""

    results: list[Result]
    was_interrupted: bool


def check_models(jobs: Sequence[ProofJob], workers: int, on_done: Callable[[str], None]) -> Finished[Check]:
    """Every check of every model and of every rank. `on_done` is called with the name of each job's model."""
    found = run_jobs(_check, jobs, workers, lambda job, _: on_done(_config(job).name), cost=_cost)
    return Finished([check for checks in found.results for check in checks], found.was_interrupted)


def _check(job: ProofJob) -> list[Check]:
    # torch and transformers: only where models are built
    if isinstance(job, RankJob):
        return _in_a_world(job)
    from empirical.proof.crosscheck import verify

    return list(verify(*job))


def _in_a_world(job: RankJob) -> list[Check]:
    import torch

    from empirical.proof.parallel import rank_checks

    if torch.cuda.is_available():
        return from_clean_process(rank_checks, job, rank_checks.__module__)
    (checks,) = in_own_process(rank_checks, [job])
    return checks


def _config(job: ProofJob) -> ModelConfig:
    return job.config if isinstance(job, RankJob) else job[0]


def _cost(job: ProofJob) -> int:
    return len(_config(job).spec.layers)


def default_workers(num_jobs: int) -> int:
    """One process a core, as far as there are jobs; each takes seconds to import torch."""
    return max(1, min(num_jobs, os.cpu_count() or 1))


def run_jobs(
    function: Callable[[Job], Result],
    jobs: Sequence[Job],
    workers: int,
    on_done: Callable[[Job, Result], None],
    *,
    cost: Callable[[Job], float] = lambda _: 0,
) -> Finished[Result]:
    """`function` of each job, in this process where one worker suffices.

    Args:
        function: importable by name, for it is sent to other processes.
        on_done: called here, as each job is done.
        cost: the jobs that cost most start first, so that no long one is left to the end.
    """
    done: dict[int, Result] = {}

    def finish(i: int, result: Result) -> None:
        done[i] = result
        on_done(jobs[i], result)

    try:
        if workers == 1 or len(jobs) == 1:
            for i, job in enumerate(jobs):
                finish(i, function(job))
        else:
            order = sorted(range(len(jobs)), key=lambda i: -cost(jobs[i]))
            _in_processes(function, jobs, order, workers, finish)
    except KeyboardInterrupt:
        return Finished([done[i] for i in sorted(done)], was_interrupted=True)
    return Finished([done[i] for i in sorted(done)], was_interrupted=False)


def _in_processes(
    function: Callable[[Job], Result],
    jobs: Sequence[Job],
    order: Sequence[int],
    workers: int,
    finish: Callable[[int, Result], None],
) -> None:
    # Spawned, not forked: the parent may have threads, and CUDA does not survive a fork.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_ignore_interrupt)
    try:
        futures = {pool.submit(function, jobs[i]): i for i in order}
        for future in as_completed(futures):
            finish(futures[future], future.result())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _ignore_interrupt() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted, too, and cancels the rest
