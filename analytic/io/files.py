"""Files in and out: strict JSON objects and TOML tables, bounded in size; files written whole or not at all."""

from __future__ import annotations

import errno
import json
import math
import os
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from analytic.errors import FileError
from analytic.io.located import located

BACKWARD_EXAMPLE = "backward_scaling_config.json"  # a machine and its hours, named like a model
MAX_FILE_BYTES = 16 * 2**20  # the largest published config.json is under 1 MB
_MOST_DEPTH = 50  # published configurations nest 5 deep
_TOO_DEEP = f"nested too deeply to be a configuration, expected at most {_MOST_DEPTH} levels"
_NOT_REGULAR = "not a regular file"

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


def read_json_object(path: Path, *, is_finite: bool = True) -> dict[str, Any]:
    """The JSON object in a file: UTF-8, no key twice; unless `is_finite` is False, neither NaN nor Infinity.

    A published configuration may hold them where nobody reads them; a getter of `Keys` refuses them where one does.

    Raises:
        FileError: naming the path and what is wrong; nothing is ever executed.
    """
    return parse_json_object(path, read_text(path), is_finite=is_finite)


def parse_json_object(path: Path, text: str, *, is_finite: bool, has_unique_keys: bool = True) -> dict[str, Any]:
    """The JSON object in a text; `path` is what an error names."""
    try:
        value = json.loads(text, object_pairs_hook=_unique_keys if has_unique_keys else None)
    except json.JSONDecodeError as error:
        raise FileError(f"{path}: line {error.lineno}, column {error.colno}: not JSON ({error.msg})") from None
    except RecursionError:
        raise FileError(f"{path}: {_TOO_DEEP}") from None
    except ValueError as error:  # a key twice, or an integer of thousands of digits
        raise FileError(f"{path}: {error}") from None
    if not isinstance(value, dict):
        raise FileError(f"{path}: a JSON {_json_type(value)}, expected an object")
    with located(path):
        _check_values(value, (), is_finite=is_finite)
    return value


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file; TOML itself refuses duplicate keys.

    Raises:
        FileError: naming the path and what is wrong.
    """
    try:
        value = tomllib.loads(read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise FileError(f"{path}: not TOML ({error})") from None
    except RecursionError:
        raise FileError(f"{path}: {_TOO_DEEP}") from None
    except ValueError as error:  # integers of thousands of digits
        raise FileError(f"{path}: {error}") from None
    with located(path):
        _check_values(value, (), is_finite=False)
    return value


def write_json(path: Path, value: JsonObject) -> None:
    """Write an object as JSON, whole or not at all."""
    write_files({path: json_bytes(value)})


def json_bytes(value: JsonObject) -> bytes:
    """An object as the JSON text of a file.

    Raises:
        FileError: NaN or Infinity, which a published configuration may hold and JSON has not; names the key.
    """
    _check_values(value, (), is_finite=True)
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()


def write_files(contents: Mapping[Path, bytes]) -> None:
    """Write every file or none: each to a temporary one in the folder of its target, renamed once all are there.

    A symbolic link stays and what it points to is replaced. A file that is there already keeps its permissions.

    Raises:
        FileError: naming the path; what is there and no regular file (a device, a pipe) is never replaced.
    """
    temporaries: dict[Path, Path] = {}  # by target
    path = Path()
    try:
        for path, content in contents.items():
            mode, target = _mode_of(path), Path(os.path.realpath(path))
            if target in temporaries:
                raise OSError(errno.EINVAL, "two outputs in one file")
            temporaries[target] = temporary = target.parent / f".foretrain-{os.urandom(8).hex()}"
            with temporary.open("xb") as file:
                file.write(content)
            if mode is not None:
                temporary.chmod(mode)
        for target, temporary in temporaries.items():
            path = target
            temporary.replace(target)
    except (OSError, ValueError) as error:
        raise FileError(f"{path}: cannot be written ({_reason(error)})") from None
    finally:
        for temporary in temporaries.values():
            temporary.unlink(missing_ok=True)


def _mode_of(path: Path) -> int | None:
    """The permissions of a regular file that may be replaced; None where there is no file yet.

    Raises:
        OSError: there is something else, or a file that must not be written.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(mode):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, _NOT_REGULAR)
    if not os.access(path, os.W_OK):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))
    return stat.S_IMODE(mode)


def _reason(error: OSError | ValueError) -> str:
    """Why a path cannot be used; a ValueError is about a NUL or half a surrogate pair in the path itself."""
    return error.strerror or str(error) if isinstance(error, OSError) else "not a path"


def read_text(path: Path) -> str:
    """The text of a regular UTF-8 file of bounded size.

    Raises:
        FileError: naming the path and what is wrong.
    """
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        raise FileError(f"{path}: {_reason(error)}") from None
    if stat.S_ISDIR(status.st_mode):
        raise FileError(f"{path}: a directory, expected a file such as {path / 'config.json'}")
    if not stat.S_ISREG(status.st_mode):
        raise FileError(f"{path}: {_NOT_REGULAR}")
    if status.st_size > MAX_FILE_BYTES:
        raise FileError(f"{path}: {status.st_size} bytes, expected at most {MAX_FILE_BYTES}")
    try:
        return path.read_text(encoding="utf-8-sig")  # editors on Windows put a byte order mark before the text
    except UnicodeDecodeError as error:
        raise FileError(f"{path}: not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise FileError(f"{path}: {_reason(error)}") from None


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"key {key!r} appears twice")
        result[key] = value
    return result


def _check_values(value: object, keys: tuple[str, ...], *, is_finite: bool) -> None:
    """Refuse what is nested so deep that readers would exhaust the stack, and if asked to, numbers that are none."""
    if len(keys) > _MOST_DEPTH:
        raise FileError(_TOO_DEEP)
    if is_finite and isinstance(value, float) and not math.isfinite(value):
        raise FileError(f"{'.'.join(keys)} = {value}: expected a finite number")
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, item in items:
        _check_values(item, (*keys, str(key)), is_finite=is_finite)


def _json_type(value: object) -> str:
    names = {list: "list", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")
