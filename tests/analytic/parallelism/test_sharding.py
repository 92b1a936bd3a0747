"""What a rank stores: arithmetic by hand, and figures that torch's storages gave."""

from __future__ import annotations

from dataclasses import replace

import pytest

from analytic.model.training import TrainingSetup
from analytic.parallelism.layout import Layout
from analytic.parallelism.sharding import RankState, rank_state
from tests.analytic.parallelism.models import published, small

SETUP = TrainingSetup(seq_len=4096, optimizer="adamw_foreach")


def totals(state: RankState) -> tuple[int, int, int]:
    return state.parameters.total, state.gradients.total, state.optimizer.total


def test_a_shard_is_padded_and_its_moments_are_not() -> None:
    """250 rows over 7 ranks: 36 each, 34 on the last; 96 over 7: 14 each, 12 on the last. Stored in fp32."""
    state = rank_state(small("llama"), SETUP, Layout(dp_shard=7), 6)
    assert state.parameters["embed_tokens"] == 36 * 96 * 4
    assert state.gradients["embed_tokens"] == 36 * 96 * 4
    assert state.optimizer["embed_tokens.exp_avg"] == (250 - 6 * 36) * 96 * 4
    assert state.parameters["layers.0-2.mlp.down_proj"] == 3 * 14 * 160 * 4
    assert state.optimizer["layers.0-2.mlp.down_proj.exp_avg_sq"] == 3 * (96 - 6 * 14) * 160 * 4


def test_a_rank_with_an_empty_shard_stores_padding_and_no_moments() -> None:
    """96 rows over 100 ranks: one on each, the last four have none of their own."""
    state = rank_state(small("llama"), SETUP, Layout(dp_shard=100, mixed_precision=False), 99)
    assert state.parameters["norm"] == 1 * 2
    assert state.optimizer["norm.exp_avg"] == 0
    assert state.parameters["layers.0-2.self_attn.o_proj"] == 3 * 1 * 96 * 2
    assert state.optimizer["layers.0-2.self_attn.o_proj.exp_avg"] == 0


def test_replicas_store_the_same() -> None:
    model = small("qwen2")
    states = [rank_state(model, SETUP, Layout(dp_replicate=3, dp_shard=4), rank) for rank in range(12)]
    assert states[:4] == states[4:8] == states[8:]
    assert states[0] == rank_state(model, SETUP, Layout(dp_shard=4), 0)


def test_tensor_parallelism_cuts_before_fsdp_does() -> None:
    """k_proj has 4 x 12 rows, 24 a rank, then 5 of a shard over 5; o_proj 96 columns, 48 a rank, and 20 rows."""
    state = rank_state(small("llama", attention_bias=True), SETUP, Layout(dp_shard=5, tp=2), 0)
    assert state.parameters["layers.0-2.self_attn.k_proj"] == 3 * 5 * 96 * 4
    assert state.parameters["layers.0-2.self_attn.o_proj"] == 3 * 20 * 48 * 4
    assert state.parameters["layers.0-2.self_attn.k_proj.bias"] == 3 * 5 * 4
    assert state.parameters["layers.0-2.self_attn.o_proj.bias"] == 3 * 20 * 4  # added once, after the sum
    assert state.parameters["layers.0-2.input_layernorm"] == 3 * 20 * 4  # on every rank of tp


def test_a_vocabulary_that_tp_does_not_divide_is_cut_unevenly() -> None:
    """250 rows over 4: 63, 63, 63, 61."""
    layout = Layout(tp=4, mixed_precision=False)
    rows = [rank_state(small("llama"), SETUP, layout, rank).parameters["lm_head"] for rank in range(4)]
    assert rows == [63 * 96 * 2, 63 * 96 * 2, 63 * 96 * 2, 61 * 96 * 2]


def test_experts_are_cut_by_whole_experts_and_then_padded_to_one_each() -> None:
    """8 experts over 4 ranks of ep: 2 each; over the 8 ranks that share them one row each, 6 of 8 all padding."""
    layout = Layout(dp_shard=32, ep=4)
    first, last = (rank_state(small("mixtral"), SETUP, layout, rank) for rank in (0, 31))
    one = 2 * 160 * 96
    assert first.parameters["layers.0-2.mlp.experts.gate_up_proj"] == 3 * one * 4
    assert last.parameters["layers.0-2.mlp.experts.gate_up_proj"] == 3 * one * 4
    assert first.optimizer["layers.0-2.mlp.experts.gate_up_proj.exp_avg"] == 3 * one * 4
    assert last.optimizer["layers.0-2.mlp.experts.gate_up_proj.exp_avg"] == 0


def test_a_tied_table_is_stored_once_and_has_two_gradients() -> None:
    model = small("llama", tie_word_embeddings=True)
    state = rank_state(model, SETUP, Layout(dp_shard=4), 0)
    table = 63 * 96 * 4  # 250 rows over 4 ranks
    assert state.parameters["embed_tokens"] == table
    assert "lm_head" not in state.parameters
    assert state.gradients["embed_tokens"] == state.gradients["lm_head"] == table
    alone = rank_state(model, SETUP, Layout(tp=2, mixed_precision=False), 0)
    assert "lm_head" not in alone.gradients  # autograd adds to one tensor


def test_tensor_parallelism_alone_makes_the_whole_gradient_of_the_embedding() -> None:
    layout = Layout(tp=2, mixed_precision=False)
    gradients = rank_state(small("llama"), SETUP, layout, 1).gradients
    assert gradients["embed_tokens"] == 250 * 96 * 2
    assert gradients["lm_head"] == 125 * 96 * 2
    assert rank_state(small("llama"), SETUP, replace(layout, dp_shard=2), 1).gradients["embed_tokens"] == 63 * 96 * 2


def test_fused_adamw_has_a_counter_of_each_tensor() -> None:
    """Embedding, head, norm, and 9 tensors in each of 3 layers: 30 of 4 bytes."""
    fused, foreach = (
        rank_state(small("llama"), replace(SETUP, optimizer=name), Layout(dp_shard=4), 0).optimizer.total
        for name in ("adamw_fused", "adamw_foreach")
    )
    assert fused - foreach == 30 * 4


@pytest.mark.parametrize(
    ("name", "ranks", "parameters", "moments"),
    [
        # bytes of local storages that torch 2.15 held on rank 0, fp32 shards of the transformers class on meta
        ("llama-3-8b", 8, 4_015_130_624, 8_030_261_248),
        ("llama-3-8b", 512, 62_752_800, 125_505_600),
    ],
)
def test_published_models_store_what_torch_stores(name: str, ranks: int, parameters: int, moments: int) -> None:
    state = rank_state(published(name, "llama"), SETUP, Layout(dp_shard=ranks), 0)
    assert totals(state) == (parameters, parameters, moments)


def test_deepseek_v3_pads_half_its_experts() -> None:
    """256 experts over ep = 64 are 4 a rank, over 8 ranks 1 each: twice the even share. Bytes of torch's storages."""
    state = rank_state(published("deepseek-v3", "deepseek_v3"), SETUP, Layout(dp_shard=512, ep=64), 0)
    assert state.parameters.total == 10_353_446_584
