"""The schedule of a tensor-parallel rank, against a rank of a simulated world that is tracked on the meta device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from typing import Any

import pytest

from analytic.errors import UsageError
from analytic.memory import collectives, ops
from analytic.memory.local import on_tp_rank
from analytic.memory.rank import RankMemory, rank_memory
from analytic.memory.step import step_events
from analytic.memory.tape import Tape
from analytic.memory.tensors import Parameter, Tensor
from analytic.model.training import TrainingSetup
from analytic.parallelism.layout import Layout
from empirical.models.distributed import RankCase
from empirical.proof.memory import Divergence, first_divergence, scheduled_changes, tracked_changes
from empirical.proof.rank_memory import rank_memory_checks
from empirical.witnesses.own_process import in_own_process
from empirical.witnesses.rank import RankObservation, observe
from tests.configurations import parsed
from tests.memory_cases import (
    SMALL,
    SMALL_DEEPSEEK_V2,
    SMALL_DEEPSEEK_V3,
    SMALL_MIXTRAL,
    SMALL_QWEN3_MOE,
    predicted,
)

SETUP = TrainingSetup(seq_len=24, micro_batch=2, optimizer="adamw_foreach")
FULL = replace(SETUP, checkpointing="full")
EAGER = replace(SETUP, attention_kernel="eager", precision="fp32")
WIDE_EXPERTS = {"moe_intermediate_size": 48}  # grouped products take halves of it, in rows of 16 bytes
LLAMA = parsed(SMALL | {"num_hidden_layers": 2})
TIED = {"tie_word_embeddings": True}
TP = Layout(tp=2, mixed_precision=False)
TP_4 = replace(TP, tp=4)
FSDP_TP = Layout(dp_shard=2, tp=2)

CASES: dict[str, tuple[dict[str, Any], TrainingSetup, Layout, int]] = {
    "llama, checkpointed, 4 ranks, 2 micro-batches": (SMALL, FULL, replace(TP_4, micro_batches=2), 3),
    "llama, eager fp32": (SMALL, EAGER, TP_4, 1),
    "llama, biases": (SMALL | {"attention_bias": True, "mlp_bias": True}, FULL, TP, 0),
    "llama, tied, blocks of 512": (SMALL | TIED, replace(SETUP, rounding_bytes=512), TP, 1),
    "llama, uneven vocabulary": (SMALL | {"vocab_size": 251}, SETUP, TP, 0),
    "llama, uneven vocabulary, last rank, tied": (SMALL | {"vocab_size": 250} | TIED, FULL, TP_4, 3),
    "llama, one token": (SMALL | {"vocab_size": 251}, replace(SETUP, seq_len=1, micro_batch=1), TP, 0),
    "mistral, grouped": (SMALL | {"model_type": "mistral", "num_key_value_heads": 2}, SETUP, TP, 1),
    "qwen2": (SMALL | {"model_type": "qwen2"}, replace(FULL, attention_kernel="efficient"), TP, 0),
    "qwen3": (SMALL | {"model_type": "qwen3", "head_dim": 24}, replace(SETUP, attention_kernel="cudnn"), TP, 0),
    "mixtral": (SMALL_MIXTRAL, SETUP, TP, 0),
    "qwen3_moe": (SMALL_QWEN3_MOE | WIDE_EXPERTS, FULL, TP, 0),
    "deepseek_v2": (SMALL_DEEPSEEK_V2 | WIDE_EXPERTS, SETUP, TP, 0),
    "deepseek_v3": (SMALL_DEEPSEEK_V3 | WIDE_EXPERTS, FULL, TP, 1),
    "llama, fsdp, 2 micro-batches": (SMALL | {"vocab_size": 251}, SETUP, replace(FSDP_TP, micro_batches=2), 3),
    "llama, fsdp, tied": (SMALL | {"vocab_size": 257} | TIED, FULL, replace(FSDP_TP, dp_shard=4), 6),
    "qwen3, hsdp": (SMALL | {"model_type": "qwen3"}, FULL, replace(FSDP_TP, dp_replicate=2, tp=4), 15),
    "mixtral, fsdp, kept after forward": (SMALL_MIXTRAL, SETUP, replace(FSDP_TP, reshard_after_forward=False), 2),
    "deepseek_v2, fsdp": (SMALL_DEEPSEEK_V2 | WIDE_EXPERTS | {"q_lora_rank": 48}, FULL, FSDP_TP, 1),
}


# alike enough to others that the default run leaves them out
SIMILAR = ("llama, eager fp32", "llama, one token", "mistral, grouped", "qwen2", "qwen3_moe", "deepseek_v2, fsdp")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.thorough) if name in SIMILAR else name for name in CASES]
)
def test_a_rank_equals_the_tracker_at_every_rise_and_fall(name: str) -> None:
    """Base, peak and profile of the first step and of a later one, the optimizer's included."""
    raw, setup, layout, rank = CASES[name]
    case = RankCase(parsed(raw | {"num_hidden_layers": 3}), setup, layout, rank)
    (checks,) = in_own_process(rank_memory_checks, [case])
    assert len(checks) == 6
    assert [check for check in checks if check.status == "fail"] == []


