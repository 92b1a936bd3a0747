"""The version of this tool."""

from __future__ import annotations

__version__ = "0.2.0"


def version() -> str:
    """As results name it."""
    return __version__
