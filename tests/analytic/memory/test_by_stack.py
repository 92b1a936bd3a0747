"""Which rank of a pipeline is the fullest, whatever the stack."""

from __future__ import annotations

import pytest

from analytic.memory.by_stack import rank_peak
from analytic.memory.rank_peak import RankPeak
from analytic.model.training import TrainingSetup
from analytic.parallelism.layout import Layout
from analytic.parallelism.stacks import Stack
from tests.configurations import shipped


@pytest.mark.parametrize(("stack", "moment"), [("torchtitan", "the loss"), ("megatron-te", "lm_head")])
def test_the_last_rank_may_be_the_fullest_with_as_many_layers_as_the_first(stack: Stack, moment: str) -> None:
    """Llama 3 8B in two stages of 16 layers: under recomputation the logits of 128,256 words outweigh two inputs."""
    setup = TrainingSetup(seq_len=4096, checkpointing="full", attention_kernel="flash", optimizer="adamw_fused")
    layout = Layout(pp=2, dp_shard=4, micro_batches=2)
    peak = rank_peak(shipped("llama-3-8b"), setup, layout, stack)
    assert isinstance(peak, RankPeak)
    assert (peak.rank, peak.moment) == (4, f"backward of {moment}")
