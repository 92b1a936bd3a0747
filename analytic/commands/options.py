"""What every command shares: options that check themselves."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from typing import Never

from analytic.errors import UsageError
from analytic.limits import MAX_DIMENSION

_NUMBER = re.compile(r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")


class _StoreOnce(argparse.Action):
    """What argparse does with an option by default, except that a second value does not silently win."""

    _filled: argparse.Namespace | None = None  # what has a value already: another parse fills another namespace

    def __call__(
        self,
        _parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        if self._filled is namespace:
            raise argparse.ArgumentError(self, "given twice, expected once")
        self._filled = namespace
        setattr(namespace, self.dest, values)


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, and whose options are spelled out and given once."""

    def __init__(self, *, prog: str, description: str | None) -> None:
        super().__init__(prog=prog, description=description, allow_abbrev=False)
        self.register("action", None, _StoreOnce)

    def error(self, message: str) -> Never:
        raise UsageError(message)


def positive_integer(text: str) -> int:
    """An option's value from 1 to the largest dimension there is."""
    if not re.fullmatch(r"[0-9]{1,9}", text) or not 1 <= int(text) <= MAX_DIMENSION:
        raise argparse.ArgumentTypeError(f"{text!r}: expected an integer from 1 to {MAX_DIMENSION}")
    return int(text)


def positive_number(text: str) -> float:
    """An option's value above 0, as a decimal number."""
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a positive number")
    return value


def number_up_to(most: float) -> Callable[[str], float]:
    """The reader of an option's value above 0 and at most `most`."""

    def read(text: str) -> float:
        value = positive_number(text)
        if value > most:
            raise argparse.ArgumentTypeError(f"{text!r}: expected a number of at most {most:g}")
        return value

    return read


def refuse(condition: bool, message: str) -> None:
    """Raise where options contradict each other: one that would be read by nothing is an error, not ignored."""
    if condition:
        raise UsageError(message)
