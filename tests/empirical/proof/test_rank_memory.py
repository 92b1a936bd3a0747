"""The schedule of a rank of FSDP2 against ranks of simulated worlds, and wrong schedules, which must be caught."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations, product
from typing import Any

import pytest
import torch

from analytic.memory import rank
from analytic.memory.fsdp_overlay import Overlay
from analytic.memory.rank import RankSchedule, rank_schedule
from analytic.memory.rank_groups import GroupBytes, group_bytes
from analytic.memory.stretch import Piece, Stretch
from analytic.memory.tensors import Event
from analytic.model.optimizer import Optimizer
from analytic.model.training import TrainingSetup
from analytic.parallelism.layout import Layout
from analytic.parallelism.parameters import ParameterTensor
from empirical.models.distributed import RankCase, RankProgram
from empirical.models.meta_world import on_meta, start_world
from empirical.proof.check import Check
from empirical.proof.rank_memory import rank_memory_checks, rank_schedule_of, step_divergence
from empirical.witnesses.memory import MemoryMeasurement
from empirical.witnesses.own_process import in_own_process
from empirical.witnesses.rank import observe, observe_program
from empirical.witnesses.rank_tracker import RankTracker
from tests.configurations import parsed, shipped
from tests.memory_cases import (
    SMALL,
    SMALL_DEEPSEEK_V2,
    SMALL_DEEPSEEK_V3,
    SMALL_MIXTRAL,
    SMALL_QWEN3_MOE,
    predicted,
)

# 257 rows of the vocabulary are uneven in every world
MODELS: dict[str, dict[str, Any]] = {
    name: keys | {"vocab_size": 257}
    for name, keys in {
        "llama": SMALL | {"attention_bias": True, "mlp_bias": True},
        "mistral": SMALL | {"model_type": "mistral", "num_key_value_heads": 2},
        "qwen2": SMALL | {"model_type": "qwen2"},
        "qwen3": SMALL | {"model_type": "qwen3", "num_key_value_heads": 1},
        "mixtral": SMALL_MIXTRAL,
        "qwen3_moe": SMALL_QWEN3_MOE,
        "deepseek_v2": SMALL_DEEPSEEK_V2,
        "deepseek_v3": SMALL_DEEPSEEK_V3,
    }.items()
}
FACTORS: dict[str, tuple[Any, ...]] = {
    "family": tuple(MODELS),
    "ranks": (2, 3, 7, 8, 512),
    "rank": ("first", "middle", "last"),
    "mixed_precision": (True, False),
    "checkpointing": ("none", "full"),
    "reshard_after_forward": (True, False),
    "tied": (False, True),
    "micro_batches": (1, 2),
    "dp_replicate": (1, 2),
    "num_layers": (2, 4),
}
Row = dict[str, Any]


def covering_rows() -> Iterator[Row]:
    """Rows in which every pair of values of two factors occurs: the two longest factors crossed, the rest greedily."""
    missing = set(pairs_of_all())
    rest = list(FACTORS)[2:]
    for family, ranks in product(FACTORS["family"], FACTORS["ranks"]):
        row = {"family": family, "ranks": ranks}
        for name in rest:
            row[name] = max(FACTORS[name], key=lambda value: len(missing & pairs(row | {name: value})))
        missing -= pairs(row)
        yield row


def pairs(row: Row) -> set[tuple[tuple[str, Any], tuple[str, Any]]]:
    return set(combinations(row.items(), 2))


def pairs_of_all() -> Iterator[tuple[tuple[str, Any], tuple[str, Any]]]:
    for (a, of_a), (b, of_b) in combinations(FACTORS.items(), 2):
        yield from (((a, x), (b, y)) for x, y in product(of_a, of_b))


def case_of(row: Row) -> RankCase:
    layout = Layout(
        dp_shard=row["ranks"],
        dp_replicate=row["dp_replicate"],
        micro_batches=row["micro_batches"],
        reshard_after_forward=row["reshard_after_forward"],
        mixed_precision=row["mixed_precision"],
    )
    last = layout.num_gpus - 1
    setup = TrainingSetup(seq_len=24, optimizer="adamw_foreach", checkpointing=row["checkpointing"])
    keys = {"tie_word_embeddings": row["tied"], "num_hidden_layers": row["num_layers"]}
    config = parsed(MODELS[row["family"]] | keys)
    return RankCase(config, setup, layout, {"first": 0, "middle": last // 2, "last": last}[row["rank"]])


def failures(cases: Sequence[RankCase]) -> list[Check]:
    checks = in_own_process(rank_memory_checks, cases)
    assert [len(of_one) for of_one in checks] == [6] * len(cases)  # base, peak and profile of two steps
    return [check for of_one in checks for check in of_one if check.status == "fail"]


ROWS = tuple(covering_rows())
# one world a family, with every number of ranks and every value of the other factors among them
DEFAULT = tuple(ROWS[5 * i + i % 5] for i in range(8))


def test_rows_cover_all_pairs() -> None:
    assert len(ROWS) <= 60
    assert set(pairs_of_all()) - set().union(*map(pairs, ROWS)) == set()
    assert all({row[name] for row in DEFAULT} == set(values) for name, values in FACTORS.items())


@pytest.mark.parametrize("row", DEFAULT, ids=lambda row: f"{row['family']}-{row['ranks']}")
def test_no_rise_or_fall_differs(row: Row) -> None:
    assert failures([case_of(row)]) == []


@pytest.mark.thorough
@pytest.mark.parametrize(
    "row", [row for row in ROWS if row not in DEFAULT], ids=lambda row: "-".join(map(str, row.values()))
)
def test_no_rise_or_fall_differs_over_all_pairs(row: Row) -> None:
    assert failures([case_of(row)]) == []


@pytest.mark.parametrize(
    ("setup", "layout"),
    [
        (
            TrainingSetup(seq_len=13, precision="fp32", attention_kernel="eager"),
            Layout(dp_shard=5, mixed_precision=False),
        ),
        (TrainingSetup(seq_len=13, precision="fp16", rounding_bytes=512), Layout(dp_shard=5, mixed_precision=False)),
    ],
    ids=["fp32", "fp16 in blocks of 512 bytes"],
)
def test_other_precisions(setup: TrainingSetup, layout: Layout) -> None:
    setup = replace(setup, optimizer="adamw_foreach", micro_batch=2)
    assert failures([RankCase(parsed(MODELS["qwen2"]), setup, layout, 4)]) == []


UNEVEN_TIED = RankCase(
    parsed(SMALL | {"vocab_size": 257, "tie_word_embeddings": True}),
    TrainingSetup(seq_len=24, precision="fp32", attention_kernel="eager", optimizer="none"),
    Layout(dp_shard=4, mixed_precision=False),
    3,
)


@pytest.mark.parametrize("index", [0, 3])
def test_a_tied_table_of_a_whole_and_of_a_short_shard(index: int) -> None:
    """257 rows over 4 ranks: 65, and 62 that are padded twice."""
    assert failures([replace(UNEVEN_TIED, rank=index)]) == []


# What only the CPU runs: FSDP2's own handling of a tied parameter, which is replaced on meta, and the fused AdamW


def _steps_on_cpu(case: RankCase, *, is_fused: bool = False) -> tuple[MemoryMeasurement, ...]:
    start_world(case.layout.num_gpus, case.rank)
    with on_meta():
        program = RankProgram.build(case, "cpu")
        if is_fused:
            program.optimizer = torch.optim.AdamW(program.model.parameters(), fused=True)
        return observe_program(program, RankTracker(torch.device("cpu"))).steps


@pytest.mark.parametrize("optimizer", ["none", "adamw_fused"])
def test_a_tied_table_of_a_short_shard_and_the_fused_optimizer_on_the_cpu(optimizer: Optimizer) -> None:
    """257 rows over 4 ranks: rank 3 has 62, padded to 65, once for each of the two groups of a tied table."""
    case, is_fused = UNEVEN_TIED, optimizer == "adamw_fused"
    (steps,) = in_own_process(partial(_steps_on_cpu, is_fused=is_fused), [case])
    setup = replace(case.setup, optimizer=optimizer)
    for is_first, tracked in zip((True, False), steps, strict=True):
        schedule = rank_schedule(
            case.config.spec, predicted(case.config), setup, case.layout, case.rank, is_first_step=is_first
        )
        assert isinstance(schedule, RankSchedule)
        assert tracked.base_bytes == sum(schedule.base.values())
        assert step_divergence(schedule, tracked) is None


# Wrong schedules


def _without_padding(tensors: Sequence[ParameterTensor], ranks: int, setup: TrainingSetup, stored: int) -> GroupBytes:
    numels = [tensor.numel for tensor in tensors]
    right = group_bytes(tensors, ranks, setup, stored)
    gathered, reducing = sum(numels) * setup.itemsize, sum(numels) * stored
    return replace(right, gathered_bytes=gathered, unsharded_bytes=gathered, reducing_bytes=reducing)


def _gathered_when_needed(self: Overlay, group: GroupBytes) -> list[Event]:
    gathered = self.gather(group) if self.reshards else []
    return [*gathered, *PLAIN_UNSHARD(self, group)]


def _freed_at_once(self: Overlay, group: GroupBytes, frees_gradients: Sequence[Piece], count: int = 1) -> list[Piece]:
    *pieces, reduced, added = PLAIN_REDUCE(self, group, frees_gradients, count)
    (label,) = {piece[0] for piece in pieces if not isinstance(piece, Stretch) and piece[1] == group.reducing_bytes}
    self._reducing = 0
    return [*pieces, reduced, added, (label, -group.reducing_bytes)]


def _not_all_reduced(self: Overlay, group: GroupBytes, frees_gradients: Sequence[Piece], count: int = 1) -> list[Piece]:
    """Of the group that is reduced first: what is added to its gradients is not held for an all-reduce."""
    if self._reducing:
        return PLAIN_REDUCE(self, group, frees_gradients, count)
    self.is_replicated = False
    pieces = PLAIN_REDUCE(self, group, frees_gradients, count)
    self.is_replicated = True
    return pieces


PLAIN_UNSHARD, PLAIN_REDUCE = Overlay.unshard_again, Overlay.reduce
# whose peak is at the loss, in forward, so that the peak alone does not catch what is wrong in backward
HYBRID = RankCase(
    parsed(SMALL | {"vocab_size": 2053}),
    TrainingSetup(seq_len=96, checkpointing="full", optimizer="none"),
    Layout(dp_shard=7, dp_replicate=2, micro_batches=2),
    6,
)


@pytest.fixture(scope="module")
def hybrid_step() -> MemoryMeasurement:
    """A later step of a rank whose shards are padded, of two micro-batches, with replicas."""
    (seen,) = in_own_process(observe, [HYBRID])
    return seen.steps[1]


def hybrid_schedule() -> RankSchedule:
    schedule = rank_schedule_of(HYBRID)
    assert isinstance(schedule, RankSchedule)
    return schedule


def test_the_right_schedule_of_the_wrong_ones(hybrid_step: MemoryMeasurement) -> None:
    assert step_divergence(hybrid_schedule(), hybrid_step) is None


@pytest.mark.parametrize(
    ("target", "name", "wrong", "named", "peak_agrees"),
    [
        (rank, "group_bytes", _without_padding, "all-gather output", False),
        (Overlay, "unshard_again", _gathered_when_needed, "at lm_head.grad / ", True),
        (Overlay, "reduce", _freed_at_once, "reduce-scatter input", True),
        (Overlay, "reduce", _not_all_reduced, "sharded gradients to be added", True),
    ],
    ids=["no padding", "no prefetch", "reduce-scatter input freed early", "an all-reduce forgotten"],
)
def test_wrong_schedules_are_caught_by_the_profile(
    target: Any,
    name: str,
    wrong: Callable[..., Any],
    named: str,
    peak_agrees: bool,
    hybrid_step: MemoryMeasurement,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(target, name, wrong)
    if name == "unshard_again":
        monkeypatch.setattr(Overlay, "prefetch", lambda *_: [])
    divergence = step_divergence(hybrid_schedule(), hybrid_step)
    assert divergence is not None
    assert hybrid_step.base_bytes is not None
    assert named in str(divergence)
    assert (hybrid_schedule().top().total_bytes == hybrid_step.base_bytes + hybrid_step.peak_bytes) is peak_agrees


# At the size of what is trained


def _at_scale(case: RankCase) -> tuple[list[Check], float, int]:
    start = time.perf_counter()
    checks = rank_memory_checks(case)
    return checks, time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.thorough
def test_llama_2_70b_on_2048_ranks() -> None:
    """In under 60 s, and in less than 2 GiB."""
    setup = TrainingSetup(seq_len=4096, checkpointing="full", optimizer="adamw_foreach")
    case = RankCase(shipped("llama-2-70b"), setup, Layout(dp_shard=2048), 1024)
    ((checks, seconds, most_kib),) = in_own_process(_at_scale, [case])
    assert [check.status for check in checks] == ["pass"] * 6
    assert seconds < 60
    assert most_kib < 2 * 2**20
