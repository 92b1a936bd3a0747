"""The command from outside: what a verb prints, what its JSON says, and the one line with which it refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest

from empirical.commands.main import main


def printed(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """What `foretrain` prints for these arguments, which must be good."""
    capsys.readouterr()
    assert main(argv) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def facts(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, Any]:
    """The object that `--json` prints."""
    found: dict[str, Any] = json.loads(printed(capsys, *argv, "--json"))
    return found


def refusal(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """The one line with which a verb refuses: on stderr, beginning with its name, and status 2."""
    capsys.readouterr()
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"foretrain {argv[0]}: ")
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err
    return captured.err
