"""How a command ends: its status, and at most one line of at most 300 characters on stderr."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Never

import pytest

from analytic.commands.run import MOST_CHARACTERS, one_line, run
from analytic.errors import FileError
from analytic.io.files import configs_dir

ROOT = Path(__file__).parents[3]
FORETRAIN = [sys.executable, "-m", "empirical.commands.main"]
COUNT = f"env -u PYTHONUNBUFFERED '{sys.executable}' -m empirical.commands.main count llama-3-8b"


def raising(error: BaseException) -> Callable[[], Never]:
    def command() -> Never:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (FileError("x.json: a = 0: bad"), 2, "p: x.json: a = 0: bad\n"),
        (FileError("x\ny.json: bad"), 2, "p: x y.json: bad\n"),
        (FileError("\x1b[2Jx.json: \ud800"), 2, "p: \\x1b[2Jx.json: \\ud800\n"),
        (ModuleNotFoundError("no", name="torch"), 2, "p: torch is not installed: expected `pip install 'foretrain[pr"),
        (ModuleNotFoundError("no", name="fvcore.nn"), 2, "p: fvcore is not installed: expected `pip install 'foretra"),
        (OSError(28, "No space left on device"), 2, "p: standard output: No space left on device\n"),
        (PermissionError(13, "Permission denied", "x.json"), 2, "p: x.json: Permission denied\n"),
        (BrokenPipeError(), 0, ""),
        (KeyboardInterrupt(), 130, "p: interrupted\n"),
        (SystemExit(0), 0, ""),
    ],
)
def test_what_a_user_causes_is_one_line(
    error: BaseException, status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("p", raising(error)) == status
    line = capsys.readouterr().err
    assert line.startswith(said)
    assert line.count("\n") == bool(said)


def test_what_nobody_foresaw_is_a_bug_and_stays_one() -> None:
    for error in (ZeroDivisionError(), ModuleNotFoundError("no", name="analytic.nothing")):
        with pytest.raises(type(error)):
            run("p", raising(error))


def test_a_long_message_keeps_its_head_and_ends_with_a_word() -> None:
    path = "/".join(["folder"] * 100) + "/config.json"
    line = one_line(f"p: {path}: model_type = 'llamo': expected one of {', '.join(['llama'] * 100)}")
    assert MOST_CHARACTERS - len("llama, ") - len("...") <= len(line) <= MOST_CHARACTERS
    assert line.startswith("p: folder/folder/")
    assert "/folder/config.json: model_type = 'llamo': expected one of llama, " in line
    assert line.endswith(" llama...")


def test_a_short_message_is_left_alone() -> None:
    message = "p: " + "word " * 59 + "xy"
    assert len(message) == 300 == MOST_CHARACTERS
    assert one_line(message) == message
    assert one_line(message + "z").endswith("word...")


SHELL = {
    "closed": (f"{COUNT} >&-", "standard output is closed: expected it to be open for the answer"),
    "closed, help": (f"{COUNT} --help >&-", "standard output is closed: expected it to be open for the answer"),
    "full, help": (f"{COUNT} --help >/dev/full", "standard output: No space left on device"),
    "full": (f"{COUNT} >/dev/full", "standard output: No space left on device"),
    "both closed": (f"{COUNT} >&- 2>&-", ""),
    "stderr full": (f"{COUNT} --nonsense 2>/dev/full", ""),
    "stderr closed": (f"{COUNT} --nonsense 2>&-", ""),
}


@pytest.mark.parametrize("stream", SHELL)
def test_streams_that_take_nothing(stream: str) -> None:
    command, said = SHELL[stream]
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (f"foretrain count: {said}\n" if said else "")


def test_a_name_that_the_terminal_cannot_show_is_escaped(tmp_path: Path) -> None:
    """A path need not be UTF-8, and a terminal need not know more than ASCII."""
    path = os.fsdecode(os.fsencode(tmp_path / "ü") + b"\xff.json")
    Path(path).write_bytes((configs_dir() / "models" / "gpt2.json").read_bytes())
    command = [*FORETRAIN, "count"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([*command, path], capture_output=True, check=False, env=environment, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, b"")
    assert re.match(rb"\\xfc\\udcff +12 layers", done.stdout)
    done = subprocess.run(
        [*command, path.replace(".json", "no.json")], capture_output=True, check=False, env=environment, cwd=ROOT
    )
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (2, b"", 1)
    assert b"\\xfc\\udcffno.json: No such file or directory" in done.stderr
