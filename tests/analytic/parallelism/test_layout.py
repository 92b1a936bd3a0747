"""Layouts: sizes, the numbering of ranks, and what is refused."""

from __future__ import annotations

from itertools import product

import pytest

from analytic.errors import UsageError
from analytic.parallelism.layout import Axis, Layout


def test_every_rank_has_coordinates_of_its_own_in_row_major_order() -> None:
    layout = Layout(pp=2, dp_replicate=3, dp_shard=5, cp=2, tp=4, ep=8, etp=1)
    axes: tuple[Axis, ...] = ("pp", "dp_replicate", "dp_shard", "cp", "tp")
    expected = list(product(range(2), range(3), range(5), range(2), range(4)))
    assert layout.num_gpus == len(expected) == 240
    assert [tuple(layout.coordinate(rank, axis) for axis in axes) for rank in range(240)] == expected


def test_experts_are_laid_out_over_the_same_ranks() -> None:
    """16 ranks, ep = 8: groups {0..7} {8..15}; the pairs {0, 8} ... {7, 15} hold the same experts."""
    layout = Layout(dp_shard=8, tp=2, ep=8)
    assert layout.efsdp == 2
    assert [layout.coordinate(rank, "ep") for rank in range(16)] == [*range(8), *range(8)]
    assert [layout.coordinate(rank, "efsdp") for rank in range(16)] == [0] * 8 + [1] * 8


@pytest.mark.parametrize(
    ("axes", "named"),
    [
        ({"tp": 0}, "tp = 0"),
        ({"dp_shard": -8}, "dp_shard = -8"),
        ({"pp": 2.0}, "pp = 2.0"),
        ({"cp": True}, "cp = True"),
        ({"micro_batches": 0}, "micro_batches = 0"),
        ({"virtual_stages": 0}, "virtual_stages = 0"),
        ({"pipeline_schedule": "2f2b"}, "pipeline_schedule = '2f2b'"),
        ({"ep": 3, "dp_shard": 8}, "ep = 3, etp = 1: expected a product that divides dp_shard x cp x tp = 8"),
        ({"ep": 4, "etp": 4, "dp_shard": 8}, "ep = 4, etp = 4"),
        ({"dp_shard": 2**15, "tp": 64}, "layout of 2097152 GPUs"),
    ],
)
def test_what_is_no_layout_is_refused_by_name(axes: dict[str, int], named: str) -> None:
    with pytest.raises(UsageError) as error:
        Layout(**axes)  # type: ignore[arg-type]  # wrong on purpose
    assert named in str(error.value)


@pytest.mark.parametrize("rank", [-1, 8, 1.0])
def test_a_rank_outside_the_world_is_refused(rank: int) -> None:
    with pytest.raises(UsageError, match="expected an integer from 0 to 7"):
        Layout(dp_shard=8).coordinate(rank, "tp")
