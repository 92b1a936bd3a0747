"""The schedule of a tensor-parallel rank, against a rank of a simulated world that is tracked on the meta device."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from typing import Any

import pytest

from analytic.errors import UsageError
from analytic.memory import collectives, ops
from analytic.memory.local import on_tp_rank
from analytic.memory.model import backward, forward
from analytic.memory.step import step_events, step_memory
from analytic.memory.tape import Tape
from analytic.memory.tensors import Parameter, Tensor
from analytic.model.training import TrainingSetup
from analytic.parallelism.layout import Layout
from empirical.models.distributed import RankCase
from empirical.proof.memory import Divergence, first_divergence, scheduled_changes, tracked_changes
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

SETUP = TrainingSetup(seq_len=24, micro_batch=2, optimizer="none")
FULL = replace(SETUP, checkpointing="full")
EAGER = replace(SETUP, attention_kernel="eager", precision="fp32")
WIDE_EXPERTS = {"moe_intermediate_size": 48}  # grouped products take halves of it, in rows of 16 bytes

CASES: dict[str, tuple[dict[str, Any], TrainingSetup, int, int]] = {
    "llama": (SMALL, SETUP, 2, 0),
    "llama, checkpointed, 4 ranks": (SMALL, FULL, 4, 3),
    "llama, eager fp32": (SMALL, EAGER, 4, 1),
    "llama, biases": (SMALL | {"attention_bias": True, "mlp_bias": True}, FULL, 2, 0),
    "llama, tied": (SMALL | {"tie_word_embeddings": True}, SETUP, 2, 1),
    "llama, uneven vocabulary": (SMALL | {"vocab_size": 251}, SETUP, 2, 0),
    "llama, uneven vocabulary, last rank, tied": (SMALL | {"vocab_size": 250, "tie_word_embeddings": True}, FULL, 4, 3),
    "llama, one token": (SMALL | {"vocab_size": 251}, replace(SETUP, seq_len=1, micro_batch=1), 2, 0),
    "mistral, grouped": (SMALL | {"model_type": "mistral", "num_key_value_heads": 2}, SETUP, 2, 1),
    "qwen2": (SMALL | {"model_type": "qwen2"}, replace(FULL, attention_kernel="efficient"), 2, 0),
    "qwen3": (SMALL | {"model_type": "qwen3", "head_dim": 24}, replace(SETUP, attention_kernel="cudnn"), 2, 0),
    "mixtral": (SMALL_MIXTRAL, SETUP, 2, 0),
    "mixtral, checkpointed": (SMALL_MIXTRAL, FULL, 2, 1),
    "qwen3_moe": (SMALL_QWEN3_MOE | WIDE_EXPERTS, FULL, 2, 0),
    "deepseek_v2": (SMALL_DEEPSEEK_V2 | WIDE_EXPERTS, SETUP, 2, 0),
    "deepseek_v2, checkpointed": (SMALL_DEEPSEEK_V2 | WIDE_EXPERTS | {"q_lora_rank": 48}, FULL, 2, 1),
    "deepseek_v3": (SMALL_DEEPSEEK_V3 | WIDE_EXPERTS, SETUP, 2, 0),
    "deepseek_v3, checkpointed": (SMALL_DEEPSEEK_V3 | WIDE_EXPERTS, FULL, 2, 1),
}


def observed(raw: dict[str, Any], setup: TrainingSetup, tp: int, rank: int, micro_batches: int = 1) -> RankObservation:
    layout = Layout(tp=tp, mixed_precision=False, micro_batches=micro_batches)
    (seen,) = in_own_process(observe, [RankCase(parsed(raw), setup, layout, rank)])
    return seen


def divergence(raw: dict[str, Any], setup: TrainingSetup, tp: int, rank: int, seen: RankObservation) -> Any:
    """Where schedule and tracked rank part in forward and backward of the second step."""
    config = parsed(raw)
    scheduled = step_events(*on_tp_rank(config.spec, predicted(config), tp, rank), setup)
    tracked = chain(seen.steps[-1]["forward"].events, seen.steps[-1]["backward"].events)
    return first_divergence(scheduled_changes(scheduled), tracked_changes(tracked))


@pytest.mark.parametrize("name", CASES)
def test_a_rank_equals_the_tracker_at_every_rise_and_fall(name: str) -> None:
    raw, setup, tp, rank = CASES[name]
    raw = raw | {"num_hidden_layers": 3}
    seen, config = observed(raw, setup, tp, rank), parsed(raw)
    assert divergence(raw, setup, tp, rank, seen) is None
    memory = step_memory(*on_tp_rank(config.spec, predicted(config), tp, rank), setup)
    second = seen.steps[-1]
    assert memory.base.total_bytes == second.base_bytes
    assert memory.step_peak.total_bytes - memory.base.total_bytes == second.peak_bytes


@pytest.mark.parametrize("is_tied", [False, True])
def test_two_micro_batches_equal_the_tracker(is_tied: bool) -> None:
    """The second adds to the gradients of the first, of which the whole table's is one unless it is tied."""
    raw = SMALL | {"num_hidden_layers": 2, "vocab_size": 251, "tie_word_embeddings": is_tied}
    seen, config = observed(raw, SETUP, 2, 1, micro_batches=2), parsed(raw)
    spec, implementation = on_tp_rank(config.spec, predicted(config), 2, 1)
    t = Tape(SETUP.itemsize)
    for _ in range(2):
        loss = forward(t, spec, implementation, SETUP)
        backward(t, loss)
        del loss
    tracked = chain.from_iterable(phase.events for phase in seen.steps[-1].phases)
    assert first_divergence(scheduled_changes(t.events), tracked_changes(tracked)) is None
    t.check_balance()


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
    return observed(SMALL | {"num_hidden_layers": 2}, SETUP, 2, 0)


@pytest.mark.parametrize(
    "break_it",
    [forget_a_sum_of_gradients, keep_the_logits_cut, keep_the_table_s_gradient_cut, sum_outputs_in_place],
)
def test_a_wrong_collective_is_caught(break_it: Any, llama: RankObservation, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = SMALL | {"num_hidden_layers": 2}
    assert divergence(raw, SETUP, 2, 0, llama) is None
    break_it(monkeypatch)
    assert isinstance(divergence(raw, SETUP, 2, 0, llama), Divergence)


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
