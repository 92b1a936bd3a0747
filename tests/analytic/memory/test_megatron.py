"""The peak of Megatron's worst rank: each term spelled out on small models."""

from __future__ import annotations

from dataclasses import replace

from analytic.memory.megatron import megatron_peak
from analytic.memory.rank_peak import RankPeak
from analytic.model.spec import ModelSpec, QkNorm
from analytic.model.training import TrainingSetup
from analytic.parallelism.layout import Layout
from analytic.parallelism.shapes import Recompute, StackModel
from tests.analytic.parallelism.stacks import (
    ATTENTION,
    DENSE,
    EXPERT,
    EXPERTS,
    LATENT,
    ROUTED,
    SHARED,
    TOP_K,
    F,
    H,
    K,
    L,
    Q,
    layout,
    model,
)

SETUP = TrainingSetup(seq_len=64, micro_batch=3)
T = 3 * 64
MIB = 2**20
SPLIT = H * (Q + 2 * K) + Q * H + 3 * H * F
WORKSPACES = 32 * MIB + 32 * MIB + 1024  # torch's and TransformerEngine's
ROWS = 256  # of the vocabulary of 250


def peak(spec: ModelSpec, one: Layout, recompute: Recompute | None = None, setup: TrainingSetup = SETUP) -> RankPeak:
    return megatron_peak(StackModel.of(spec), setup, one, recompute)


