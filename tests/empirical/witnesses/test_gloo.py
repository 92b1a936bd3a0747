"""The simulated rank against real processes over gloo: every turn of live bytes, every collective, the allocator."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest

from analytic.model.training import TrainingSetup
from analytic.parallelism.layout import Layout
from empirical.models.distributed import RankCase
from empirical.proof.memory import Divergence, first_divergence, tracked_changes
from empirical.witnesses.gloo import peak_with_copies, real_ranks, without_copies
from empirical.witnesses.memory import MemoryMeasurement
from empirical.witnesses.own_process import in_own_process
from empirical.witnesses.rank import observe
from tests.configurations import parsed

# widths that two ranks do not share evenly
LLAMA = {
    "model_type": "llama",
    "hidden_size": 120,
    "intermediate_size": 328,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 32,
    "vocab_size": 1002,
}
SETUP = TrainingSetup(seq_len=64, precision="fp32", attention_kernel="eager", optimizer="adamw_foreach")
FSDP, TP = Layout(dp_shard=2, mixed_precision=False), Layout(tp=2, mixed_precision=False)
SLACK_BYTES = 64  # Python numbers that torch makes tensors of on the CPU


def divergence(simulated: MemoryMeasurement, real: MemoryMeasurement) -> Divergence | None:
    ours, theirs = (chain.from_iterable(phase.events for phase in step.phases) for step in (simulated, real))
    return first_divergence(tracked_changes(ours), tracked_changes(without_copies(theirs)))


@pytest.mark.parametrize(
    ("layout", "keys"),
    [
        (FSDP, {}),
        (TP, {}),
        pytest.param(FSDP, {"tie_word_embeddings": True}, marks=pytest.mark.thorough),
        pytest.param(Layout(dp_shard=2, tp=2, mixed_precision=False), {}, marks=pytest.mark.thorough),
    ],
    ids=["fsdp", "tp", "fsdp-tied", "fsdp-tp"],
)
def test_real_ranks_do_what_simulated_ones_do(layout: Layout, keys: dict[str, bool], tmp_path: Path) -> None:
    """Of the later steps the best one counts: gloo's thread may free a tensor late."""
    case = RankCase(parsed(LLAMA | keys), SETUP, layout)
    real = real_ranks(case, tmp_path)
    simulated = in_own_process(observe, [replace(case, rank=rank) for rank in range(layout.num_gpus)])
    for ours, theirs in zip(simulated, real, strict=True):
        seen = theirs.observation
        assert (seen.stored, seen.moments, seen.gradient_bytes) == (ours.stored, ours.moments, ours.gradient_bytes)
        assert (seen.flops_forward, seen.flops_total) == (ours.flops_forward, ours.flops_total)
        assert seen.collectives == ours.collectives
        assert None in [divergence(ours.steps[1], step) for step in seen.steps[1:]]
        tracked = min(peak_with_copies(step) for step in seen.steps[1:])
        assert 0 <= theirs.allocator_peak - tracked <= SLACK_BYTES
