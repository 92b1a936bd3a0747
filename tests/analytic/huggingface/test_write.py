"""A designed model: its configuration is the one that would be read from the file it is written to."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest

from analytic.errors import SpecError, UnsupportedModelError
from analytic.huggingface.config import ModelConfig, parse
from analytic.huggingface.write import to_config
from analytic.io.keys import Keys
from analytic.model.spec import DenseFfn, FeedForward, GroupedQueryAttention, LayerSpec, ModelSpec, MoeFfn

ATTENTION = GroupedQueryAttention(num_heads=6, num_kv_heads=2, head_dim=16)
DENSE: FeedForward = DenseFfn(intermediate_size=210)
MOE: FeedForward = MoeFfn(num_experts=5, num_experts_per_token=2, expert_intermediate_size=70)


def designed(ffn: FeedForward = DENSE, attention: GroupedQueryAttention = ATTENTION, *, depth: int = 3) -> ModelSpec:
    return ModelSpec(hidden_size=96, vocab_size=101, layers=(LayerSpec(attention=attention, ffn=ffn),) * depth)


@pytest.mark.parametrize("spec", [designed(DENSE), designed(MOE), replace(designed(DENSE), tie_word_embeddings=True)])
@pytest.mark.parametrize("seq_len", [1, 8192])
def test_a_designed_configuration_is_the_one_that_would_be_read_back(spec: ModelSpec, seq_len: int) -> None:
    parsed = parse(Path("plan"), Keys(to_config(spec, seq_len)))
    of_spec = ModelConfig.designed(spec, seq_len)
    for field in fields(ModelConfig):
        assert getattr(of_spec, field.name) == getattr(parsed, field.name), field.name


def test_what_the_written_keys_do_not_say_is_refused() -> None:
    with_window = designed(attention=replace(ATTENTION, sliding_window=8))
    other_layer = LayerSpec(attention=ATTENTION, ffn=DenseFfn(intermediate_size=211))
    for spec in (
        with_window,
        replace(designed(), has_rotary=False),
        replace(designed(), layers=(*designed().layers, other_layer)),
    ):
        with pytest.raises(UnsupportedModelError, match="llama configs are written of equal layers"):
            ModelConfig.designed(spec, 8)


def test_what_the_parser_refuses_is_refused() -> None:
    with pytest.raises(SpecError, match="hidden_size = 96: expected a multiple of num_attention_heads"):
        ModelConfig.designed(designed(attention=replace(ATTENTION, num_heads=10)), 8)
    wide = replace(designed(DenseFfn(intermediate_size=2**24), depth=9999), hidden_size=6 * 2**20)
    with pytest.raises(SpecError, match="parameters: expected at most 1000000000000000"):
        ModelConfig.designed(wide, 8)
