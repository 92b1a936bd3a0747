"""Processes of their own for simulated or real ranks, forked after the imports, which take seconds.

Imports no torch.
"""

from __future__ import annotations

import multiprocessing
import signal
import traceback
import warnings
from collections.abc import Callable, Iterable, Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

Case = TypeVar("Case")
Result = TypeVar("Result")
Started = tuple[BaseProcess, Connection]


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
    context = multiprocessing.get_context("fork")
    return _results([_start(context, function, case) for case in cases])


def from_clean_process(function: Callable[[Case], Result], case: Case, imported: str) -> Result:
    """As `in_own_process`, from a process that has imported a module and has done nothing else.

    After a backward pass on a machine with a GPU, a process must not be forked.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([imported])
    result: Result = _results([_start(context, function, case)])[0]
    return result


def _start(context: BaseContext, function: Callable[[Case], Result], case: Case) -> Started:
    receiver, sender = context.Pipe(duplex=False)
    make: Any = context.Process  # type: ignore[attr-defined]  # every context has it
    process: BaseProcess = make(target=_run, args=(function, case, sender), daemon=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns wherever there are threads
        process.start()
    sender.close()
    return process, receiver


def _results(started: Sequence[Started]) -> list[Any]:
    try:
        return [_result(process, receiver) for process, receiver in started]
    finally:
        for process, _ in started:
            process.kill()  # where one has failed, the others wait for it
            process.join()


def _result(process: BaseProcess, receiver: Connection) -> Any:
    try:
        result, error, trace = receiver.recv()
    except EOFError:
        process.join()
        raise WorldError(f"a process ended with code {process.exitcode}, without a result") from None
    if error is not None:
        raise error from WorldError(trace)
    return result


def _run(function: Callable[[Case], Result], case: Case, sender: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted, too, and ends this
    try:
        sender.send((function(case), None, ""))
    except Exception as error:
        trace = traceback.format_exc()
        try:
            sender.send((None, error, trace))
        except Exception:  # an error that cannot be pickled
            sender.send((None, WorldError(trace), trace))
