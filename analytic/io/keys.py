"""Typed, checked access to the keys of one JSON object, remembering what was derived for an absent key."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Never

from analytic.errors import FileError, listed
from analytic.limits import MAX_DIMENSION


@dataclass(frozen=True, slots=True)
class Derived:
    """The value that stands for an absent (or null) key, and where that is laid down."""

    value: Any
    source: str


@dataclass(slots=True)
class Keys:
    """The keys of one configuration. Every getter checks the type; an error names the key and the value.

    A getter without `absent` is for a required key. `derived` collects what absent keys were taken to be.
    """

    config: Mapping[str, Any]
    derived: dict[str, Derived] = field(default_factory=dict)

    def require(self, keys: Collection[str], model_type: str) -> None:
        """Raise unless every key is there: a config of another schema must not be read by class defaults."""
        missing = [key for key in keys if key not in self.config]
        if missing:
            raise FileError(f"missing {listed(missing)}: a {model_type} config must state {listed(keys)}")

    def allow(self, keys: Collection[str]) -> None:
        """Raise on a key that nothing reads: in a file of our own format it is a misspelling."""
        for key in self.config:
            if key not in keys:
                raise FileError(f"{key}: no such key, expected one of {listed(sorted(keys))}", key=key)

    def reject(self, key: str, value: object, expected: str) -> Never:
        raise FileError(f"{key} = {_shown(value)}: expected {expected}", key=key)

    def integer(self, key: str, absent: Derived | None = None, *, least: int = 1, most: int = MAX_DIMENSION) -> int:
        value = self._value(key, absent)
        if type(value) is not int or not least <= value <= most:
            self.reject(key, value, f"an integer from {least} to {most}")
        return value

    def optional_integer(self, key: str, absent: Derived) -> int | None:
        """As `integer`, but None (an explicit null, or derived) is a value of its own."""
        if key in self.config and self.config[key] is None:
            return None
        if key not in self.config and absent.value is None:
            self.derived[key] = absent
            return None
        return self.integer(key, absent)

    def flag(self, key: str, absent: Derived) -> bool:
        """True or false. `transformers` takes a null for false: refused where an absent key means true."""
        value = self._value(key, absent)
        if key in self.config and self.config[key] is None and absent.value:
            self.reject(key, None, "true or false")
        if type(value) is not bool:
            self.reject(key, value, "true or false")
        return value

    def number(
        self, key: str, absent: Derived | None = None, *, least: float | None = None, most: float = sys.float_info.max
    ) -> float:
        """A number from `least`, by default any above zero, to `most`."""
        value = self._value(key, absent)
        if type(value) in (int, float) and (value > 0 if least is None else value >= least) and value <= most:
            return float(value)
        if least is not None:
            self.reject(key, value, f"a number from {least:g} to {most:g}")
        bound = "" if most == sys.float_info.max else f" of at most {most:g}"
        self.reject(key, value, f"a positive number{bound}")

    def text(self, key: str, absent: Derived | None = None, *, among: Collection[str] = ()) -> str:
        value = self._value(key, absent)
        if type(value) is not str or (among and value not in among) or not _is_unicode(value):
            self.reject(key, value, f"one of {listed(among)}" if among else "a string")
        return value

    def texts(self, key: str, *, length: int, among: Collection[str]) -> list[str]:
        """A list of `length` strings, each one of `among`."""
        value = self.config[key]
        if type(value) is not list or len(value) != length or any(item not in among for item in value):
            self.reject(key, value, f"a list of {length} strings, each one of {listed(among)}")
        return value

    def each(self, key: str, absent: Derived | None = None, *, length: int) -> list[int]:
        """One integer for all of `length` layers, or a list of them."""
        value = self._value(key, absent)
        values = value if type(value) is list and len(value) == length else [value] * length
        if any(type(item) is not int or not 1 <= item <= MAX_DIMENSION for item in values):
            self.reject(key, value, f"an integer from 1 to {MAX_DIMENSION}, or {length} of them")
        return values

    def numbers(self, key: str) -> list[float]:
        """A list of positive numbers."""
        value = self.config.get(key)
        if type(value) is not list or not value or not all(_is_positive(item) for item in value):
            self.reject(key, value, "a list of positive numbers")
        return value

    def switches(self, key: str, *, length: int) -> list[bool]:
        """A list of `length` zeros and ones."""
        value = self.config[key]
        if type(value) is not list or len(value) != length or any(item not in (0, 1) for item in value):
            self.reject(key, value, f"a list of {length} zeros and ones")
        return [bool(item) for item in value]

    def indices(self, key: str, absent: Derived, *, below: int) -> frozenset[int]:
        """A list of integers from 0 to `below` - 1."""
        value = self._value(key, absent)
        if type(value) is not list or any(type(i) is not int or not 0 <= i < below for i in value):
            self.reject(key, value, f"a list of integers from 0 to {below - 1}")
        return frozenset(value)

    def section(self, key: str) -> Keys | None:
        """A nested object, or None where the key is absent or null."""
        value = self.config.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            self.reject(key, value, "an object")
        return Keys(value, self.derived)

    def unreported(self) -> Keys:
        """The same keys for what changes no count: whatever is derived there is not reported."""
        return Keys(self.config)

    def must_be(self, key: str, value: object, reason: str) -> None:
        """Refuse an option whose other values are not counted; an absent or null key passes."""
        stated = self.config.get(key)
        if stated is not None and (stated != value or type(stated) is not type(value)):
            self.reject(key, stated, f"{_shown(value)} ({reason})")

    def _value(self, key: str, absent: Derived | None) -> Any:
        value = self.config.get(key)
        if value is None and absent is not None:
            self.derived[key] = absent
            return absent.value
        return value


def _is_positive(value: object) -> bool:
    return type(value) in (int, float) and 0 < value <= sys.float_info.max  # type: ignore[operator]  # a number


def _is_unicode(text: str) -> bool:
    """Whether a text is none with half of a surrogate pair, which JSON can spell and no file or terminal can hold."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _shown(value: object) -> str:
    """A JSON value on one short line, as JSON spells it."""
    spelled = {True: "true", False: "false", None: "null"}
    try:
        text = spelled[value] if value is None or isinstance(value, bool) else repr(value)
    except ValueError:  # TOML has hexadecimal integers of any length; Python prints 4,300 digits
        return "an integer of thousands of digits"
    return text if len(text) <= 60 else f"{text[:57]}..."
