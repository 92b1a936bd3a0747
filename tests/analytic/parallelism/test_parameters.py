"""Shapes of parameters: their products are the counts of `analytic.model.params`, term by term."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from analytic.errors import UsageError
from analytic.huggingface.config import load
from analytic.huggingface.shipped import shipped_models
from analytic.model.params import model_params
from analytic.parallelism.parameters import DistributedModel, Family
from tests.analytic.parallelism.models import FAMILIES, small
from tests.configurations import EVERY_FAMILY, parsed, shipped


def counts(model: DistributedModel) -> dict[str, int]:
    groups = (group for group in model.groups(experts_apart=True) if not group.is_alias)
    return {
        f"{group.prefix}.{tensor.name}" if group.prefix else tensor.name: group.count * tensor.rows * tensor.width
        for group in groups
        for tensor in group.tensors
    }


def described(model: DistributedModel) -> dict[str, int]:
    return {name: count for name, count in model_params(model.spec).items() if count}


@pytest.mark.parametrize("family", FAMILIES)
@given(data=st.data())
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
def test_the_product_of_a_shape_is_the_count(family: Family, data: st.DataObject) -> None:
    keys = data.draw(EVERY_FAMILY[family])
    assume(keys.get("n_shared_experts") != 0)
    model = DistributedModel(parsed(keys).spec, family)
    assert counts(model) == described(model)


@pytest.mark.parametrize("name", shipped_models())
def test_every_shipped_model_of_a_described_family_counts_the_same(name: str) -> None:
    config = load(shipped_models()[name])
    for family in FAMILIES:
        if family == config.read_as:
            model = DistributedModel(config.spec, family)
            assert counts(model) == described(model)


def test_shapes_are_those_of_torch() -> None:
    """[out, in] of a linear layer, [experts, out, in] of merged experts."""
    tensors = {t.name: t for g in small("qwen3_moe").groups(experts_apart=False) for t in g.tensors}
    shapes = {name: (tensor.rows, tensor.width) for name, tensor in tensors.items()}
    assert shapes["self_attn.k_proj"] == (4 * 16, 96)
    assert shapes["self_attn.o_proj"] == (96, 8 * 16)
    assert shapes["self_attn.q_norm"] == (16, 1)
    assert shapes["mlp.gate"] == (8, 96)
    assert shapes["mlp.experts.gate_up_proj"] == (8, 2 * 64 * 96)
    assert shapes["mlp.experts.down_proj"] == (8, 96 * 64)
    assert shapes["mlp.down_proj"] == (96, 160)


def test_groups_are_embedding_layers_and_the_norm_with_the_head() -> None:
    groups = small("qwen3_moe").groups(experts_apart=False)
    assert [(g.module, g.count, g.keeps_weights) for g in groups] == [
        ("embed_tokens", 1, False),
        ("layers.0", 1, False),
        ("layers.1-2", 2, False),
        ("norm+lm_head", 1, True),
    ]


def test_experts_are_a_group_of_their_own_under_expert_parallelism() -> None:
    groups = {g.module: g for g in small("qwen3_moe").groups(experts_apart=True)}
    assert list(groups) == ["embed_tokens", "layers.0", "layers.1-2.mlp.experts", "layers.1-2", "norm+lm_head"]
    assert groups["layers.1-2.mlp.experts"].is_experts
    assert not any(tensor.is_expert for tensor in groups["layers.1-2"].tensors)


def test_a_tied_table_is_in_two_groups() -> None:
    groups = small("llama", tie_word_embeddings=True).groups(experts_apart=False)
    assert [(g.module, g.keeps_weights, g.is_alias) for g in groups] == [
        ("lm_head", True, True),
        ("layers.0-2", False, False),
        ("norm+embed_tokens", True, False),
    ]


def test_a_family_that_nobody_described_is_refused() -> None:
    with pytest.raises(UsageError, match="model_type = 'gpt2': no description of how transformers distributes it"):
        DistributedModel(shipped("gpt2").spec, "gpt2")


def test_experts_without_shared_ones_are_refused_where_the_class_has_them() -> None:
    with pytest.raises(UsageError, match="n_shared_experts = 0"):
        small("deepseek_v3", n_shared_experts=0)