def test_a_rank_of_tensor_and_context_parallelism() -> None:
    found = peak(model(), Layout(tp=2, cp=2, dp_shard=3))
    own = L * (2 * H + SPLIT // 2) + 2 * (ROWS // 2) * H + H
    tokens = T // 2
    features = 4 * H + 2 * Q + 2 * K + 3 * F
    log_sum_exp, ring = 4 * tokens * 6 // 2, 2 * tokens * Q // 2
    head = 2 * (ROWS // 2) * (tokens + H) + 2 * tokens * H + 2 * (2 * tokens * H // 2) + 3 * tokens * H
    assert found.parameters_bytes == 2 * own
    assert found.gradients_bytes == 4 * own
    assert found.optimizer_bytes == 12 * -(-own // 6)
    assert found.activations_bytes == L * (2 * tokens * features // 2 + log_sum_exp + ring)
    assert found.temporaries_bytes == head + 2 * (SPLIT // 2) + WORKSPACES
    assert found.moment == "backward of lm_head"


def test_without_tensor_parallelism_nothing_is_gathered_for_the_head() -> None:
    found = peak(model(), Layout())
    assert found.temporaries_bytes == 2 * ROWS * (T + H) + 3 * 2 * T * H + 2 * SPLIT + WORKSPACES


def test_without_an_optimizer_there_are_no_states() -> None:
    assert peak(model(), Layout(), setup=replace(SETUP, optimizer="none")).optimizer_bytes == 0


def test_gradients_are_in_16_bits_without_mixed_precision() -> None:
    mixed, half = peak(model(), Layout()), peak(model(), Layout(mixed_precision=False))
    assert mixed.gradients_bytes == 2 * half.gradients_bytes
    assert mixed.optimizer_bytes == half.optimizer_bytes


def test_the_first_stage_holds_pp_micro_batches_and_the_gradients_of_one_layer() -> None:
    spec, one = model(*(DENSE,) * 12), Layout(pp=4, micro_batches=8)
    found = peak(spec, one)
    kept = 2 * T * (4 * H + 2 * Q + 2 * K + 3 * F) + 4 * T * 6
    assert (found.rank, found.moment) == (0, "backward of a gqa+dense layer")
    assert found.activations_bytes == 4 * 3 * kept
    assert found.temporaries_bytes == 2 * T * (2 * F + H) + 2 * SPLIT + WORKSPACES
    assert peak(spec, replace(one, micro_batches=2)).activations_bytes == 2 * 3 * kept


def test_virtual_stages_hold_more() -> None:
    spec = model(*(DENSE,) * 12)
    kept = 2 * T * (4 * H + 2 * Q + 2 * K + 3 * F) + 4 * T * 6
    found = peak(spec, layout(pp=4, virtual_stages=3, micro_batches=8))
    assert found.activations_bytes == kept * (3 * 4 + 4 - 1)  # pp + (pp - 1) / v micro-batches of three layers


def test_the_worst_stage_may_be_neither_the_first_nor_the_last() -> None:
    spec = model(DENSE, DENSE, ROUTED, ROUTED, ROUTED, ROUTED, DENSE, DENSE)
    assert peak(spec, Layout(pp=4, dp_shard=2, micro_batches=8)).rank == 1 * 2


def test_recomputation_keeps_inputs_and_restores_one_layer() -> None:
    spec, one = model(*(DENSE,) * 12), Layout(pp=4, tp=2, micro_batches=8)
    kept = T * (4 * H + 2 * Q + 2 * K + 3 * F) + 4 * T * 6 // 2
    full = peak(spec, one, "full")
    assert full.activations_bytes == 4 * 3 * (2 * T * H // 2)
    assert full.temporaries_bytes - 2 * (SPLIT // 2) - WORKSPACES == kept + 2 * T * (2 * F // 2 + H)
    assert peak(spec, one, setup=replace(SETUP, checkpointing="full")) == full
    selective = peak(spec, replace(one, cp=2), "selective")
    assert selective.activations_bytes == 4 * 3 * (T // 2) * (4 * H + 2 * Q + 2 * K + 3 * F)


def test_experts() -> None:
    one = Layout(tp=2, ep=4, dp_shard=8)
    found = peak(model(*(ROUTED,) * L), one)
    attention, shared = H * (Q + 2 * K) + Q * H, 3 * H * SHARED
    dense = L * (2 * H + EXPERTS * H + (attention + shared) // 2) + 2 * (ROWS // 2) * H + H
    experts = L * EXPERTS * 3 * H * EXPERT // 4
    rows = T // 2 * TOP_K
    kept = T * (4 * H + 2 * Q + 2 * K + 3 * SHARED) + 4 * T * 6 // 2 + 2 * rows * (H + 3 * EXPERT)
    kept += 4 * (T // 2) * EXPERTS
    assert found.parameters_bytes == 2 * (dense + experts)
    assert found.optimizer_bytes == 12 * (-(-dense // 8) + -(-experts // 4))  # 8 x 2 ranks share 4 parts of experts
    assert found.activations_bytes == L * kept
    dummies = 2 * (attention // 2 + shared // 2 + 3 * H * EXPERT)
    head = 2 * (ROWS // 2) * (T + H) + 2 * T * H + 2 * (T * H) + 3 * T * H
    assert found.temporaries_bytes == max(head, 0) + dummies + WORKSPACES + 4 * (32 * MIB + 1024)


def test_experts_rows_are_live_before_and_after_their_exchange() -> None:
    found = peak(model(*(ROUTED,) * 8), Layout(pp=4, ep=2, dp_shard=2, micro_batches=8))
    rows = T * TOP_K
    attention, shared = H * (Q + 2 * K) + Q * H, 3 * H * SHARED
    lasting = 2 * (attention + shared + 3 * H * EXPERT) + WORKSPACES + 4 * (32 * MIB + 1024)
    gradients = max(2 * T * (2 * SHARED + H), 2 * rows * (2 * H + 2 * EXPERT) + 2 * T * H)
    assert found.temporaries_bytes == gradients + lasting


def test_latent_attention_keeps_its_compressed_vectors() -> None:
    found = peak(model(LATENT), Layout())
    features = 4 * H + 2 * (4 * 16) + 2 * (4 * 14) + 2 * 20 + 2 * 12 + 6 + 3 * F
    assert found.activations_bytes == 2 * T * features + 4 * T * 4


def test_normed_queries_and_keys_are_kept_before_and_after() -> None:
    normed = replace(DENSE, attention=replace(ATTENTION, qk_norm=QkNorm()))
    more = peak(model(normed), Layout()).activations_bytes - peak(model(DENSE), Layout()).activations_bytes
    assert more == 2 * T * (Q + K)


def test_a_rank_holds_at_least_one_key_value_head() -> None:
    eight = replace(DENSE, attention=replace(ATTENTION, num_heads=8))
    found = peak(model(eight), Layout(tp=4))
    assert found.activations_bytes == 2 * T * ((4 * H + 3 * F) // 4 + 2 * 8 * 16 // 4 + 2 * 16) + 4 * T * 8 // 4


def test_a_tied_embedding_is_on_both_ends_of_a_pipeline() -> None:
    tied = peak(model(tie_word_embeddings=True), Layout(pp=2, micro_batches=2))
    assert tied == peak(model(), Layout(pp=2, micro_batches=2))
    alone = peak(model(tie_word_embeddings=True), Layout()).parameters_bytes
    assert alone == peak(model(), Layout()).parameters_bytes - 2 * ROWS * H
