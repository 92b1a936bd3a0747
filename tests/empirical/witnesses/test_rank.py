"""One rank of a simulated world: figures worked out by hand, and what is refused."""

from __future__ import annotations

import pytest

from analytic.errors import UsageError
from analytic.model.training import TrainingSetup
from analytic.parallelism.layout import Layout
from empirical.models.distributed import RankCase
from empirical.witnesses.own_process import in_own_process
from empirical.witnesses.rank import observe
from tests.configurations import parsed
from tests.memory_cases import SMALL

SETUP = TrainingSetup(seq_len=48, optimizer="adamw_foreach")
# hidden 96, feed-forward 160, 2 layers of 4 heads, 256 tokens in the vocabulary
CONFIG = parsed(SMALL | {"num_hidden_layers": 2})


def test_a_rank_of_fsdp_stores_a_padded_shard_and_moments_of_its_own_rows() -> None:
    """Over 7 ranks each stores ceil(d / 7) rows of a weight [d, n], and the last has fewer of its own."""
    case = RankCase(CONFIG, SETUP, Layout(dp_shard=7), rank=6)
    (seen,) = in_own_process(observe, [case])
    assert seen.stored["model.embed_tokens.weight"] == 37 * 96 * 4  # 256 rows over 7 ranks
    assert seen.moments["model.embed_tokens.weight"] == 2 * (256 - 6 * 37) * 96 * 4
    assert seen.stored["model.layers.1.mlp.down_proj.weight"] == 14 * 160 * 4  # 96 rows over 7 ranks
    assert seen.moments["model.layers.1.mlp.down_proj.weight"] == 2 * (96 - 6 * 14) * 160 * 4
    gathers = {c.module: (c.count, c.size_bytes) for c in seen.collectives if c.kind == "all_gather"}
    assert gathers["model.embed_tokens"] == (2, 2 * 7 * 37 * 96 * 2)  # in bf16, forward and backward
    assert {c.axis for c in seen.collectives} == {"dp_shard"}


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        (Layout(pp=2), "pp = 2: expected 1"),
        (Layout(tp=2), "mixed_precision with one data-parallel rank"),
    ],
)
def test_a_layout_that_transformers_does_not_train_is_refused(layout: Layout, expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        RankCase(CONFIG, SETUP, layout)
