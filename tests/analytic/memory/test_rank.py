"""The memory of a rank of FSDP2, without torch: published sizes, hand-made sums, and the two ways of finding a peak."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate

import pytest

from analytic.errors import UsageError
from analytic.memory.implementation import NotPredicted
from analytic.memory.rank import RankMemory, RankSchedule, rank_memory, rank_schedule
from analytic.memory.schedule import MemorySchedule
from analytic.memory.tensors import Category
from analytic.model.optimizer import Optimizer
from analytic.model.training import TrainingSetup
from analytic.parallelism.layout import Layout
from tests.configurations import parsed, shipped
from tests.memory_cases import SMALL, SMALL_DEEPSEEK_V3, SMALL_MIXTRAL, scheduled

SETUP = TrainingSetup(seq_len=24, optimizer="adamw_foreach", checkpointing="full")
LONG = replace(SETUP, seq_len=4096)
UNEVEN = SMALL | {"vocab_size": 257}


def schedule_of(
    schedule: MemorySchedule, layout: Layout, rank: int = 0, *, is_first_step: bool = False
) -> RankSchedule:
    found = rank_schedule(
        schedule.spec, schedule.implementation, schedule.setup, layout, rank, is_first_step=is_first_step
    )
    assert isinstance(found, RankSchedule)
    return found


def memory_of(schedule: MemorySchedule, layout: Layout, rank: int | None = None) -> RankMemory:
    found = rank_memory(schedule.spec, schedule.implementation, schedule.setup, layout, rank)
    assert isinstance(found, RankMemory)
    return found


# Tracked on ranks of simulated worlds, second step, fp32 shards and bf16 computation.
@pytest.mark.parametrize(
    ("model", "ranks", "stored", "moments", "peak"),
    [
        ("llama-3-8b", 8, 4_015_130_624, 8_030_261_248, 20_610_325_008),
        ("llama-3-8b", 512, 62_752_800, 125_505_600, 8_757_385_840),
        ("llama-2-70b", 512, None, None, 16_476_732_320),
        ("llama-2-70b", 2048, None, None, 15_399_788_672),
        ("llama-3.1-405b", 2048, None, None, 53_083_103_560),
    ],
)
def test_models_of_public_sizes(model: str, ranks: int, stored: int | None, moments: int | None, peak: int) -> None:
    memory = memory_of(scheduled(shipped(model), LONG), Layout(dp_shard=ranks), 0)
    assert memory.peak.peak_bytes == peak
    if stored is not None:
        assert memory.peak.parameters_bytes == stored
        assert memory.peak.optimizer_bytes == moments


def test_what_a_rank_stores_by_hand() -> None:
    """Over 7 ranks each has ceil(d / 7) rows of a weight [d, n] with padding, and moments of its own rows."""
    config = parsed(UNEVEN | {"num_hidden_layers": 1})
    schedule = scheduled(config, SETUP)
    square, up, down = 14 * 96, 23 * 96, 14 * 160  # of 96, 160 and 96 rows
    layer = 4 * square + 2 * up + down + 2 * 14
    elements = 2 * 37 * 96 + layer + 14  # 257 rows of two tables; the final norm
    frequencies = 2 * 24 // 2 * 4
    base = schedule_of(schedule, Layout(dp_shard=7), 6).base
    assert base[Category.PARAMETERS] == 4 * elements
    # rank 6 has 257 - 6 * 37, 96 - 6 * 14, 160 - 6 * 23 rows
    own = 2 * 35 * 96 + 4 * 12 * 96 + 2 * 22 * 96 + 12 * 160 + 3 * 12
    assert base[Category.OPTIMIZER] == 2 * 4 * own
    assert schedule_of(schedule, Layout(dp_shard=7), 6, is_first_step=True).base[Category.OPTIMIZER] == 0
    in_bf16 = schedule_of(schedule, Layout(dp_shard=7, mixed_precision=False), 6).base
    assert in_bf16[Category.PARAMETERS] == 2 * elements
    assert base[Category.INPUTS] == 2 * 24 * 8 + frequencies  # token ids, labels, buffers


def test_a_tied_table_is_stored_twice_where_its_shard_is_short() -> None:
    """So that the last rank, with 257 - 3 * 65 rows, may be the worst; with 256 rows all have 64."""
    for vocab_size, extra in ((257, 65 * 96 * 4), (256, 0)):
        config = parsed(SMALL | {"vocab_size": vocab_size, "tie_word_embeddings": True})
        schedule = scheduled(config, SETUP)
        first, last = (schedule_of(schedule, Layout(dp_shard=4), rank).base for rank in (0, 3))
        assert last[Category.PARAMETERS] - first[Category.PARAMETERS] == extra


@pytest.mark.parametrize(
    ("tied", "optimizer", "layout", "worst_rank"),
    [
        (False, "adamw_foreach", Layout(dp_shard=7), 0),
        (True, "adamw_foreach", Layout(dp_shard=300), 0),
        (False, "none", Layout(dp_shard=5, dp_replicate=2), 0),
        (True, "none", Layout(dp_shard=5, dp_replicate=2), 4),  # 257 - 4 * 52 rows, padded twice
        (True, "none", Layout(dp_shard=100), 85),  # 257 - 85 * 3 rows
    ],
)
def test_no_rank_is_above_the_worst(tied: bool, optimizer: Optimizer, layout: Layout, worst_rank: int) -> None:
    config = parsed(UNEVEN | {"tie_word_embeddings": tied})
    schedule = scheduled(config, replace(SETUP, optimizer=optimizer))
    worst = memory_of(schedule, layout).peak
    peaks = [memory_of(schedule, layout, rank).peak.peak_bytes for rank in range(layout.num_gpus)]
    assert max(peaks) == worst.peak_bytes == peaks[worst.rank]
    assert worst.rank == worst_rank


@pytest.mark.parametrize("config", [UNEVEN, UNEVEN | {"tie_word_embeddings": True}, SMALL_DEEPSEEK_V3])
@pytest.mark.parametrize("checkpointing", ["none", "full"])
@pytest.mark.parametrize(
    "layout", [Layout(dp_shard=3, micro_batches=3), Layout(dp_shard=4, reshard_after_forward=False)]
)
def test_the_peak_by_segments_is_that_of_all_events(
    config: dict[str, object], checkpointing: str, layout: Layout
) -> None:
    """Categories add up to it, phases have it as their highest, and what is left at the end is what a step leaves."""
    schedule = scheduled(
        parsed(config), TrainingSetup(seq_len=24, checkpointing="none" if checkpointing == "none" else "full")
    )
    written_out = schedule_of(schedule, layout)
    base = sum(written_out.base.values())
    totals = list(accumulate((size for _, size in written_out.events()), initial=base))
    memory = memory_of(schedule, layout, 0)
    assert memory.peak.peak_bytes == max(totals) == max(memory.phases.values())
    live = dict.fromkeys(Category, 0)
    for (label, size), _ in zip(written_out.events(), range(totals.index(max(totals))), strict=False):
        live[label.category] += size
    assert memory.peak.gradients_bytes == live[Category.GRADIENTS]
    assert memory.peak.temporaries_bytes == live[Category.TEMPORARIES]
    assert totals[-1] - base == sum(
        size for label, size in written_out.events() if label.category is Category.GRADIENTS
    )


def test_later_micro_batches_add_to_the_gradients_of_the_first() -> None:
    schedule = scheduled(parsed(SMALL), SETUP)
    one, three = (memory_of(schedule, Layout(dp_shard=4, micro_batches=n), 0) for n in (1, 3))
    gradients = one.base[Category.PARAMETERS]  # as many bytes
    assert three.phases["forward"] - one.phases["forward"] == gradients


@pytest.mark.parametrize(
    ("layout", "reason"), [(Layout(dp_shard=2, ep=2), "ep = 2"), (Layout(dp_replicate=2), "dp_shard = 1")]
)
def test_what_is_not_predicted_says_so(layout: Layout, reason: str) -> None:
    schedule = scheduled(parsed(SMALL_MIXTRAL), SETUP)
    for answer in (
        rank_memory(schedule.spec, schedule.implementation, schedule.setup, layout),
        rank_schedule(schedule.spec, schedule.implementation, schedule.setup, layout, 0),
    ):
        assert isinstance(answer, NotPredicted)
        assert reason in answer.reason


@pytest.mark.parametrize(
    ("setup", "layout", "expected"),
    [
        (replace(SETUP, is_accumulating=True), Layout(dp_shard=2), "expected micro_batches"),
        (replace(SETUP, has_master_weights=True), Layout(dp_shard=2), "expected mixed precision"),
        (replace(SETUP, precision="fp16"), Layout(dp_shard=2), "expected bf16"),
        (SETUP, Layout(dp_shard=2, pp=2), "pp = 2"),
    ],
)
def test_what_the_implementation_does_not_have_is_refused(setup: TrainingSetup, layout: Layout, expected: str) -> None:
    schedule = scheduled(parsed(SMALL), setup)
    with pytest.raises(UsageError, match=expected):
        memory_of(schedule, layout)


def test_a_rank_outside_the_world_is_refused() -> None:
    with pytest.raises(UsageError, match="rank = 8: expected an integer from 0 to 7"):
        memory_of(scheduled(parsed(SMALL), SETUP), Layout(dp_shard=8), 8)
