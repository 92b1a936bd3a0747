"""What is read and refused, and what is written: whole, through links, and never over a device."""

from __future__ import annotations

import ast
import json
import math
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analytic.errors import FileError
from analytic.io.files import json_bytes, read_json_object, read_toml, write_files, write_json
from analytic.io.jsonc import read_jsonc

ROOT = Path(__file__).parents[3]


def test_a_link_stays_and_what_it_points_to_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    target, link, chain = folder / "target.json", tmp_path / "link.json", tmp_path / "chain.json"
    target.write_text("old")
    link.symlink_to(target)
    chain.symlink_to("link.json")
    write_files({chain: b"new"})
    assert target.read_bytes() == b"new"
    assert link.is_symlink()
    assert chain.is_symlink()
    assert [path.name for path in folder.iterdir()] == ["target.json"]  # no temporary file is left behind


def test_a_link_to_nothing_makes_what_it_points_to(tmp_path: Path) -> None:
    link = tmp_path / "link.json"
    link.symlink_to("target.json")
    write_files({link: b"new"})
    assert link.is_symlink()
    assert (tmp_path / "target.json").read_bytes() == b"new"


@pytest.mark.parametrize("mode", [0o600, 0o664, 0o755])
def test_a_file_keeps_its_permissions(mode: int, tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text("old")
    path.chmod(mode)
    write_files({path: b"new"})
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert path.read_bytes() == b"new"


def test_a_new_file_has_the_permissions_that_any_new_file_has(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_files({tmp_path / "c.json": b"new"})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "c.json").stat().st_mode) == 0o640  # 0666 without 027


def fifo(path: Path) -> Path:
    os.mkfifo(path)
    return path


def listening(path: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
    return path


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def link_to_itself(path: Path) -> Path:
    path.symlink_to(path.name)
    return path


def terminal(_: Path) -> Path:
    """A device that not even root can replace: a test that fails must not damage the machine."""
    return Path(os.ttyname(os.openpty()[1]))


def link_to_a_device(path: Path) -> Path:
    path.symlink_to(terminal(path))
    return path


# What is there, and how a writer refuses it.
NO_TARGETS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "device": (terminal, "not a regular file"),
    "link to a device": (link_to_a_device, "not a regular file"),
    "FIFO": (fifo, "not a regular file"),
    "socket": (listening, "not a regular file"),
    "folder": (folder, "Is a directory"),
    "circle": (link_to_itself, "Too many levels of symbolic links"),
    "no folder": (lambda path: path / "x.json", "No such file or directory"),
    "NUL": (lambda path: Path(f"{path}\0"), "not a path"),
    "half a surrogate pair": (lambda path: Path(f"{path}\ud800"), "not a path"),
}


@pytest.mark.parametrize("what", NO_TARGETS)
def test_what_is_no_regular_file_is_refused_and_left_alone(what: str, tmp_path: Path) -> None:
    make, said = NO_TARGETS[what]
    path = make(tmp_path / "out")
    before = sorted(tmp_path.iterdir())
    kinds = [stat.S_IFMT(each.lstat().st_mode) for each in before]
    with pytest.raises(FileError) as refused:
        write_files({tmp_path / "first.json": b"1", path: b"2"})
    assert str(refused.value) == f"{path}: cannot be written ({said})"
    assert sorted(tmp_path.iterdir()) == before  # not even the first file, and no temporary one
    assert [stat.S_IFMT(each.lstat().st_mode) for each in before] == kinds


def test_a_file_that_may_not_be_written_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rename would replace it: only its folder has to be writable. Root may write anything, so access is faked."""
    path = tmp_path / "c.json"
    path.write_text("old")
    monkeypatch.setattr(os, "access", lambda of, mode: mode != os.W_OK)
    with pytest.raises(FileError, match=r"c\.json: cannot be written \(Permission denied\)$"):
        write_files({path: b"new"})
    assert path.read_text() == "old"


def test_two_outputs_in_one_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("file")
    with pytest.raises(FileError, match=r"link: cannot be written \(two outputs in one file\)$"):
        write_files({tmp_path / "file": b"1", tmp_path / "link": b"2"})
    assert not (tmp_path / "file").exists()


def test_every_writer_of_files_goes_through_here() -> None:
    """No other module opens a file to write, or has a library do so."""
    written = []
    for path in (path for package in ("analytic", "empirical") for path in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = getattr(node, "attr", getattr(node, "id", ""))
            if name in ("open", "fdopen", "write_text", "write_bytes", "mkstemp", "NamedTemporaryFile"):
                written.append(str(path.relative_to(ROOT)))
    assert set(written) == {"analytic/io/files.py", "analytic/commands/run.py"}  # the latter opens /dev/null


READERS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "JSON": (read_json_object, '{{"a": {}}}'),
    "JSON with comments": (lambda path: read_jsonc(path)[0], '{{"a": {}}} // end'),
    "TOML": (read_toml, "a = {}"),
}


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("depth", [51, 400, 100_000])
def test_what_is_nested_too_deeply_is_refused(kind: str, depth: int, tmp_path: Path) -> None:
    """Before anybody who walks through it, or prints it, exhausts the stack."""
    read, template = READERS[kind]
    path = tmp_path / "x"
    path.write_text(template.format("[" * depth + "]" * depth))
    with pytest.raises(FileError, match=rf"^{path}: nested too deeply .* at most 50 levels$"):
        read(path)
    path.write_text(template.format("[" * 50 + "]" * 50))
    assert list(read(path)) == ["a"]


def test_tables_nest_without_brackets(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text(".".join(["a"] * 52) + " = 1")
    with pytest.raises(FileError, match="nested too deeply"):
        read_toml(path)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_a_file_of_our_own_has_finite_numbers_and_a_published_one_need_not(number: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(f'{{"list": [0, {{"of": {number}}}]}}')
    with pytest.raises(FileError, match=rf"^{path}: list\.1\.of = {float(number)}: expected a finite number$"):
        read_json_object(path)
    assert not math.isfinite(read_json_object(path, is_finite=False)["list"][1]["of"])


def test_what_json_has_not_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    with pytest.raises(FileError, match=r"^a\.1 = nan: expected a finite number$"):
        write_json(path, {"a": (0, math.nan)})
    assert not path.exists()
    assert json.loads(json_bytes({"a": (0, 1.5)})) == {"a": [0, 1.5]}
