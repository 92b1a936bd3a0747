"""Pipelines: orders, micro-batches in flight, idle units, and what is refused. torch's own tables are the witness."""

from __future__ import annotations

from collections import Counter
from typing import get_args

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from analytic.errors import UsageError
from analytic.parallelism.layout import Layout, PipelineSchedule
from analytic.parallelism.pipeline import Pipeline
from analytic.parallelism.pipeline_order import Action, most_in_flight, order

SCHEDULES = get_args(PipelineSchedule)


@st.composite
def pipelines(draw: st.DrawFn) -> Pipeline:
    """Any pipeline that its schedule takes, of up to 8 ranks."""
    schedule: PipelineSchedule = draw(st.sampled_from(SCHEDULES))
    v = {"gpipe": 1, "1f1b": 1, "zbv": 2, "dualpipev": 2}.get(schedule) or draw(st.integers(1, 4))
    ranks, micro_batches = draw(st.integers(1, 8)), draw(st.integers(1, 24))
    try:
        return Pipeline(schedule=schedule, ranks=ranks, micro_batches=micro_batches, virtual_stages=v)
    except UsageError:
        reject()


@given(pipelines())
def test_every_stage_computes_every_micro_batch_once_and_forward_first(pipeline: Pipeline) -> None:
    m = pipeline.micro_batches
    for rank in range(pipeline.ranks):
        actions = order(pipeline, rank)
        seen = Counter(actions)
        assert max(seen.values()) == 1
        for stage in pipeline.stages_of(rank):
            assert pipeline.rank_of(stage) == rank
            for i in range(m):
                split = [Action(stage, "F", i), Action(stage, "I", i), Action(stage, "W", i)]
                chain = split if Action(stage, "I", i) in seen else [Action(stage, "F", i), Action(stage, "B", i)]
                positions = [actions.index(action) for action in chain]
                assert positions == sorted(positions)
        # F 1 and B 2, or I 1 and W 1, of each of m v pairs
        assert sum({"F": 1, "B": 2, "I": 1, "W": 1}[a.computation] for a in actions) == 3 * m * pipeline.virtual_stages


@given(pipelines())
def test_the_closed_form_of_micro_batches_in_flight_is_what_the_order_keeps(pipeline: Pipeline) -> None:
    counted = [most_in_flight(order(pipeline, rank)) for rank in range(pipeline.ranks)]
    assert counted == [pipeline.in_flight(rank) for rank in range(pipeline.ranks)]


def test_the_first_rank_of_megatron_s_interleaved_schedule() -> None:
    """p = 4, v = 2, m = 8: (v - 1) p + 2 (p - 1) = 10 forward passes of warm-up, and one more before any backward."""
    pipeline = Pipeline(schedule="interleaved-1f1b", ranks=4, micro_batches=8, virtual_stages=2)
    actions = order(pipeline, 0)
    assert [action.computation for action in actions[:13]] == [*"FFFFFFFFFF", *"FBF"]
    # four micro-batches through stage 0, the same four through stage 4, then the next four
    expected = [(0, i) for i in range(4)] + [(4, i) for i in range(4)] + [(0, i) for i in range(4, 6)]
    assert [(action.stage, action.micro_batch) for action in actions[:10]] == expected
    assert actions[11] == Action(4, "B", 0)
    assert pipeline.in_flight(0) == 11


def test_micro_batches_that_pp_does_not_divide_make_larger_rounds() -> None:
    """p = 4, m = 10: 2 rounds of 5. The last rank warms up with (v - 1) 5, the first with 2 (p - 1) more."""
    pipeline = Pipeline(schedule="interleaved-1f1b", ranks=4, micro_batches=10, virtual_stages=2)
    assert [pipeline.in_flight(rank) for rank in range(4)] == [5 + 6 + 1, 5 + 4 + 1, 5 + 2 + 1, 5 + 1]


def test_idle_units() -> None:
    """F = 1, B = 2. The last rank of 1F1B starts 3 forward passes late; its last backward takes 3 x 2 to come back."""
    assert Pipeline(schedule="1f1b", ranks=4, micro_batches=64).idle_units == 3 * 1 + 3 * 2
    assert Pipeline(schedule="zbv", ranks=4, micro_batches=8, virtual_stages=2).idle_units == 3
    # two micro-batches, 2 ranks x 1 stage: 0F0 0F1 and 1F0 1F1 overlap by one; so do the backward passes
    assert Pipeline(schedule="gpipe", ranks=2, micro_batches=2).idle_units == 3
    # one micro-batch through 4 stages of 2 ranks: 12 units in a row, of which a rank computes 6
    assert Pipeline(schedule="looped-bfs", ranks=2, micro_batches=1, virtual_stages=2).idle_units == 12 - 6


def test_a_pipeline_of_one_rank_accumulates_gradients() -> None:
    pipeline = Pipeline.of(Layout(micro_batches=3))
    assert " ".join(map(str, order(pipeline, 0))) == "0F0 0B0 0F1 0B1 0F2 0B2"
    assert (pipeline.in_flight(0), pipeline.idle_units) == (1, 0)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"schedule": "gpipe", "virtual_stages": 2}, "virtual_stages = 2: expected 1 with pipeline_schedule = gpipe"),
        ({"schedule": "1f1b", "virtual_stages": 4}, "virtual_stages = 4: expected 1 with pipeline_schedule = 1f1b"),
        ({"schedule": "zbv"}, "virtual_stages = 1: expected 2 with pipeline_schedule = zbv"),
        ({"schedule": "zbv", "virtual_stages": 3}, "virtual_stages = 3: expected 2 with pipeline_schedule = zbv"),
        ({"schedule": "dualpipev"}, "virtual_stages = 1: expected 2 with pipeline_schedule = dualpipev"),
        ({"schedule": "1f1b", "micro_batches": 3}, "micro_batches = 3: expected at least pp = 4"),
        (
            {"schedule": "dualpipev", "virtual_stages": 2, "micro_batches": 7},
            "micro_batches = 7: expected at least 2 x pp = 8",
        ),
        ({"schedule": "interleaved-1f1b", "micro_batches": 9}, "micro_batches = 9: expected a multiple of 2"),
        (
            {"schedule": "interleaved-zb", "virtual_stages": 2, "micro_batches": 14},
            "micro_batches = 14: expected a multiple of 3",
        ),
    ],
)
def test_what_a_schedule_does_not_take_is_refused_by_name(fields: dict[str, object], named: str) -> None:
    with pytest.raises(UsageError) as error:
        Pipeline(**({"ranks": 4, "micro_batches": 8} | fields))  # type: ignore[arg-type]  # wrong on purpose
    assert named in str(error.value)


@pytest.mark.parametrize("rank", [-1, 4, True])
def test_a_rank_outside_the_pipeline_is_refused(rank: int) -> None:
    with pytest.raises(UsageError, match="expected an integer from 0 to 3"):
        order(Pipeline(schedule="gpipe", ranks=4, micro_batches=8), rank)
