"""The peak of torchtitan's worst rank: each term spelled out on small models."""

from __future__ import annotations

from typing import Any

import pytest

from analytic.memory.rank_peak import RankPeak
from analytic.memory.torchtitan import torchtitan_peak
from analytic.model.spec import ModelSpec
from analytic.model.training import TrainingSetup
from analytic.parallelism.layout import Layout
from analytic.parallelism.shapes import StackModel
from tests.analytic.parallelism.stacks import DENSE, F, H, K, L, Q, V, layout, model

SETUP = TrainingSetup(seq_len=64, micro_batch=3)
T = 3 * 64
LAYER = 2 * H + H * (Q + 2 * K) + Q * H + 3 * H * F
ENDS = 2 * V * H + H
NONE = 4 * H + 2 * Q + 2 * K + 3 * F


def peak(one: Layout, spec: ModelSpec | None = None, **options: Any) -> RankPeak:
    return torchtitan_peak(StackModel.of(spec or model()), SETUP, one, **options)


def test_a_rank_of_fsdp() -> None:
    found = peak(Layout(dp_shard=6, cp=2))
    shard = -(-(L * LAYER + ENDS) // 12)
    assert found.parameters_bytes == found.gradients_bytes == 4 * shard
    assert found.optimizer_bytes == 8 * shard
    assert found.activations_bytes == L * (2 * (T // 2) * NONE + 4 * (T // 2) * 6)
    assert found.temporaries_bytes == 2 * ENDS + 2 * LAYER + 12 * (T // 2) * V
    assert found.moment == "backward of the loss"
    in_one_type = peak(Layout(dp_shard=6, cp=2, mixed_precision=False))
    assert (in_one_type.parameters_bytes, in_one_type.optimizer_bytes) == (2 * shard, 4 * shard)


def test_what_selective_recomputation_keeps() -> None:
    compiled = peak(Layout(), recompute="selective").activations_bytes
    assert compiled == L * (2 * T * (H + Q + K + F + Q) + 4 * T * 6)
    eager = peak(Layout(), recompute="selective", is_compiled=False).activations_bytes
    assert eager - compiled == L * 2 * T * H
    split = peak(Layout(tp=2), recompute="selective").activations_bytes
    assert split == L * (2 * T * ((H + Q + K + F + Q) // 2 + H) + 4 * T * 6 // 2)


def test_what_tensor_parallelism_keeps() -> None:
    found = peak(Layout(tp=2))
    assert found.activations_bytes == L * (2 * T * (H + 2 * H + (2 * Q + 2 * K + 3 * F) // 2) + 4 * T * 6 // 2)
    own = L * (2 * H + (LAYER - 2 * H) // 2) + 2 * (V // 2) * H + H
    assert found.parameters_bytes == 4 * own
    full = peak(Layout(tp=2), recompute="full")
    assert full.activations_bytes == L * 2 * T * H // 2


def test_backward_of_a_layer_restores_it_beside_buffers_of_fsdp() -> None:
    wide = ModelSpec(hidden_size=H, vocab_size=4, layers=(DENSE,) * L)
    found = peak(Layout(dp_shard=6), wide, recompute="full")
    ends = 2 * 4 * H + H
    restored = 2 * T * NONE + 4 * T * 6
    gradients = 2 * T * (2 * F + H)
    assert found.temporaries_bytes == 2 * ends + restored + gradients + (6 + 4) * LAYER + 2 * 4 * H
    assert found.moment == "backward of a gqa+dense layer"


def test_a_pipeline_keeps_parameters_gathered_and_gradients_unreduced() -> None:
    found = peak(Layout(dp_shard=6, pp=2, micro_batches=8), model(*(DENSE,) * 30))
    first = 15 * LAYER + V * H  # 30 layers and 2 are twice 16, and the first stage has the embedding for one of them
    assert found.rank == 0
    assert found.gradients_bytes == 4 * -(-first // 6) + 4 * first
    assert found.activations_bytes == 2 * 15 * (2 * T * NONE + 4 * T * 6)
    assert found.temporaries_bytes == 2 * first + 2 * T * (2 * F + H)


@pytest.mark.parametrize(("schedule", "in_flight"), [("interleaved-1f1b", 2 * 1 + 2 + 1), ("looped-bfs", 2 * 8)])
def test_schedules_hold_as_many_stages_as_torch_runs_ahead(schedule: Any, in_flight: int) -> None:
    one = layout(pp=2, virtual_stages=2, pipeline_schedule=schedule, micro_batches=8)
    found = peak(one, model(*(DENSE,) * 30))
    # stages of 8, 8, 8 and 8 layers, one of which is the embedding: 7 and 8 on the first rank
    assert found.activations_bytes == (7 + 8) * (2 * T * NONE + 4 * T * 6) * in_flight // 2


def test_a_v_shaped_schedule_may_hold_most_on_a_later_rank() -> None:
    v_shaped = layout(pp=4, virtual_stages=2, pipeline_schedule="zbv", micro_batches=3)
    found = peak(v_shaped, model(*(DENSE,) * 30))
    # eight stages of 4 layers; rank 1 holds at most 3 + 1 + 1 of them, rank 2 as many as there are: 2 x 3
    assert found.rank == 2
    assert found.activations_bytes == 8 * (2 * T * NONE + 4 * T * 6) * 6 // 2
