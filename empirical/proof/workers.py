"""Run every check of many models, several at a time in processes of their own, and collect the answers."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed

from analytic.huggingface.config import ModelConfig
from empirical.proof.check import Check

Job = tuple[ModelConfig, int]  # a model, and the sequence length it is checked at


def verify_all(jobs: Sequence[Job], workers: int, finished: Callable[[str], None]) -> list[Check]:
    """The checks of every model, in the order of `jobs`. `finished` hears each model's name as it is done.

    Interrupted, it returns the checks of the models that were done: a caller sees fewer than it asked for.
    """
    done: dict[int, list[Check]] = {}
    try:
        if workers == 1 or len(jobs) == 1:
            for i, job in enumerate(jobs):
                done[i] = _verify(job)
                finished(job[0].name)
        else:
            _in_processes(jobs, workers, finished, done)
    except KeyboardInterrupt:
        pass
    return [check for i in sorted(done) for check in done[i]]


def default_workers(num_jobs: int) -> int:
    """One process a core, as far as there are models; each takes seconds to import torch."""
    return max(1, min(num_jobs, os.cpu_count() or 1))


def _in_processes(
    jobs: Sequence[Job], workers: int, finished: Callable[[str], None], done: dict[int, list[Check]]
) -> None:
    # Spawned, not forked: the parent may have threads, and CUDA does not survive a fork.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_ignore_interrupt)
    try:
        longest_first = sorted(range(len(jobs)), key=lambda i: -len(jobs[i][0].spec.layers))
        futures: dict[Future[list[Check]], int] = {pool.submit(_verify, jobs[i]): i for i in longest_first}
        for future in as_completed(futures):
            i = futures[future]
            done[i] = future.result()
            finished(jobs[i][0].name)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _verify(job: Job) -> list[Check]:
    from empirical.proof.crosscheck import verify  # torch and transformers: only where models are built

    return list(verify(*job))


def _ignore_interrupt() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted, too, and cancels the rest
