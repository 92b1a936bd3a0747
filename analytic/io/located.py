"""Where in a file an error is: whoever opens the file knows its path and lines, whoever reads a key does not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from analytic.errors import PlannerError

KeyPath = tuple[str, ...]


@contextmanager
def located(place: object, lines: Mapping[KeyPath, int] | None = None, section: KeyPath = ()) -> Iterator[None]:
    """Put the place before an error's message: a path, or an entry of a file whose path is put before it further out.

    With the `lines` of a file's keys, by their path from the root, the error also names the line of its key, or
    else of its section.

    >>> with located("setup.json", {("gear",): 2, ("gear", "gpus"): 3}, ("gear",)):
    ...     raise PlannerError("gpus = 0: expected an integer", key="gpus")
    Traceback (most recent call last):
    analytic.errors.PlannerError: setup.json: line 3: gear.gpus = 0: expected an integer
    """
    try:
        yield
    except PlannerError as error:
        where = f"{place}: "
        if lines is not None:
            key = (*section, error.key or "")
            where += f"line {lines.get(key, lines.get(section, 1))}: {'.'.join(section)}"
            if section:
                where += "." if key in lines else ": "
        raise type(error)(f"{where}{error}") from None
