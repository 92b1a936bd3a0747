"""Stages of a model: their layers, parameters, what they send, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytic.errors import UsageError
from analytic.model.params import model_params
from analytic.model.training import TrainingSetup
from analytic.parallelism.communication import volume
from analytic.parallelism.layout import Layout
from analytic.parallelism.stages import pipeline_collectives, stage_params, stages_of_model
from tests.configurations import parsed, shipped
from tests.memory_cases import SMALL, SMALL_DEEPSEEK_V3

SETUP = TrainingSetup(seq_len=128, micro_batch=2)


def test_an_uneven_division_gives_the_first_stages_one_layer_more() -> None:
    """32 layers on 5 stages: 7 + 7 + 6 + 6 + 6."""
    stages = stages_of_model(shipped("llama_7b").spec, Layout(pp=5, micro_batches=5))
    assert [stage.layers for stage in stages] == [
        range(7),
        range(7, 14),
        range(14, 20),
        range(20, 26),
        range(26, 32),
    ]
    assert [(stage.is_first, stage.is_last) for stage in stages] == [
        (True, False),
        *[(False, False)] * 3,
        (False, True),
    ]


def test_layers_of_the_stages_can_be_given() -> None:
    stages = stages_of_model(shipped("llama_7b").spec, Layout(pp=2, micro_batches=2), layers=(20, 12))
    assert [len(stage.layers) for stage in stages] == [20, 12]


@given(st.integers(1, 4), st.integers(1, 3))
def test_the_stages_parameters_are_the_model_s(p: int, v: int) -> None:
    spec = parsed(SMALL_DEEPSEEK_V3 | {"num_hidden_layers": 13}).spec
    layout = Layout(pp=p, micro_batches=p, pipeline_schedule="looped-bfs", virtual_stages=v)
    held = [stage_params(spec, stage) for stage in stages_of_model(spec, layout)]
    assert sum(one.total for one in held) == model_params(spec).total
    assert all("embed_tokens" not in one for one in held[1:])
    assert all("lm_head" not in one and "norm" not in one for one in held[:-1])


def test_a_llama_7b_sends_its_hidden_state_down_and_the_gradient_back() -> None:
    """4 micro-batches of 2 x 128 tokens, 4,096 features, 2 bytes: 8,388,608 bytes over each boundary and way."""
    spec, layout = shipped("llama_7b").spec, Layout(pp=4, micro_batches=4)
    size_bytes = 4 * 2 * 128 * 4096 * 2
    assert dict(volume(pipeline_collectives(spec, SETUP, layout, 1))) == {
        "pp.recv.layers.7": size_bytes,
        "pp.send.layers.7": size_bytes,
        "pp.send.layers.15": size_bytes,
        "pp.recv.layers.15": size_bytes,
    }
    assert dict(volume(pipeline_collectives(spec, SETUP, layout, 3))) == {
        "pp.recv.layers.23": size_bytes,
        "pp.send.layers.23": size_bytes,
    }
    halved = pipeline_collectives(spec, SETUP, replace(layout, cp=2), 7)
    assert {one.size_bytes for one in halved} == {size_bytes // 2}


def test_the_point_of_a_v_sends_nothing() -> None:
    """Stages 1 and 2 of 4 are both on the last of 2 ranks: only the boundaries after layers 7 and 23 cross ranks."""
    layout = Layout(pp=2, micro_batches=4, virtual_stages=2, pipeline_schedule="zbv")
    found = pipeline_collectives(shipped("llama_7b").spec, SETUP, layout, 1)
    assert {one.module for one in found} == {"layers.7", "layers.23"}
    assert len(found) == 4


def test_a_looped_pipeline_sends_from_the_last_rank_to_the_first() -> None:
    layout = Layout(pp=2, micro_batches=4, virtual_stages=2, pipeline_schedule="looped-bfs")
    found = pipeline_collectives(shipped("llama_7b").spec, SETUP, layout, 0)
    assert {one.module for one in found} == {"layers.7", "layers.15", "layers.23"}


@pytest.mark.parametrize(
    ("axes", "layers", "named"),
    [
        ({"pp": 5}, (), "pp = 5, virtual_stages = 1: expected at most 4 stages"),
        ({"pp": 3, "virtual_stages": 2, "pipeline_schedule": "zbv"}, (), "pp = 3, virtual_stages = 2"),
        ({"pp": 2, "virtual_stages": 3, "pipeline_schedule": "interleaved-1f1b"}, (), "at most 4 stages"),
        ({"pp": 2}, (1, 2), "layers of the stages 1, 2: expected 2 positive numbers that add up to 4"),
        ({"pp": 2}, (4,), "layers of the stages 4: expected 2"),
        ({"pp": 2}, (4, 0), "layers of the stages 4, 0"),
        ({"pp": 2}, (5, -1), "layers of the stages 5, -1"),
        ({"pp": 2, "virtual_stages": 2}, (), "virtual_stages = 2: expected 1"),
        ({"pp": 4, "micro_batches": 2}, (), "micro_batches = 2: expected at least pp = 4"),
    ],
)
def test_stages_that_cannot_be_are_refused_by_name(axes: dict[str, Any], layers: tuple[int, ...], named: str) -> None:
    with pytest.raises(UsageError) as error:
        stages_of_model(parsed(SMALL).spec, Layout(**({"micro_batches": 8} | axes)), layers)
    assert named in str(error.value)


def test_a_tied_head_is_refused() -> None:
    spec = parsed(SMALL | {"tie_word_embeddings": True}).spec
    assert len(stages_of_model(spec, Layout())) == 1
    with pytest.raises(UsageError, match="pp = 2: torch pipelines do not sum the gradients of a tied head"):
        stages_of_model(spec, Layout(pp=2, micro_batches=2))


def test_a_sequence_that_does_not_divide_is_refused() -> None:
    with pytest.raises(UsageError, match="cp = 3: expected a divisor of seq_len = 128"):
        pipeline_collectives(parsed(SMALL).spec, SETUP, Layout(pp=2, cp=3, micro_batches=2), 0)
