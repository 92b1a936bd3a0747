"""Every error that a user can cause. Anything else that escapes a command is a bug."""

from __future__ import annotations

from collections.abc import Iterable

_MOST_LISTED = 150  # characters of a list in a message, which has to fit on a line


class PlannerError(ValueError):
    """Base class: commands catch this one type, print its one line and exit with status 2.

    Attributes:
        key: the key of a file's object that is wrong, if it is one; what is only missing is no key of the file.
    """

    def __init__(self, message: str, *, key: str | None = None) -> None:
        super().__init__(message)
        self.key = key


class FileError(PlannerError):
    """A file that cannot be read, is not what it should be, or cannot be written."""


class SpecError(PlannerError):
    """The description of a model that no such model could have."""


class UnsupportedModelError(PlannerError):
    """A model of a family, or with an option, that is refused rather than counted wrongly."""


class UsageError(PlannerError):
    """A command-line value outside what the command takes."""


def listed(names: Iterable[object], *, shown_by: str = "") -> str:
    """The names for a message: all of a few, the first of many. `shown_by` is the command that prints every one.

    >>> listed(["full", "causal"])
    'full, causal'
    >>> listed(range(1_000_000, 1_000_060), shown_by="foretrain list families")[-58:]
    '1000015 and 44 more (`foretrain list families` shows them)'
    """
    every = [str(name) for name in names]
    few = every
    while len(few) > 1 and len(", ".join(few)) > _MOST_LISTED:
        few = few[:-1]
    if few == every:
        return ", ".join(every)
    more = f"{', '.join(few)} and {len(every) - len(few)} more"
    return f"{more} (`{shown_by}` shows them)" if shown_by else more
