"""Context parallelism: bytes and FLOPs of a ring, by hand; torch's ring is the witness elsewhere."""

from __future__ import annotations

from dataclasses import replace

import pytest

from analytic.errors import UsageError
from analytic.model.training import TrainingSetup
from analytic.parallelism.context_parallel import context_collectives, excess_by_layer, ring_attention
from analytic.parallelism.layout import Layout
from tests.configurations import parsed, shipped
from tests.memory_cases import SMALL, SMALL_DEEPSEEK_V3

LLAMA_3_8B = shipped("llama-3-8b").spec
SETUP = TrainingSetup(seq_len=8192)
ONE_SHARD = 1024 * 8 * 128 * 2  # keys of 8,192 / 8 tokens, 8 heads of 128, 2 bytes each


def test_a_ring_of_eight() -> None:
    """Keys and values hop 7 times; in backward again, and their fp32 gradients, twice as large, hop 8 times."""
    ring = ring_attention(LLAMA_3_8B.layers[0].attention, SETUP, Layout(cp=8))
    (forward,) = ring.forward(itemsize=2, rotation="alltoall", module="m")
    keys, gradients = ring.backward(itemsize=2, rotation="alltoall", module="m")
    assert (forward.kind, forward.count, forward.size_bytes) == ("all_to_all", 7, 7 * 2 * ONE_SHARD)
    assert forward == keys
    assert (gradients.count, gradients.size_bytes) == (8, 8 * 2 * (2 * ONE_SHARD))
    (gathered,) = ring.forward(itemsize=2, rotation="allgather", module="m")
    assert (gathered.kind, gathered.count, gathered.size_bytes) == ("all_gather", 1, 8 * 2 * ONE_SHARD)


def test_the_flops_of_a_rank() -> None:
    """Its own block in full, 4 x 1,024^2 x 32 x 128, and half of each of 7 others."""
    ring = ring_attention(LLAMA_3_8B.layers[0].attention, SETUP, Layout(cp=8))
    block = 4 * 1024**2 * 32 * 128
    assert ring.forward_flops == block * (2 + 7) // 2 == 77_309_411_328
    # the causal mask lets S (S + 1) / 2 pairs through, at 4 x 32 x 128 FLOPs each
    assert ring.causal_flops == 8192 * 8193 // 2 * 4 * 32 * 128
    # of each rank's own block, the pairs above the diagonal: 1,024 x 1,023 / 2
    assert ring.excess_flops == 8 * 1024 * 1023 // 2 * 4 * 32 * 128


def test_a_step_of_a_model() -> None:
    """4 micro-batches; under checkpointing forward runs twice. 32 layers, all alike."""
    setup, layout = replace(SETUP, checkpointing="full"), Layout(cp=8, micro_batches=4)
    forward, keys, gradients = context_collectives(LLAMA_3_8B, setup, layout)
    assert {one.module for one in (forward, keys, gradients)} == {"layers.0-31.self_attn"}
    assert (forward.count, forward.size_bytes) == (2 * 32 * 4, 2 * 32 * 4 * 8 * 2 * ONE_SHARD)
    assert (keys.count, keys.size_bytes) == (32 * 4, 32 * 4 * 8 * 2 * ONE_SHARD)
    assert (gradients.kind, gradients.count) == ("all_to_all", 8 * 32 * 4)
    assert excess_by_layer(LLAMA_3_8B, setup, layout).total == 32 * 8 * 1024 * 1023 // 2 * 4 * 32 * 128


def test_one_rank_sends_nothing_and_computes_the_whole_square() -> None:
    ring = ring_attention(LLAMA_3_8B.layers[0].attention, SETUP, Layout())
    assert context_collectives(LLAMA_3_8B, SETUP, Layout()) == ()
    assert ring.forward_flops == 4 * 8192**2 * 32 * 128


def test_latent_attention_sends_keys_and_values_of_their_own_widths() -> None:
    """4 heads of 16 + 8 for keys and 12 for values."""
    ring = ring_attention(parsed(SMALL_DEEPSEEK_V3).spec.layers[0].attention, replace(SETUP, seq_len=64), Layout(cp=2))
    assert ring.key_value_width == 4 * (16 + 8 + 12)
    assert ring.score_width == 4 * (16 + 8 + 12)


@pytest.mark.parametrize(
    ("keys", "layout", "named"),
    [
        ({}, Layout(cp=3), "cp = 3: expected seq_len = 8192 to be a multiple of 2 x cp = 6"),
        ({}, Layout(cp=8192), "2 x cp = 16384"),
        ({"model_type": "mistral", "sliding_window": 4096}, Layout(cp=2), "cp = 2: torch's ring attention has no"),
        ({}, Layout(cp=2, tp=3), "tp = 3: expected a divisor of 4 key-value heads"),
    ],
)
def test_what_the_ring_does_not_take_is_refused_by_name(keys: dict[str, object], layout: Layout, named: str) -> None:
    with pytest.raises(UsageError) as error:
        ring_attention(parsed(SMALL | keys).spec.layers[0].attention, SETUP, layout)
    assert named in str(error.value)
