"""One process for each simulated world, forked after the imports, so that none of them takes seconds to start."""

from __future__ import annotations

import multiprocessing
import traceback
import warnings
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection
from typing import TypeVar

Case = TypeVar("Case")
Result = TypeVar("Result")


class WorldError(RuntimeError):
    """What a forked process failed with and could not be raised here as it is."""


def in_own_process(function: Callable[[Case], Result], cases: Iterable[Case]) -> list[Result]:
    """`function` of each case, one after the other, each in a process of its own. Results are pickled.

    An error there is raised here.

    Raises:
        WorldError: a process that ended without a result.
    """
    return [_forked(function, case) for case in cases]


def _forked(function: Callable[[Case], Result], case: Case) -> Result:
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(function, case, sender), daemon=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns wherever there are threads
        process.start()
    sender.close()
    try:
        result, error, trace = receiver.recv()
    except EOFError:
        process.join()
        raise WorldError(f"the process of {case} ended with code {process.exitcode}, without a result") from None
    process.join()
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
