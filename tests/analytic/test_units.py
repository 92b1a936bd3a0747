"""Numbers as people type them."""

import pytest

from analytic.errors import UsageError
from analytic.units import parse_bytes


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
