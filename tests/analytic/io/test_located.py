"""Errors with their file, entry and line."""

from __future__ import annotations

import pytest

from analytic.errors import FileError, PlannerError, SpecError
from analytic.io.keys import Keys
from analytic.io.located import located

LINES = {("gear",): 2, ("gear", "gpus"): 3, ("gpus",): 9}


@pytest.mark.parametrize(
    ("section", "error", "said"),
    [
        (("gear",), FileError("gpus = 0: bad", key="gpus"), "f: line 3: gear.gpus = 0: bad"),
        (("gear",), FileError("missing hours"), "f: line 2: gear: missing hours"),
        (("gear",), FileError("hours = 1: bad", key="hours"), "f: line 2: gear: hours = 1: bad"),
        (("data",), FileError("missing size"), "f: line 1: data: missing size"),
        ((), FileError("gpus: no such key", key="gpus"), "f: line 9: gpus: no such key"),
        (("gear",), FileError("gpus of another file"), "f: line 2: gear: gpus of another file"),
    ],
)
def test_an_error_gets_the_line_of_its_key_or_else_of_its_section(
    section: tuple[str, ...], error: FileError, said: str
) -> None:
    with pytest.raises(FileError) as caught, located("f", LINES, section):
        raise error
    assert str(caught.value) == said


def test_places_add_up_and_the_type_stays() -> None:
    with pytest.raises(SpecError, match=r"^a\.toml: laws\.mine: alpha = 0: bad$"), located("a.toml"):  # noqa: SIM117
        with located("laws.mine"):
            raise SpecError("alpha = 0: bad", key="alpha")


def test_what_another_file_names_is_no_key_of_this_one() -> None:
    with pytest.raises(PlannerError, match=r"^f: line 2: gear: other\.json: gpus = 0: bad$"):  # noqa: SIM117
        with located("f", LINES, ("gear",)), located("other.json"):
            raise FileError("gpus = 0: bad", key="gpus")


def test_keys_say_which_of_them_is_wrong() -> None:
    keys = Keys({"n": 0, "s": "\ud800", "deep": [[]], "extra": 1})
    for refused, key in (
        (lambda: keys.integer("n"), "n"),
        (lambda: keys.text("s"), "s"),
        (lambda: keys.section("deep"), "deep"),
        (lambda: keys.allow(("n", "s", "deep")), "extra"),
    ):
        with pytest.raises(FileError) as caught:
            refused()
        assert caught.value.key == key
        assert str(caught.value).startswith(key)
    with pytest.raises(FileError) as missing:
        keys.require(("n", "hours"), "gear")
    assert missing.value.key is None


def test_an_integer_that_python_does_not_print_is_refused_by_its_key() -> None:
    """TOML has hexadecimal integers of any length; `str` of more than 4,300 digits raises."""
    for read in (Keys({"n": 16**5000}).integer, Keys({"n": 16**5000}).number):
        with pytest.raises(FileError, match=r"^n = an integer of thousands of digits: expected a"):
            read("n")
