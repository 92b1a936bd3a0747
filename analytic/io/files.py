"""Files in and out: strict JSON objects and TOML tables, bounded in size; files written whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import stat
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from analytic.errors import FileError

BACKWARD_EXAMPLE = "backward_scaling_config.json"  # a machine and its hours, named like a model
MAX_FILE_BYTES = 16 * 2**20  # the largest published config.json is under 1 MB

JsonObject = Mapping[str, Any]


def configs_dir() -> Path:
    """Where the shipped data files are: beside the packages in a checkout, inside `analytic` once installed."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def model_config_paths() -> list[Path]:
    """Every model configuration that is shipped, in a fixed order."""
    shipped = (*configs_dir().glob("*_config.json"), *configs_dir().glob("models/*.json"))
    return sorted(path for path in shipped if path.name != BACKWARD_EXAMPLE)


def read_json_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file, read strictly: no duplicate key, no NaN or Infinity, UTF-8.

    Raises:
        FileError: naming the path and what is wrong; nothing is ever executed.
    """
    return parse_json_object(path, read_text(path))


def parse_json_object(path: Path, text: str, *, strict: bool = True) -> dict[str, Any]:
    """The JSON object in a text; `path` is what an error names. Without `strict`, repeated keys and NaN pass."""
    try:
        if strict:
            value = json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_no_constant)
        else:
            value = json.loads(text)
    except json.JSONDecodeError as error:
        raise FileError(f"{path}: line {error.lineno}, column {error.colno}: not JSON ({error.msg})") from None
    except RecursionError:
        raise FileError(f"{path}: nested too deeply to be a configuration") from None
    except ValueError as error:  # our hooks, and integers of thousands of digits
        raise FileError(f"{path}: {error}") from None
    if not isinstance(value, dict):
        raise FileError(f"{path}: a JSON {_json_type(value)}, expected an object")
    return value


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file; TOML itself refuses duplicate keys.

    Raises:
        FileError: naming the path and what is wrong.
    """
    try:
        return tomllib.loads(read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise FileError(f"{path}: not TOML ({error})") from None
    except RecursionError:
        raise FileError(f"{path}: nested too deeply to be a configuration") from None
    except ValueError as error:  # integers of thousands of digits
        raise FileError(f"{path}: {error}") from None


def write_json(path: Path, value: JsonObject) -> None:
    """Write an object as JSON, whole or not at all."""
    write_files({path: json_bytes(value)})


def json_bytes(value: JsonObject) -> bytes:
    """An object as the JSON text of a file."""
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()


def write_files(contents: Mapping[Path, bytes]) -> None:
    """Write every file or none: each to a temporary one beside its target, renamed once all are there."""
    temporaries: dict[Path, Path] = {}
    path = Path()
    try:
        for path, content in contents.items():
            if path.is_dir():  # the one target that a temporary file can be made beside, and not renamed over
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
            temporaries[path] = Path(temporary)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            temporaries[path].chmod(0o644)
        for path, written in temporaries.items():
            written.replace(path)
    except OSError as error:
        raise FileError(f"{path}: cannot be written ({error.strerror})") from None
    finally:
        for written in temporaries.values():
            written.unlink(missing_ok=True)


def read_text(path: Path) -> str:
    """The text of a regular UTF-8 file of bounded size.

    Raises:
        FileError: naming the path and what is wrong.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or error}") from None
    except ValueError:  # a NUL in the path itself
        raise FileError(f"{str(path)!r}: not a path") from None
    if stat.S_ISDIR(status.st_mode):
        raise FileError(f"{path}: a directory, expected a file such as {path / 'config.json'}")
    if not stat.S_ISREG(status.st_mode):
        raise FileError(f"{path}: not a regular file")
    if status.st_size > MAX_FILE_BYTES:
        raise FileError(f"{path}: {status.st_size} bytes, expected at most {MAX_FILE_BYTES}")
    try:
        return path.read_text(encoding="utf-8-sig")  # editors on Windows put a byte order mark before the text
    except UnicodeDecodeError as error:
        raise FileError(f"{path}: not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or error}") from None


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"key {key!r} appears twice")
        result[key] = value
    return result


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _json_type(value: object) -> str:
    names = {list: "list", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")
