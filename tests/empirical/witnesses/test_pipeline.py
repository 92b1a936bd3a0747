"""Pipelines against torch: the tables of its schedules, and what a rank of a simulated world runs, sends and holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytic.errors import UsageError
from analytic.memory.implementation import NotPredicted
from analytic.memory.pipeline_memory import (
    SCHEDULED,
    PipelineRank,
    pipeline_rank,
    pipeline_rank_peak,
    worst_pipeline_rank,
)
from analytic.memory.rank_peak import RankPeak
from analytic.model.training import TrainingSetup
from analytic.parallelism.communication import volume
from analytic.parallelism.layout import Layout, PipelineSchedule
from analytic.parallelism.pipeline import Pipeline
from analytic.parallelism.pipeline_messages import steps
from analytic.parallelism.pipeline_order import most_in_flight, order
from analytic.parallelism.stages import pipeline_collectives
from empirical.models.meta_world import UnsupportedVersionError
from empirical.models.pipeline import PipelineCase
from empirical.proof.memory import Divergence
from empirical.proof.pipeline import memory_divergence
from empirical.witnesses import pipeline as witness
from empirical.witnesses.own_process import in_own_process
from empirical.witnesses.pipeline import (
    PipelineObservation,
    observe_pipeline,
    replayed_idle_units,
    torch_order,
    torch_steps,
)
from tests.configurations import parsed
from tests.memory_cases import FAMILIES, SMALL, models, predicted

STAGES = {"gpipe": 1, "1f1b": 1, "zbv": 2, "dualpipev": 2}
SETUP = TrainingSetup(seq_len=48, optimizer="none", attention_kernel="cudnn")


def grid() -> Iterator[tuple[PipelineSchedule, int, int, int]]:
    for schedule in get_args(PipelineSchedule):
        for p in (1, 2, 3, 4, 8):
            for m in (1, 2, 3, 5, 8, 10, 16, 17):
                for v in (STAGES[schedule],) if schedule in STAGES else (1, 2, 3):
                    yield schedule, p, m, v


def assert_as_torch(pipeline: Pipeline) -> None:
    table = torch_order(pipeline)
    assert table == {rank: order(pipeline, rank) for rank in range(pipeline.ranks)}
    assert [most_in_flight(table[r]) for r in range(pipeline.ranks)] == [
        pipeline.in_flight(r) for r in range(pipeline.ranks)
    ]
    assert replayed_idle_units(table) == pipeline.idle_units


def test_every_table_of_a_grid_and_what_torch_refuses() -> None:
    taken = 0
    for schedule, p, m, v in grid():
        try:
            pipeline = Pipeline(schedule=schedule, ranks=p, micro_batches=m, virtual_stages=v)
        except UsageError:
            unchecked = object.__new__(Pipeline)
            for name, value in (("schedule", schedule), ("ranks", p), ("micro_batches", m), ("virtual_stages", v)):
                object.__setattr__(unchecked, name, value)
            with pytest.raises(ValueError, match="microbatches"):
                torch_order(unchecked)
            continue
        assert_as_torch(pipeline)
        taken += 1
    assert taken > 400


@st.composite
def pipelines(draw: st.DrawFn) -> Pipeline:
    """Larger than the grid, in rounds of any size."""
    schedule: PipelineSchedule = draw(st.sampled_from(get_args(PipelineSchedule)))
    p, v = draw(st.integers(1, 12)), STAGES.get(schedule) or draw(st.integers(1, 5))
    m = draw(st.integers(1, 4)) * draw(st.integers(p, 2 * p - 1)) * (2 if schedule == "dualpipev" else 1)
    while schedule.startswith("interleaved") and m % max(1, m // p):
        m -= 1
    return Pipeline(schedule=schedule, ranks=p, micro_batches=m, virtual_stages=v)


@given(pipelines())
@settings(max_examples=40)
def test_tables_of_random_pipelines(pipeline: Pipeline) -> None:
    assert_as_torch(pipeline)


@given(pipelines().filter(lambda pipeline: pipeline.schedule in ("interleaved-1f1b", "looped-bfs")))
@settings(max_examples=20)
def test_receives_are_where_torch_puts_them(pipeline: Pipeline) -> None:
    assert steps(pipeline) == torch_steps(pipeline)


def test_a_table_whose_actions_wait_for_each_other_is_refused() -> None:
    pipeline = Pipeline(schedule="1f1b", ranks=2, micro_batches=2)
    table = {rank: order(pipeline, rank)[::-1] for rank in range(2)}
    with pytest.raises(ValueError, match="wait for each other"):
        replayed_idle_units(table)


def test_a_torch_whose_stage_takes_other_arguments_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(witness._METHODS, "get_bwd_send_ops", "(self, chunk)")
    case = PipelineCase(parsed(SMALL), SETUP, Layout(pp=2, micro_batches=2))
    with pytest.raises(UnsupportedVersionError, match=r"get_bwd_send_ops: expected the signature \(self, chunk\)"):
        in_own_process(observe_pipeline, [case])


LAYOUTS = [
    Layout(pp=3, micro_batches=5, pipeline_schedule="gpipe", mixed_precision=False),
    Layout(pp=3, micro_batches=5, pipeline_schedule="1f1b", mixed_precision=False),
    Layout(pp=2, micro_batches=5, pipeline_schedule="1f1b", mixed_precision=False),
    *(
        Layout(pp=2, micro_batches=4, virtual_stages=2, pipeline_schedule=schedule, mixed_precision=False)
        for schedule in ("interleaved-1f1b", "looped-bfs", "interleaved-zb", "zbv", "dualpipev")
    ),
]


def observed(case: PipelineCase) -> PipelineObservation:
    (seen,) = in_own_process(observe_pipeline, [case])
    return seen


def divergence(rank: PipelineRank | NotPredicted, seen: PipelineObservation) -> Divergence | None:
    assert isinstance(rank, PipelineRank)
    assert sum(rank.base.values()) == seen.memory.base_bytes
    return memory_divergence(rank, seen)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: f"{layout.pipeline_schedule}-{layout.pp}")
def test_every_rank_runs_keeps_and_sends_what_the_formulas_say(layout: Layout) -> None:
    config, pipeline = parsed(SMALL | {"num_hidden_layers": 7}), Pipeline.of(layout)
    for rank in range(layout.pp):
        seen = observed(PipelineCase(config, SETUP, layout, rank))
        assert seen.actions == order(pipeline, rank)
        assert most_in_flight(seen.actions) == pipeline.in_flight(rank)
        expected = pipeline_collectives(config.spec, SETUP, layout, rank)
        assert {(one.kind, one.module): one for one in seen.transfers} == {
            (one.kind, one.module): one for one in expected
        }
        assert volume(replace(one, module="") for one in seen.transfers) == volume(seen.collectives)
        if layout.pipeline_schedule in SCHEDULED:
            schedule = pipeline_rank(config.spec, predicted(config), SETUP, layout, rank)
            assert divergence(schedule, seen) is None


@st.composite
def memory_cases(draw: st.DrawFn) -> PipelineCase:
    config = draw(st.sampled_from(FAMILIES).flatmap(models))
    raw: dict[str, Any] = {**config.raw, "num_hidden_layers": 7, "tie_word_embeddings": False}
    p, rounds = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    schedule: PipelineSchedule = draw(st.sampled_from(SCHEDULED))
    setup = TrainingSetup(
        seq_len=draw(st.integers(2, 40)),
        micro_batch=draw(st.integers(1, 3)),
        attention_kernel="cudnn",
        checkpointing=draw(st.sampled_from(["none", "full"])),
        rounding_bytes=draw(st.sampled_from([1, 512])),
        is_accumulating=draw(st.booleans()),
        optimizer=draw(st.sampled_from(["none", "adamw_foreach"])),
    )
    layout = Layout(
        pp=p,
        micro_batches=p * rounds,
        virtual_stages=STAGES.get(schedule) or draw(st.integers(1, 7 // p)),
        pipeline_schedule=schedule,
        mixed_precision=False,
    )
    return PipelineCase(parsed(raw), setup, layout, draw(st.integers(0, p - 1)))


@given(memory_cases())
@settings(max_examples=16)
def test_the_memory_of_a_rank_turns_where_torch_s_does(case: PipelineCase) -> None:
    """At every rise and fall of live bytes, the optimizer's step included."""
    rank = pipeline_rank(case.config.spec, predicted(case.config), case.setup, case.layout, case.rank)
    assert divergence(rank, observed(case)) is None


