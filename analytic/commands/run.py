"""Running a verb: an error that its user caused is one line on stderr and exit status 2."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from analytic.errors import PlannerError


def run(program: str, command: Callable[[], int]) -> int:
    """The exit status of `command`; an error that its user caused is one line on stderr and status 2."""
    try:
        status = command()
        sys.stdout.flush()
        return status
    except PlannerError as error:
        line = " ".join(str(error).splitlines())  # a path or a value may hold line breaks
        print(f"{program}: {line}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
