"""Processes of their own for simulated or real ranks, forked after the imports, which take seconds."""

from __future__ import annotations

import multiprocessing
import traceback
import warnings
from collections.abc import Callable, Iterable, Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from typing import Any, TypeVar

Case = TypeVar("Case")
Result = TypeVar("Result")


class WorldError(RuntimeError):
    """A process that ended without a result, or the trace of an error in one."""


def in_own_process(function: Callable[[Case], Result], cases: Iterable[Case]) -> list[Result]:
    """`function` of each case, one after the other, each in a process of its own. Results are pickled.

    An error there is raised here.

    Raises:
        WorldError: a process that ended without a result.
    """
    return [at_once(function, [case])[0] for case in cases]


def at_once(function: Callable[[Case], Result], cases: Sequence[Case]) -> list[Result]:
    """As `in_own_process`, all processes at a time: ranks of one world that wait for each other."""
    started = [_start(function, case) for case in cases]
    try:
        return [_result(process, receiver) for process, receiver in started]
    finally:
        for process, _ in started:
            process.kill()  # where one has failed, the others wait for it
            process.join()


def _start(function: Callable[[Case], Result], case: Case) -> tuple[ForkProcess, Connection]:
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(function, case, sender), daemon=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns wherever there are threads
        process.start()
    sender.close()
    return process, receiver


def _result(process: ForkProcess, receiver: Connection) -> Any:
    try:
        result, error, trace = receiver.recv()
    except EOFError:
        process.join()
        raise WorldError(f"a process ended with code {process.exitcode}, without a result") from None
    if error is not None:
        raise error from WorldError(trace)
    return result


def _run(function: Callable[[Case], Result], case: Case, sender: Connection) -> None:
    try:
        sender.send((function(case), None, ""))
    except Exception as error:
        trace = traceback.format_exc()
        try:
            sender.send((None, error, trace))
        except Exception:  # an error that cannot be pickled
            sender.send((None, WorldError(trace), trace))