def test_the_last_rank_keeps_every_input_to_the_end_of_the_step() -> None:
    """torch keeps the losses, and with their graph the received hidden states: 5 of 48 tokens, 96 features, 2 bytes.

    Returned logits are kept as well, and joined at the end.
    """
    config, layout = parsed(SMALL), LAYOUTS[2]
    case = PipelineCase(config, SETUP, layout, 1)
    rank = pipeline_rank(config.spec, predicted(config), SETUP, layout, 1)
    assert isinstance(rank, PipelineRank)
    received = [size for label, size in rank.events if label.name == "received hidden state"]
    assert received == [48 * 96 * 2] * 5 + [-48 * 96 * 2] * 5
    assert divergence(rank, observed(case)) is None
    with_outputs = divergence(rank, observed(replace(case, returns_outputs=True)))
    assert with_outputs is not None


def test_the_worst_rank_is_the_one_with_head_and_logits_or_with_most_in_flight() -> None:
    def worst(vocab_size: int) -> RankPeak:
        config = parsed(SMALL | {"num_hidden_layers": 8, "vocab_size": vocab_size})
        peak = worst_pipeline_rank(config.spec, predicted(config), SETUP, replace(LAYOUTS[1], micro_batches=8))
        assert isinstance(peak, RankPeak)
        assert peak.origin == "proven"
        return peak

    assert worst(64).rank == 0
    assert worst(20_000).rank == 2
    assert worst(20_000).moment.endswith("backward of loss, loss: log-softmax: gradient")


