"""FLOPs of a rank: exact shares of what is split, the excess of what is not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from analytic.model.flops import forward_flops, training_flops
from analytic.model.training import TrainingSetup
from analytic.parallelism.layout import Layout
from analytic.parallelism.parameters import Family
from analytic.parallelism.rank_flops import excess_flops, rank_flops
from tests.analytic.parallelism.models import FAMILIES, published, small

EAGER = TrainingSetup(seq_len=64, attention_kernel="eager", checkpointing="full")
ONE_TYPE = Layout(mixed_precision=False)


@pytest.mark.parametrize("family", FAMILIES)
def test_one_rank_of_the_data_axes_computes_what_one_gpu_does(family: Family) -> None:
    """Without a fused kernel that is exactly `training_flops`; on every rank and for each micro-batch."""
    model, layout = small(family), Layout(dp_shard=3, dp_replicate=2, micro_batches=2)
    alone = training_flops(model.spec, seq_len=64, checkpointing="full")
    for rank in (0, 5):
        flops = rank_flops(model, replace(EAGER, micro_batch=3), layout, rank)
        assert flops.forward.total == 2 * 3 * alone.forward
        assert flops.backward.total == 2 * 3 * alone.backward
        assert flops.recompute.total == 2 * 3 * alone.recompute_executed


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
def test_a_dense_model_is_divided_exactly(family: Family) -> None:
    """All projections, scores and, with 252 words, the head."""
    model = small(family, vocab_size=252)
    whole = forward_flops(model.spec, 64)
    part = rank_flops(model, EAGER, replace(ONE_TYPE, tp=4), 1).forward
    assert {name: 4 * flops for name, flops in part.items()} == dict(whole)
    assert excess_flops(model, EAGER, replace(ONE_TYPE, tp=4)).total == 0


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("ep", [1, 4])
def test_the_ranks_of_tp_add_up_to_one_gpu_and_the_excess(family: Family, ep: int) -> None:
    model = small(family)  # 250 words: the last of four ranks has fewer
    layout = replace(ONE_TYPE, tp=4, ep=ep if model.spec.has_experts else 1)
    parts = sum(rank_flops(model, EAGER, layout, rank).forward.total for rank in range(4))
    assert parts == forward_flops(model.spec, 64).total + excess_flops(model, EAGER, layout).total


def test_the_excess_names_what_each_rank_repeats() -> None:
    """Of DeepSeek-V2 the router and the latent down-projection; of V3 all attention besides."""
    layout = replace(ONE_TYPE, tp=2)
    v2 = excess_flops(small("deepseek_v2", q_lora_rank=56), EAGER, layout)
    assert v2["layers.1-2.mlp.gate"] == 2 * (2 * 64 * 96 * 8)
    assert v2["layers.0.self_attn.kv_a_proj_with_mqa"] == 2 * 64 * 96 * 48
    assert {name.rpartition(".")[2] for name in v2} == {"gate", "kv_a_proj_with_mqa", "q_a_proj"}
    v3 = excess_flops(small("deepseek_v3"), EAGER, layout)
    assert v3["layers.0.self_attn"] == 2 * 64 * 64 * 8 * (32 + 16)
    assert "layers.1-2.self_attn.o_proj" in v3


def test_a_fused_kernel_forms_the_scores_again_in_backward() -> None:
    """Five products for the forward's two: 8 heads of 12 features, 2 x 64 x 64 FLOPs a feature and product."""
    fused = TrainingSetup(seq_len=64, attention_kernel="flash")
    flops = rank_flops(small("llama"), fused, ONE_TYPE, 0)
    product = 2 * 64 * 64 * 8 * 12
    assert flops.forward["layers.0-2.self_attn"] == 3 * 2 * product
    assert flops.backward["layers.0-2.self_attn"] == 3 * 5 * product
    half = rank_flops(small("llama"), fused, replace(ONE_TYPE, tp=2), 0)
    assert half.backward["layers.0-2.self_attn"] == 3 * 5 * product // 2
    latent = rank_flops(small("deepseek_v3"), fused, replace(ONE_TYPE, tp=2), 0)  # its attention is whole
    assert latent.backward["layers.0.self_attn"] == 2 * 64 * 64 * 8 * (3 * 32 + 2 * 16)


def test_an_eighth_of_two_layers_of_llama_3_8b() -> None:
    """250,450,280,448 is what torch's operators below DTensor counted for two layers and the head, 1,024 tokens."""
    model = published("llama-3-8b", "llama")
    flops = rank_flops(model, replace(EAGER, seq_len=1024), replace(ONE_TYPE, tp=8), 0).forward
    layers = flops.total - flops["lm_head"]
    assert layers * 2 // 32 + flops["lm_head"] == 250_450_280_448
