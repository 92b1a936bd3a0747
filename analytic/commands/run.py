"""A command as a process: its exit status, and whatever its user caused as one line on stderr."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO

from analytic.errors import PlannerError, UsageError

MOST_CHARACTERS = 300  # of the line, which has to be read at a glance
_MOST_WORD = 100  # of one word in it: a path keeps its ends
PROVING = ("fvcore", "rich", "torch", "transformers")  # what the core installation leaves out


def run(program: str, command: Callable[[], int]) -> int:
    """The exit status of `command`; an error that its user caused is one line on stderr and status 2."""
    try:
        return _status(command)
    except BrokenPipeError:  # the reader of our output has seen enough
        _discard(sys.stdout)
        return 0
    except PlannerError as error:
        return _fail(program, str(error))
    except ModuleNotFoundError as error:
        if (package := (error.name or "").partition(".")[0]) not in PROVING:
            raise
        return _fail(program, f"{package} is not installed: expected `pip install 'foretrain[prove]'`")
    except OSError as error:
        _discard(sys.stdout)
        return _fail(program, f"{error.filename or 'standard output'}: {error.strerror or error}")
    except KeyboardInterrupt:
        _fail(program, "interrupted")
        return 130


def one_line(message: str) -> str:
    """A message on one line of at most 300 characters: long words keep their ends, and what is too much is left out.

    >>> one_line("a\\nb.json: expected one of " + "llama, " * 99)[-22:]
    'llama, llama, llama...'
    """
    line = " ".join(message.split())  # a path or a value may hold line breaks, or what a terminal acts on
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
    half = _MOST_WORD // 2 - 1
    line = re.sub(rf"\S{{{_MOST_WORD},}}", lambda word: f"{word[0][:half]}...{word[0][-half:]}", line)
    if len(line) <= MOST_CHARACTERS:
        return line
    return f"{line[: MOST_CHARACTERS - 3].rpartition(' ')[0].rstrip(',;:')}..."


def _status(command: Callable[[], int]) -> int:
    if sys.stdout is None:
        raise UsageError("standard output is closed: expected it to be open for the answer")
    if isinstance(sys.stdout, io.TextIOWrapper):  # what the terminal's encoding lacks is escaped as \uXXXX
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        return command()
    except SystemExit as leaving:  # argparse has printed the help
        return leaving.code if isinstance(leaving.code, int) else 0
    finally:
        sys.stdout.flush()


def _fail(program: str, message: str) -> int:
    if sys.stderr is not None:  # None where it is closed, and print would take stdout
        try:
            print(one_line(f"{program}: {message}"), file=sys.stderr, flush=True)
        except OSError:
            _discard(sys.stderr)
    return 2


def _discard(stream: TextIO) -> None:
    """So that what is still buffered does not fail again, with a traceback, when the interpreter ends."""
    with suppress(OSError, ValueError):  # a stream that is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