@pytest.mark.parametrize(
    ("layout", "reason"),
    [
        (Layout(pp=2, dp_shard=2, micro_batches=2, mixed_precision=False), "other axes"),
        (Layout(pp=2, micro_batches=2), "mixed precision"),
        (LAYOUTS[5], "interleaved-zb, which splits backward"),
    ],
)
def test_what_has_no_memory_schedule_says_why(layout: Layout, reason: str) -> None:
    config = parsed(SMALL)
    found = pipeline_rank_peak(config.spec, predicted(config), SETUP, layout, 0)
    assert isinstance(found, NotPredicted)
    assert reason in found.reason
    assert worst_pipeline_rank(config.spec, predicted(config), SETUP, layout) == found


@pytest.mark.parametrize(
    ("keys", "options", "layout", "named"),
    [
        ({}, {}, Layout(pp=2, tp=2, micro_batches=2), "layout tp 2 x pp 2|layout pp 2 x tp 2: expected pp alone"),
        ({}, {"attention_kernel": "eager"}, Layout(pp=2, micro_batches=2), "attention kernel eager"),
        ({}, {"optimizer": "adamw_fused"}, Layout(pp=2, micro_batches=2), "optimizer adamw_fused"),
        ({"model_type": "gpt_neox"}, {}, Layout(pp=2, micro_batches=2), "GPTNeoXForCausalLM: expected the modules"),
        ({"tie_word_embeddings": True}, {}, Layout(pp=2, micro_batches=2), "tied head"),
    ],
)
def test_a_case_that_is_not_run_is_refused(
    keys: dict[str, Any], options: dict[str, Any], layout: Layout, named: str
) -> None:
    with pytest.raises(UsageError, match=named):
        PipelineCase(parsed(SMALL | keys), replace(SETUP, **options), layout)
