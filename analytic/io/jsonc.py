"""JSON with `//` and `/* */` comments, and the line on which each key stands."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from analytic.errors import FileError
from analytic.io.files import parse_json_object, read_text
from analytic.io.located import KeyPath, located

_STRING_OR_COMMENT = re.compile(r'"(?:[^"\\\n]|\\.)*"|//[^\n]*|/\*.*?\*/|/\*', re.DOTALL)
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]', re.DOTALL)


def read_jsonc(path: Path) -> tuple[dict[str, Any], dict[KeyPath, int]]:
    """The object in a file with comments, and the line of each key by its path from the root.

    NaN and Infinity pass, so that whoever reads the key can refuse them with its name and line.

    Raises:
        FileError: naming the path, the line and what is wrong.
    """
    text = read_text(path)
    with located(path):
        text = without_comments(text)
    value = parse_json_object(path, text, is_finite=False, has_unique_keys=False)
    with located(path):
        return value, key_lines(text)


def without_comments(text: str) -> str:
    """The same text with comments blanked out: every other character keeps its line and column.

    >>> without_comments('{"a": 1 /* one */, "b": "//"} // end')
    '{"a": 1          , "b": "//"}       '

    Raises:
        FileError: a comment that does not end.
    """

    def blank(match: re.Match[str]) -> str:
        found = match.group()
        if found == "/*":
            raise FileError(f"line {_line(text, match.start())}: comment /* without its */")
        return found if found.startswith('"') else re.sub(r"[^\r\n]", " ", found)

    return _STRING_OR_COMMENT.sub(blank, text)


def key_lines(text: str) -> dict[KeyPath, int]:
    """The line of each key of the objects in a valid JSON text; what lies inside lists is passed over.

    >>> key_lines('{"a": 1,\\n "b": {"c": 2}}')
    {('a',): 1, ('b',): 2, ('b', 'c'): 2}

    Raises:
        FileError: a key that stands twice in one object.
    """
    lines: dict[KeyPath, int] = {}
    path: list[str] = []  # the key now being read at each depth
    lists = 0
    is_key = False
    for match in _TOKEN.finditer(text):
        token = match.group()
        if lists or token in "[]":
            lists += (token == "[") - (token == "]")
        elif token == "{":
            path.append("")
            is_key = True
        elif token == "}":
            path.pop()
        elif token in ",:":
            is_key = token == ","
        elif is_key:
            path[-1] = json.loads(token)
            if tuple(path) in lines:
                raise FileError(f"line {_line(text, match.start())}: key {token} appears twice")
            lines[tuple(path)] = _line(text, match.start())
    return lines


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1
