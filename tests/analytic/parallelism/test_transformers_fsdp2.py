"""What transformers-fsdp2 refuses, by the name of the dimension, and what it takes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from analytic.errors import UsageError
from analytic.model.training import Precision, TrainingSetup
from analytic.parallelism.layout import Layout
from analytic.parallelism.parameters import Family
from analytic.parallelism.transformers_fsdp2 import check
from tests.analytic.parallelism.models import FAMILIES, published, small

SETUP = TrainingSetup(seq_len=64)

# family, changed keys of its small configuration, layout, and the message
REFUSED: list[tuple[Family, dict[str, Any], dict[str, Any], str]] = [
    ("llama", {}, {"pp": 2}, "pp = 2: transformers 5.23 refuses FSDP with pipelines"),
    ("mixtral", {}, {"pp": 4, "dp_shard": 8, "ep": 8}, "pp = 4: transformers 5.23 refuses FSDP with pipelines"),
    ("llama", {}, {"cp": 2, "dp_shard": 2}, "cp = 2: context parallelism is not wired"),
    ("deepseek_v3", {}, {"cp": 4, "dp_shard": 2}, "cp = 4: context parallelism is not wired"),
    ("mixtral", {}, {"dp_shard": 8, "ep": 4, "etp": 2}, "etp = 2: with expert parallelism"),
    ("llama", {}, {"dp_shard": 8, "virtual_stages": 2}, "virtual_stages = 2: there is no pipeline"),
    ("llama", {}, {"dp_shard": 8, "ep": 4}, "ep = 4: the model has no experts; expected 1"),
    ("qwen3", {}, {"dp_shard": 2, "tp": 2, "ep": 2}, "ep = 2: the model has no experts"),
    ("qwen3_moe", {}, {"dp_shard": 4, "tp": 4, "ep": 2}, "ep = 2: expected a multiple of tp = 4"),
    ("mixtral", {}, {"dp_shard": 3, "tp": 2, "ep": 3}, "ep = 3: expected a multiple of tp = 2"),
    ("mixtral", {}, {"dp_shard": 6, "ep": 6}, "ep = 6: expected a divisor of the 8 experts"),
    ("qwen3_moe", {}, {"dp_shard": 16, "ep": 16}, "ep = 16: expected a divisor of the 8 experts"),
    ("deepseek_v2", {"n_routed_experts": 12}, {"dp_shard": 8, "ep": 8}, "ep = 8: expected a divisor of the 12 experts"),
    ("llama", {}, {"dp_shard": 2, "tp": 3}, "tp = 3: expected a divisor of num_attention_heads = 8"),
    ("llama", {}, {"dp_shard": 2, "tp": 16}, "tp = 16: expected a divisor of num_attention_heads = 8"),
    ("llama", {}, {"dp_shard": 2, "tp": 8}, "tp = 8: expected a divisor of num_key_value_heads = 4"),
    (
        "qwen2",
        {"num_key_value_heads": 1},
        {"dp_shard": 2, "tp": 2},
        "tp = 2: expected a divisor of num_key_value_heads",
    ),
    ("mistral", {"num_key_value_heads": 2}, {"dp_shard": 2, "tp": 4}, "tp = 4: expected a divisor of num_key_value"),
    ("deepseek_v2", {}, {"dp_shard": 2, "tp": 16}, "tp = 16: expected a divisor of num_attention_heads = 8"),
    ("llama", {"intermediate_size": 161}, {"dp_shard": 2, "tp": 2}, "tp = 2: expected a divisor of intermediate_size"),
    ("qwen3_moe", {"intermediate_size": 162}, {"dp_shard": 2, "tp": 4}, "tp = 4: expected a divisor of intermediate_"),
    ("deepseek_v3", {}, {"dp_shard": 2, "tp": 64}, "tp = 64: expected a divisor of intermediate_size = 160"),
    (
        "mixtral",
        {"intermediate_size": 168},
        {"dp_shard": 2, "tp": 2},
        "expected 16 to divide the experts' intermediate",
    ),
    ("qwen3_moe", {"moe_intermediate_size": 72}, {"dp_shard": 2, "tp": 2}, "tp = 2: grouped_mm takes rows of"),
    (
        "deepseek_v3",
        {"moe_intermediate_size": 65, "n_shared_experts": 1},
        {"dp_shard": 2, "tp": 2, "ep": 2},
        "tp = 2: expected a divisor of the shared experts' intermediate size = 65",
    ),
    ("deepseek_v3", {"vocab_size": 20}, {"dp_shard": 2, "tp": 32}, "tp = 32: expected at most vocab_size = 20"),
    ("llama", {}, {}, "mixed_precision with dp_shard = 1, dp_replicate = 1: only FSDP casts"),
    ("llama", {}, {"tp": 4}, "mixed_precision with dp_shard = 1, dp_replicate = 1: only FSDP casts"),
    ("mixtral", {}, {"tp": 4, "ep": 4}, "mixed_precision with dp_shard = 1"),
]


@pytest.mark.parametrize(("family", "changed", "axes", "named"), REFUSED)
def test_a_layout_is_refused_by_its_dimension(
    family: Family, changed: dict[str, Any], axes: dict[str, Any], named: str
) -> None:
    with pytest.raises(UsageError) as error:
        check(small(family, **changed), SETUP, Layout(**axes))
    assert named in str(error.value)
    assert "\n" not in str(error.value)


def test_tokens_that_the_ranks_of_tp_cannot_share_out_are_refused() -> None:
    with pytest.raises(UsageError, match="tp = 4 with ep = 4: its ranks share out 66 tokens"):
        check(small("mixtral"), TrainingSetup(seq_len=33, micro_batch=2), Layout(dp_shard=2, tp=4, ep=4))


def test_mixed_precision_is_bf16() -> None:
    setup = replace(SETUP, precision="fp16")
    with pytest.raises(UsageError, match="mixed_precision with precision fp16: transformers"):
        check(small("llama"), setup, Layout(dp_shard=8))
    check(small("llama"), setup, Layout(dp_shard=8, mixed_precision=False))


@pytest.mark.parametrize("mixed_precision", [True, False])
def test_master_weights_of_ones_own_are_refused(mixed_precision: bool) -> None:
    setup, layout = replace(SETUP, has_master_weights=True), Layout(dp_shard=8, mixed_precision=mixed_precision)
    with pytest.raises(UsageError, match="master weights: transformers-fsdp2 keeps no second copy"):
        check(small("llama"), setup, layout)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "axes",
    [
        {"dp_shard": 3},
        {"dp_shard": 512},
        {"dp_replicate": 2, "dp_shard": 7},
        {"dp_shard": 2, "tp": 4},
        {"tp": 2, "mixed_precision": False},
        {"mixed_precision": False},
    ],
)
def test_every_family_takes_these(family: Family, axes: dict[str, Any]) -> None:
    check(small(family), SETUP, Layout(**axes))


@pytest.mark.parametrize("family", ["mixtral", "qwen3_moe", "deepseek_v2", "deepseek_v3"])
@pytest.mark.parametrize(("tp", "ep"), [(1, 2), (1, 8), (2, 2), (2, 8), (4, 8)])
def test_experts_are_split_over_multiples_of_tp(family: Family, tp: int, ep: int) -> None:
    check(small(family), SETUP, Layout(dp_shard=8, tp=tp, ep=ep))


def test_attention_that_is_not_split_needs_no_divisible_heads() -> None:
    """DeepSeek-V3's plan leaves attention whole: 5 heads on 2 ranks."""
    check(small("deepseek_v3", num_attention_heads=5, num_key_value_heads=5), SETUP, Layout(dp_shard=2, tp=2))


@pytest.mark.parametrize(("precision", "refused"), [("bf16", True), ("fp32", False)])
def test_experts_are_cut_to_whole_rows_of_16_bytes(precision: Precision, refused: bool) -> None:
    """56 features over 2 ranks are 28: 56 bytes in bf16, 112 in fp32."""
    setup = TrainingSetup(seq_len=64, precision=precision, attention_kernel="eager")
    model, layout = small("qwen3_moe", moe_intermediate_size=56), Layout(tp=2, mixed_precision=False)
    if refused:
        with pytest.raises(UsageError, match="grouped_mm takes rows of a multiple of 16 bytes"):
            check(model, setup, layout)
    else:
        check(model, setup, layout)


def test_the_largest_published_layouts_are_taken() -> None:
    check(published("llama-3.1-405b", "llama"), SETUP, Layout(dp_shard=128, tp=8))
    check(published("deepseek-v3", "deepseek_v3"), SETUP, Layout(dp_shard=512, ep=64))
