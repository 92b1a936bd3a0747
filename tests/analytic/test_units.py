"""Numbers as people type them."""

from fractions import Fraction

import pytest

from analytic.errors import UsageError
from analytic.units import (
    GpuCount,
    parse_bytes,
    parse_gpus,
    parse_hours,
    parse_integer,
    parse_length,
    parse_number,
    parse_share,
)


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("80GB", 80 * 1000**3),
        ("80GiB", 80 * 1024**3),
        ("80 gb", 80 * 1000**3),
        ("1.5TiB", 3 * 1024**4 // 2),
        ("512MiB", 512 * 1024**2),
        ("7KB", 7000),
        ("7kib", 7 * 1024),
        ("7B", 7),
        ("0.0015kB", 1),
    ],
)
def test_bytes_mean_what_their_unit_says(text: str, size_bytes: int) -> None:
    assert parse_bytes(text) == size_bytes


@pytest.mark.parametrize(
    "text", ["", "80", "GB", "80G", "-1GB", "1e3GB", "0GB", "0.5B", "80iB", "80GBs", "80\nGB", "٣GB"]
)
def test_bytes_without_their_unit_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(UsageError, match="expected bytes with their unit") as caught:
        parse_bytes(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("200k", 200_000),
        ("1.5M", 1_500_000),
        ("500B", 500 * 10**9),
        ("500b", 500 * 10**9),
        ("2g", 2 * 10**9),
        ("15T", 15 * 10**12),
        ("1,000,000", 10**6),
        ("1,000.5k", 1_000_500),
        ("5e6", 5 * 10**6),
        ("1e-3", Fraction(1, 1000)),
        ("0.1", Fraction(1, 10)),
        (".5", Fraction(1, 2)),
        ("5.", 5),
        ("45%", Fraction(45, 100)),
        (" 12 ", 12),
        ("0", 0),
    ],
)
def test_numbers_are_exact(text: str, value: Fraction) -> None:
    assert parse_number(text) == value


@pytest.mark.parametrize(
    "text",
    ["", "k", ".", "%", "e5", "-5", "+5", "1,00", "10,00,000", "1_000", "nan", "inf", "0x10", "1e400", "5kk"],
)
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected a number such as 200k"):
        parse_number(text)


def test_integers_are_whole_and_in_their_range() -> None:
    assert parse_integer("1.5k", most=1500) == 1500
    for text in ("0", "1.5", "1501", "1e99", "0.5%"):
        with pytest.raises(UsageError, match="expected a whole number from 1 to 1,500"):
            parse_integer(text, most=1500)


def test_a_k_of_tokens_in_a_sequence_is_1024() -> None:
    for text, length in (("4k", 4096), ("4K", 4096), ("0.5k", 512), ("4,096", 4096), ("4000", 4000)):
        assert parse_length(text, most=10**6) == length
    for text in ("0k", "0.001k", "1000k", "-4k"):
        with pytest.raises(UsageError):
            parse_length(text, most=10**6)


def test_a_share_is_above_nothing_and_at_most_all() -> None:
    assert [parse_share(text) for text in ("0.45", "45%", "100%", "1", "1e-9")] == [0.45, 0.45, 1.0, 1.0, 1e-9]
    for text in ("0", "0%", "45", "101%", "1.01"):
        with pytest.raises(UsageError, match=r"expected a share above 0 and at most 1, such as 0\.45 or 45%"):
            parse_share(text)


def test_times_need_their_unit() -> None:
    for text, hours in (("3w", 3 * 7 * 24), ("21d", 21 * 24), ("720h", 720), ("90min", 1.5), ("0.5d", 12)):
        assert parse_hours(text) == hours
    for text in ("3", "3m", "3 weeks", "-3w", "0h", "", "w"):
        with pytest.raises(UsageError, match="expected a "):
            parse_hours(text)


@pytest.mark.parametrize(
    ("text", "count", "name", "usd"),
    [
        ("512xh100", 512, "h100", None),
        ("512xh100=2.5", 512, "h100", 2.5),
        ("1,024 x a100-80", 1024, "a100-80", None),
        ("4k*h100", 4000, "h100", None),
        ("8Xh100=1,000", 8, "h100", 1000.0),
        ("h100", 1, "h100", None),
        ("1x80GiB", 1, "80GiB", None),
        ("l40s", 1, "l40s", None),
        ("2xmi300x", 2, "mi300x", None),
        ("mi300x", 1, "mi300x", None),
    ],
)
def test_gpus_and_their_price(text: str, count: int, name: str, usd: float | None) -> None:
    assert parse_gpus(text, most=10**6) == GpuCount(count, name, usd)


@pytest.mark.parametrize("text", ["", "=2", "0xh100", "1000001xh100", "8xh100=", "8xh100=-1", "8xh100=cheap"])
def test_what_are_no_gpus(text: str) -> None:
    with pytest.raises(UsageError, match="expected "):
        parse_gpus(text, most=10**6)