def divergence(seen: RankObservation) -> Divergence | None:
    """Where schedule and tracked rank 0 of two part, in forward and backward of the second step."""
    scheduled = step_events(*on_tp_rank(LLAMA.spec, predicted(LLAMA), 2), SETUP)
    tracked = chain(seen.steps[-1]["forward"].events, seen.steps[-1]["backward"].events)
    return first_divergence(scheduled_changes(scheduled), tracked_changes(tracked))


def forget_a_sum_of_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    def sum_gradient(t: Tape, x: Tensor, name: str) -> Tensor:
        return x if name == "self_attn.k_proj" else right(t, x, name)

    right = collectives.sum_gradient
    monkeypatch.setattr(collectives, "sum_gradient", sum_gradient)


def keep_the_logits_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    def gather_columns(t: Tape, x: Tensor, ranks: int, width: int, name: str) -> Tensor:
        return x

    monkeypatch.setattr(collectives, "gather_columns", gather_columns)


def keep_the_table_s_gradient_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    def embedding(t: Tape, weight: Parameter, tokens: int, vocab_size: int) -> Tensor:
        return right(t, weight, tokens, weight.out)

    right = collectives.embedding
    monkeypatch.setattr(collectives, "embedding", embedding)


def sum_outputs_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def sum_output(t: Tape, x: Tensor, name: str) -> Tensor:
        return ops.view(x, t.record(name, [ops.passed(x, is_view=True)]))

    monkeypatch.setattr(collectives, "sum_output", sum_output)


@pytest.fixture(scope="module")
def llama() -> RankObservation:
    (seen,) = in_own_process(observe, [RankCase(LLAMA, SETUP, TP)])
    return seen


@pytest.mark.parametrize(
    "break_it",
    [forget_a_sum_of_gradients, keep_the_logits_cut, keep_the_table_s_gradient_cut, sum_outputs_in_place],
)
def test_a_wrong_collective_is_caught(
    break_it: Callable[[pytest.MonkeyPatch], None], llama: RankObservation, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert divergence(llama) is None
    break_it(monkeypatch)
    assert divergence(llama) is not None


def test_the_rank_with_a_second_table_is_found() -> None:
    """255 rows: 128 and 127 on the two tensor-parallel ranks, 32 and at last 31 on the four that share each part.

    The last rank of the second part stores the tied table twice, and its 31 rows are padded to 32.
    """
    config = parsed(SMALL | {"vocab_size": 255} | TIED)
    setup, layout = replace(FULL, seq_len=2, micro_batch=1), replace(FSDP_TP, dp_shard=4)
    memories = [rank_memory(config.spec, predicted(config), setup, layout, rank) for rank in (None, *range(8))]
    highest, *of_ranks = [memory.peak.peak_bytes for memory in memories if isinstance(memory, RankMemory)]
    assert highest == max(of_ranks) == of_ranks[7] > of_ranks[0]


@pytest.mark.parametrize(
    ("raw", "tp", "coordinate", "refusal"),
    [
        (SMALL, 8, 0, "tp = 8: expected a divisor of num_attention_heads = 4"),
        (SMALL | {"num_key_value_heads": 1}, 2, 0, "tp = 2: expected a divisor of num_key_value_heads = 1"),
        (SMALL | {"intermediate_size": 161}, 2, 0, "tp = 2: expected a divisor of intermediate_size = 161"),
        (SMALL_MIXTRAL | {"intermediate_size": 8}, 3, 0, "tp = 3: expected a divisor of num_attention_heads = 4"),
        (SMALL | {"vocab_size": 9}, 4, 3, "tp = 4: rank 3 has no part of vocab_size = 9"),
    ],
)
def test_what_ranks_cannot_share_is_refused_in_one_line(
    raw: dict[str, Any], tp: int, coordinate: int, refusal: str
) -> None:
    config = parsed(raw)
    with pytest.raises(UsageError, match=refusal):
        on_tp_rank(config.spec, predicted(config), tp, coordinate)
