"""Closed forms of a rank compared with ranks of simulated worlds: no figure may differ.

Stored bytes, moments, gradients, FLOPs and every collective, on random models, layouts and ranks: uneven and empty
shards, tied embeddings, one type and mixed precision, with and without checkpointing. Some thirty ranks by default,
over three hundred with `-m thorough`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from analytic.errors import UsageError
from analytic.huggingface.config import load
from analytic.huggingface.shipped import find_model
from analytic.model.training import TrainingSetup
from analytic.parallelism import expert_parallel, fsdp, rank_flops, sharding, tensor_parallel
from analytic.parallelism.layout import Layout
from analytic.parallelism.parameters import DistributedModel, Family
from analytic.parallelism.transformers_fsdp2 import check
from empirical.models.distributed import RankCase
from empirical.proof.rank import rank_differences
from empirical.witnesses.own_process import in_own_process
from empirical.witnesses.rank import RankObservation, observe
from tests.analytic.parallelism.models import small_keys
from tests.configurations import parsed
from tests.rank_cases import data_ranks, expert_ranks, tensor_ranks

pytestmark = pytest.mark.filterwarnings("ignore:FSDP2-wrapped module:UserWarning")
SETUP = TrainingSetup(seq_len=64, optimizer="adamw_foreach")


def observed(case: RankCase) -> RankObservation:
    check(DistributedModel(case.config.spec, case.config.read_as), case.setup, case.layout)
    (seen,) = in_own_process(observe, [case])
    return seen


def drawn(ranks: int) -> settings:
    """So many ranks. A failure is not made smaller: each attempt is a world of its own."""
    return settings(
        max_examples=ranks, phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck)
    )


def small_case(family: Family, layout: Layout, rank: int = 0, **changed: Any) -> RankCase:
    return RankCase(parsed(small_keys(family, **changed)), SETUP, layout, rank)


@given(case=data_ranks())
@drawn(12)
def test_ranks_of_the_data_axes(case: RankCase) -> None:
    assert rank_differences(case, observed(case)) == {}


@given(case=tensor_ranks())
@drawn(10)
def test_ranks_of_tensor_parallelism(case: RankCase) -> None:
    assert rank_differences(case, observed(case)) == {}


@given(case=expert_ranks())
@drawn(10)
def test_ranks_of_expert_parallelism(case: RankCase) -> None:
    assert rank_differences(case, observed(case)) == {}


@pytest.mark.thorough
@given(case=data_ranks())
@drawn(210)
def test_many_ranks_of_the_data_axes(case: RankCase) -> None:
    assert rank_differences(case, observed(case)) == {}


@pytest.mark.thorough
@given(case=tensor_ranks())
@drawn(70)
def test_many_ranks_of_tensor_parallelism(case: RankCase) -> None:
    assert rank_differences(case, observed(case)) == {}


@pytest.mark.thorough
@given(case=expert_ranks())
@drawn(70)
def test_many_ranks_of_expert_parallelism(case: RankCase) -> None:
    assert rank_differences(case, observed(case)) == {}


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("name", "layout", "rank"),
    [
        ("llama-3-8b", Layout(dp_shard=512), 511),
        ("llama-3.2-1b", Layout(dp_shard=7), 6),  # tied
        ("llama-2-70b", Layout(dp_replicate=4, dp_shard=64, tp=8), 2047),
        ("qwen2.5-7b", Layout(dp_shard=4, tp=4), 3),
        ("qwen3-30b-a3b", Layout(dp_shard=16, ep=8), 9),
        ("mixtral-8x7b", Layout(dp_shard=8, tp=8, ep=8), 5),
        ("deepseek-v2-lite", Layout(dp_shard=8, tp=2), 1),
        ("deepseek-v3", Layout(dp_shard=512, ep=64), 300),
    ],
)
def test_ranks_of_published_models(name: str, layout: Layout, rank: int) -> None:
    setup = TrainingSetup(seq_len=4096, optimizer="adamw_foreach", checkpointing="full", attention_kernel="efficient")
    case = RankCase(load(find_model(name)), setup, layout, rank)
    assert rank_differences(case, observed(case)) == {}


EVERYTHING = small_case("deepseek_v2", Layout(dp_replicate=2, dp_shard=5, tp=2, ep=2), rank=9, q_lora_rank=56)


@pytest.fixture(scope="module")
def seen() -> RankObservation:
    return observed(EVERYTHING)


@pytest.mark.parametrize(
    ("module", "name", "wrong", "found"),
    [
        (
            sharding,
            "padded_shard",
            lambda plain: lambda rows, ranks: rows // ranks,
            "parameters of layers.0.self_attn.o_proj",
        ),
        (
            sharding,
            "own_shard",
            lambda plain: lambda rows, ranks, _: plain(rows, ranks, 0),
            "moments of layers.0.self_attn.o_proj",
        ),
        (
            fsdp,
            "gathers_in_a_pass",
            lambda plain: lambda group, layout: 2,
            "count of all_gather over dp_shard 5, norm+lm_head",
        ),
        (
            fsdp,
            "stored_itemsize",
            lambda plain: lambda setup, layout: 2,
            "bytes of reduce_scatter over dp_shard 5, layers.0",
        ),
        (
            tensor_parallel,
            "_dense",
            lambda plain: lambda *given: list(plain(*given))[:-1],
            "count of all_reduce over tp 2, layers.0.mlp.down_proj",
        ),
        (
            expert_parallel,
            "recomputes_layers",
            lambda plain: lambda checkpointing: True,
            "count of all_to_all over ep 2, layers.1-2.mlp.experts",
        ),
        (
            rank_flops,
            "_split_modules",
            lambda plain: lambda *given: plain(*given) - {"mlp.experts"},
            "FLOPs of forward",
        ),
        (rank_flops, "_query_width", lambda plain: lambda attention: 1, "FLOPs"),
    ],
)
def test_a_wrong_formula_is_found_by_name(
    seen: RankObservation,
    monkeypatch: pytest.MonkeyPatch,
    module: Any,
    name: str,
    wrong: Callable[[Any], Any],
    found: str,
) -> None:
    assert rank_differences(EVERYTHING, seen) == {}
    monkeypatch.setattr(module, name, wrong(getattr(module, name)))
    assert found in rank_differences(EVERYTHING, seen)


@pytest.mark.parametrize(
    ("case", "raised"),
    [
        (small_case("llama", Layout(dp_shard=8, ep=4)), "has no `ep_plan`"),
        (small_case("qwen3_moe", Layout(dp_shard=4, tp=4, ep=2)), "`ep_size` must be a multiple of `tp_size`"),
        (small_case("mixtral", Layout(dp_shard=6, ep=6)), "Cannot evenly shard 8 experts across 6"),
        (small_case("llama", Layout(dp_shard=2, tp=8)), "is invalid for input of size"),
        (small_case("llama", Layout(dp_shard=2, tp=3)), "is invalid for input of size"),
        (small_case("deepseek_v2", Layout(dp_shard=2, tp=16)), "is invalid for input of size"),
        (small_case("mixtral", Layout(dp_shard=2, tp=2), intermediate_size=168), "to be multiple of 16 bytes"),
    ],
)
def test_what_is_refused_fails_in_transformers_too(case: RankCase, raised: str) -> None:
    with pytest.raises(UsageError):
        check(DistributedModel(case.config.spec, case.config.read_as), case.setup, case.layout)
    with pytest.raises((ValueError, RuntimeError), match=raised):
        in_own_process(observe, [case])
