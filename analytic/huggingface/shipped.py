"""The model that a name means: one that is shipped, a `config.json`, or the folder that holds one."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from analytic.errors import UsageError
from analytic.io.files import model_config_paths

SUGGESTIONS = 3
_MOST_SHOWN = 60  # characters of a name that is not known


def shipped_models() -> dict[str, Path]:
    """Every shipped configuration by its name, in alphabetical order."""
    named = {path.stem.removesuffix("_config").replace("_", "-"): path for path in model_config_paths()}
    return dict(sorted(named.items()))


def find_model(name_or_path: str | Path) -> Path:
    """The configuration that a name or a path means.

    What exists as a path is that path; a folder stands for its `config.json`. Of a shipped name, case, dots,
    dashes, underscores and the organisation before a slash do not matter. What ends in `.json` is a path
    whether it exists or not, so that reading it says what is wrong.

    Raises:
        UsageError: no such model; the message names the three nearest.
    """
    text = str(name_or_path)
    config = os.path.join(text, "config.json")  # noqa: PTH118  # os.path takes every string, Path.exists raises
    if os.path.exists(config):  # noqa: PTH110
        return Path(config)
    if text.casefold().endswith(".json") or (os.path.exists(text) and not os.path.isdir(text)):  # noqa: PTH110, PTH112
        return Path(text)
    shipped = {_letters(name): (name, path) for name, path in shipped_models().items()}
    wanted = _letters(text.rstrip("/").rpartition("/")[2])
    if wanted in shipped:
        return shipped[wanted][1]
    nearest = difflib.get_close_matches(wanted, shipped, n=SUGGESTIONS, cutoff=0)
    shown = repr(text) if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]!r}..."
    names = ", ".join(shipped[key][0] for key in nearest)
    raise UsageError(f"no model {shown}: did you mean {names}? Expected a shipped name or a path to a config.json")


def _letters(name: str) -> str:
    """Letters and digits alone, in lower case."""
    return "".join(filter(str.isalnum, name.casefold()))
