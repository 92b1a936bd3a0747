"""FLOPs of the busiest rank of a stack: those of one GPU, divided, and what is recomputed."""

from __future__ import annotations

from typing import Any

import pytest

from analytic.model.flops import doubled_pairs, training_flops
from analytic.model.training import TrainingSetup
from analytic.parallelism.layout import Layout
from analytic.parallelism.shapes import StackModel
from analytic.parallelism.stack_flops import megatron_flops, torchtitan_flops
from tests.analytic.parallelism.stacks import ROUTED, F, H, K, L, Q, V, layout, model

SEQ, BATCH = 64, 3
SETUP = TrainingSetup(seq_len=SEQ, micro_batch=BATCH)
STACK = StackModel.of(model())


@pytest.mark.parametrize("convention", ["full", "causal"])
def test_tensor_and_context_parallelism_divide_all_but_the_padding(convention: Any) -> None:
    whole = training_flops(model(), seq_len=SEQ, batch_size=BATCH, convention=convention)
    padding = 2 * SEQ * BATCH * H * (256 - V)
    found = megatron_flops(STACK, SETUP, Layout(tp=2, cp=2, dp_shard=3), convention=convention)
    assert found.forward.total == (whole.forward + padding) // 4
    scores = doubled_pairs(SEQ, convention) * Q * L * BATCH // 4  # QK^T again, inside the fused kernel
    assert found.backward.total == 2 * found.forward.total + scores
    assert found.recompute.total == 0
    exact = torchtitan_flops(STACK, SETUP, Layout(tp=2, cp=2, dp_shard=3), convention=convention)
    assert exact.forward.total == whole.forward // 4  # 250 rows are two times 125


def test_experts_too() -> None:
    spec = model(ROUTED, ROUTED)
    whole = training_flops(spec, seq_len=SEQ, batch_size=BATCH)
    found = megatron_flops(StackModel.of(spec), SETUP, Layout(tp=2, ep=4, dp_shard=4))
    assert found.forward.total == (whole.forward + 2 * SEQ * BATCH * H * 6) // 2


def test_the_last_stage_is_the_busiest_and_has_its_own_layers_alone() -> None:
    found = megatron_flops(STACK, SETUP, Layout(pp=4, micro_batches=5))
    head = 2 * SEQ * BATCH * 5 * H * 256
    one = training_flops(model(), seq_len=SEQ, batch_size=BATCH).forward - 2 * SEQ * BATCH * H * V
    assert found.forward.total == one // L * 5 + head
    interleaved = megatron_flops(STACK, SETUP, layout(pp=2, virtual_stages=2, micro_batches=4))
    assert set(path.split(".self_attn")[0].split(".mlp")[0] for path in interleaved.forward) == {
        *("layers.1", "layers.3", "lm_head"),
    }


def test_what_each_stack_runs_again() -> None:
    tokens = SEQ * BATCH * L
    scores = 2 * SEQ * 2 * Q * tokens
    layer = training_flops(model(), seq_len=SEQ, batch_size=BATCH).forward - 2 * SEQ * BATCH * H * V
    assert megatron_flops(STACK, SETUP, Layout(), "selective").recompute.total == scores
    assert megatron_flops(STACK, SETUP, Layout(), "full").recompute.total == layer
    every_second = 2 * tokens * (H * K + Q * H + H * F)
    assert torchtitan_flops(STACK, SETUP, Layout(), "selective").recompute.total == every_second
    assert torchtitan_flops(STACK, SETUP, Layout(), "full").recompute.total == layer - 2 * tokens * H * F
