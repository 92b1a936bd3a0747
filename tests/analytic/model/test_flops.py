"""FLOPs where no published figure would show an error."""

from analytic.model.flops import doubled_pairs


def test_half_of_a_window_is_half_its_first_square_and_all_after_it() -> None:
    """The first `window` queries see half a square; each of the others sees `window` keys, its own included."""
    assert doubled_pairs(10, "half", window=4) == 4 * 4 + 2 * (10 - 4) * 4
    assert doubled_pairs(10, "half") == doubled_pairs(10, "half", window=16) == 10 * 10
