"""What the verbs that draw share: matplotlib, which takes most of a second to import, and kinds of files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from analytic.errors import UsageError

Value = TypeVar("Value")


def needs_matplotlib(load: Callable[[], Value]) -> Value:
    """What `load` imports.

    Raises:
        UsageError: matplotlib is not installed.
    """
    try:
        return load()
    except ModuleNotFoundError:
        raise UsageError("--plot needs matplotlib: pip install 'foretrain[plot]'") from None


def kind_of(path: Path) -> str:
    """png or svg."""
    return path.suffix.removeprefix(".").casefold()
