"""Which ranks a model is proven on, and what of them is refused."""

from __future__ import annotations

import pytest

from analytic.errors import UsageError
from analytic.parallelism.layout import Layout
from empirical.proof.layouts import (
    jobs_of,
    jobs_of_layout,
    one_of_each_family,
    parse_layout,
    with_few_layers,
)
from tests.configurations import parsed, shipped
from tests.memory_cases import SMALL, SMALL_MIXTRAL


def described(name: str, seq_len: int = 4096) -> list[tuple[str, int]]:
    return [(job.layout.describe(), job.rank) for job in jobs_of(shipped(name), seq_len, "default")]


def test_the_default_layouts_are_those_that_the_model_takes() -> None:
    fsdp, torch_own = [("dp_shard 8", 0), ("dp_shard 512", 511)], [("pp 2", 1), ("cp 8", 7)]
    assert described("llama-3-8b") == [*fsdp, ("dp_shard 2 x tp 8", 15), *torch_own]
    assert described("qwen2.5-7b") == [*fsdp, ("dp_shard 2 x tp 4", 7), *torch_own]  # 28 heads, 4 of keys and values
    assert described("mixtral-8x7b") == [*fsdp, ("dp_shard 2 x tp 8", 15), ("dp_shard 8 x ep 8", 7), *torch_own]
    # tokens that eight ranks do not share evenly
    few = [("dp_shard 2 x tp 2", 3), ("dp_shard 8 x ep 2", 7)]
    assert described("mixtral-8x7b", 4094) == [*fsdp, *few, torch_own[0]]


def test_the_full_grid_has_every_rank_and_precision() -> None:
    jobs = list(jobs_of(shipped("llama-3-8b"), 64, "all"))
    # 5 sizes, with and without replicas, 2 precisions, 2 policies, 3 ranks; of 2 ranks there is no middle one
    assert len(jobs) == (5 * 2 * 3 - 1) * 2 * 2 + 5
    assert len({(job.layout, job.setup, job.rank) for job in jobs}) == len(jobs) - 2  # the default ones are in it


def test_a_world_has_one_layer_of_each_kind_and_at_least_two() -> None:
    assert len(with_few_layers(shipped("llama-3-8b")).spec.layers) == 2
    few = with_few_layers(shipped("deepseek_v3"))  # the first three are dense
    assert [layer.has_experts for layer in few.spec.layers] == [False] * 3 + [True]
    assert few.name == "deepseek_v3"
    one = parsed(SMALL | {"num_hidden_layers": 1})
    assert with_few_layers(one) is one


def test_without_names_one_model_of_each_family_is_proven() -> None:
    first, second, other = parsed(SMALL), parsed(SMALL), parsed(SMALL_MIXTRAL)
    assert one_of_each_family([shipped("gpt2"), first, second, other]) == [first, other]


def test_a_layout_is_proven_on_its_first_and_its_last_rank() -> None:
    layout = Layout(dp_shard=3)
    assert [job.rank for job in jobs_of_layout(shipped("llama-3-8b"), 64, layout)] == [0, 2]


def test_a_layout_is_read_from_keys_and_values() -> None:
    text = "dp_shard=8,tp=2,mixed_precision=false,reshard_after_forward=true"
    assert parse_layout(text) == Layout(dp_shard=8, tp=2, mixed_precision=False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'': expected KEY=VALUE with a key of dp_replicate"),
        ("dp_shard", "'dp_shard': expected KEY=VALUE"),
        ("fsdp=8", "'fsdp=8': expected KEY=VALUE"),
        ("tp=2,tp=4", "tp: given twice"),
        ("tp=two", "tp=two: expected an integer"),
        ("tp=-2", "tp=-2: expected an integer"),
        ("tp=0", "tp = 0: expected an integer from 1"),
        ("mixed_precision=1", "mixed_precision=1: expected true or false"),
        ("pipeline_schedule=2f2b", "pipeline_schedule = '2f2b': expected one of"),
        ("dp_shard=3,ep=2", "expected a product that divides"),
    ],
)
def test_a_bad_layout_is_refused_by_its_key(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_layout(text)


@pytest.mark.parametrize(
    ("name", "layout", "message"),
    [
        ("llama-3-8b", Layout(dp_shard=2, tp=5), "tp = 5: expected a divisor"),
        ("llama-3-8b", Layout(pp=2, dp_shard=2), "pp = 2: "),
        ("gpt2", Layout(dp_shard=2), "model_type = 'gpt2': no description"),
    ],
)
def test_a_layout_that_does_not_run_is_refused_before_it_begins(name: str, layout: Layout, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        list(jobs_of_layout(shipped(name), 64, layout))
