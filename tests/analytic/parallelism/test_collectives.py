"""Collectives of a step on transformers and fully_shard: arithmetic by hand, and bytes that torch's operators moved."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from analytic.model.training import TrainingSetup
from analytic.parallelism.communication import Collective, volume
from analytic.parallelism.layout import Layout
from analytic.parallelism.parameters import Family
from analytic.parallelism.transformers_fsdp2 import check, collectives
from tests.analytic.parallelism.models import published, small

SETUP = TrainingSetup(seq_len=64, micro_batch=2)
FULL = replace(SETUP, checkpointing="full")
T, H, V = 128, 96, 250  # tokens, hidden size, vocabulary of the small models; activations take 2 bytes
LAYER = 96 * 96 * 2 + 48 * 96 * 2 + 3 * 160 * 96 + 2 * 96  # parameters of a small Llama's layer
CountAndBytes = tuple[int, int]


def by_axis(found: Iterable[Collective]) -> dict[tuple[str, str], CountAndBytes]:
    sums: dict[tuple[str, str], CountAndBytes] = {}
    for one in found:
        count, size_bytes = sums.get((one.axis, one.kind), (0, 0))
        sums[one.axis, one.kind] = (count + one.count, size_bytes + one.size_bytes)
    return sums


def of(found: Iterable[Collective], module: str) -> dict[tuple[str, str], CountAndBytes]:
    return by_axis(one for one in found if one.module == module)


def test_fsdp_gathers_twice_what_it_frees_and_reduces_in_fp32() -> None:
    """Two ranks divide every first dimension. Embedding and 3 layers twice, norm and head once."""
    found = collectives(small("llama"), SETUP, Layout(dp_shard=2), 0)
    tail = V * H + H
    assert by_axis(found) == {
        ("dp_shard", "all_gather"): (2 * 4 + 1, 2 * (2 * (V * H + 3 * LAYER) + tail)),
        ("dp_shard", "reduce_scatter"): (5, 4 * (V * H + 3 * LAYER + tail)),
    }
    assert {one.group_size for one in found} == {2}


def test_padding_is_sent_too() -> None:
    """Norms of 96 over 100 ranks travel as 100, the table's 250 rows as 300."""
    found = collectives(small("llama"), SETUP, Layout(dp_shard=100), 99)
    assert of(found, "norm+lm_head")["dp_shard", "all_gather"] == (1, 2 * (300 * H + 100))


def test_weights_that_are_kept_are_gathered_once() -> None:
    kept = collectives(small("llama"), SETUP, Layout(dp_shard=2, reshard_after_forward=False), 0)
    assert by_axis(kept)["dp_shard", "all_gather"] == (5, 2 * (2 * V * H + 3 * LAYER + H))


def test_every_micro_batch_gathers_and_reduces() -> None:
    one = collectives(small("qwen3_moe"), SETUP, Layout(dp_shard=4, tp=2, ep=4), 0)
    three = collectives(small("qwen3_moe"), SETUP, Layout(dp_shard=4, tp=2, ep=4, micro_batches=3), 0)
    assert [(c.count * 3, c.size_bytes * 3) for c in one] == [(c.count, c.size_bytes) for c in three]


def test_one_type_reduces_in_that_type() -> None:
    found = by_axis(collectives(small("llama"), SETUP, Layout(dp_shard=2, mixed_precision=False), 0))
    assert found["dp_shard", "reduce_scatter"][1] == 2 * (2 * V * H + 3 * LAYER + H)


def test_replicas_sum_their_shards() -> None:
    found = by_axis(collectives(small("llama"), SETUP, Layout(dp_shard=2, dp_replicate=3), 0))
    assert found["dp_replicate", "all_reduce"] == (5, 4 * (2 * V * H + 3 * LAYER + H) // 2)


def test_replicas_alone_gather_nothing() -> None:
    found = by_axis(collectives(small("llama"), SETUP, Layout(dp_replicate=3), 0))
    assert found == {("dp_replicate", "all_reduce"): (5, 4 * (2 * V * H + 3 * LAYER + H))}


def test_a_tied_table_is_gathered_and_reduced_twice() -> None:
    found = collectives(small("llama", tie_word_embeddings=True), SETUP, Layout(dp_shard=2), 0)
    assert of(found, "lm_head") == {
        ("dp_shard", "all_gather"): (1, 2 * V * H),
        ("dp_shard", "reduce_scatter"): (1, 4 * V * H),
    }
    assert of(found, "norm+embed_tokens")["dp_shard", "all_gather"] == (1, 2 * (V * H + H))


def test_llama_3_8b_gathers_67_times() -> None:
    """32 layers and the embedding twice, norm and head once."""
    found = by_axis(collectives(published("llama-3-8b", "llama"), SETUP, Layout(dp_shard=8), 0))
    assert found["dp_shard", "all_gather"][0] == 67


def test_tensor_parallelism_sums_whole_activations() -> None:
    """Two outside the layers; in each two forward and five backward; recomputation repeats that of o_proj."""
    layout = Layout(tp=2, mixed_precision=False)
    found = by_axis(collectives(small("llama"), SETUP, layout, 0))
    assert found == {
        ("tp", "all_reduce"): (2 + 3 * 7, (2 + 3 * 7) * T * H * 2),
        ("tp", "all_gather"): (1, T * V * 2),
    }
    again = by_axis(collectives(small("llama"), FULL, layout, 0))
    assert again["tp", "all_reduce"] == (2 + 3 * 8, (2 + 3 * 8) * T * H * 2)


def test_a_gathered_vocabulary_is_padded() -> None:
    found = by_axis(collectives(small("llama"), SETUP, Layout(tp=4, mixed_precision=False), 3))
    assert found["tp", "all_gather"] == (1, T * 252 * 2)


def test_gradients_of_norms_over_heads_are_summed() -> None:
    found = of(
        collectives(small("qwen3"), SETUP, Layout(tp=2, mixed_precision=False), 0), "layers.0-2.self_attn.q_norm"
    )
    assert found == {("tp", "all_reduce"): (3, 3 * 16 * 2)}


@pytest.mark.parametrize(
    ("family", "weight_bytes", "again"),
    [("mixtral", 4, 0), ("qwen3_moe", 2, 0), ("deepseek_v2", 4, 1), ("deepseek_v3", 4, 1)],
)
def test_experts_sum_outputs_inputs_and_router_weights(family: Family, weight_bytes: int, again: int) -> None:
    """Recomputation repeats the output's sum only where shared experts run after it."""
    layout, layers = Layout(tp=2, mixed_precision=False), "layers.0-2" if family == "mixtral" else "layers.1-2"
    count = 3 if family == "mixtral" else 2
    found = collectives(small(family), FULL, layout, 0)
    size_bytes = (2 + again) * T * H * 2 + T * 2 * weight_bytes
    assert of(found, f"{layers}.mlp.experts")["tp", "all_reduce"] == (count * (3 + again), count * size_bytes)


def test_deepseek_v2_sums_latent_gradients_and_v3_none() -> None:
    layout = Layout(tp=2, mixed_precision=False)
    v2 = collectives(small("deepseek_v2", q_lora_rank=56), SETUP, layout, 0)
    widths = {"q_b_proj": 56, "kv_a_proj_with_mqa": 8, "kv_b_proj": 40, "o_proj": 96}
    for name, width in widths.items():
        assert of(v2, f"layers.0.self_attn.{name}") == {("tp", "all_reduce"): (1, T * width * 2)}
    v3 = collectives(small("deepseek_v3"), SETUP, layout, 0)
    assert [one.module for one in v3 if "self_attn" in one.module] == []


def test_dispatch_sends_each_pair_to_its_expert_and_back() -> None:
    """An int64 for each of 8 experts; T x 2 pairs of H features, there and back; the same again in backward."""
    found = by_axis(collectives(small("mixtral"), SETUP, Layout(dp_shard=4, ep=4), 0))
    assert found["ep", "all_to_all"] == (3 * 5, 3 * (8 * 8 + 4 * T * 2 * H * 2))
    again = by_axis(collectives(small("mixtral"), FULL, Layout(dp_shard=4, ep=4), 0))
    assert again["ep", "all_to_all"] == (3 * 8, 3 * (2 * 8 * 8 + 6 * T * 2 * H * 2))
    assert not any(axis == "efsdp" for axis, _ in found)  # one rank has each expert


def test_experts_are_gathered_among_the_ranks_that_share_them() -> None:
    """Over ep = 2, 4 experts a rank, on 2 ranks."""
    found = of(collectives(small("mixtral"), SETUP, Layout(dp_shard=4, ep=2), 0), "layers.0-2.mlp.experts")
    experts = 3 * 4 * 3 * 160 * 96
    assert found["efsdp", "all_gather"] == (6, 2 * experts * 2)
    assert found["efsdp", "reduce_scatter"] == (3, experts * 4)


@pytest.mark.parametrize(
    ("family", "mixed_precision", "weight_bytes", "outputs"),
    [
        ("qwen3_moe", False, 2, 1),
        ("mixtral", False, 4, 1),
        ("deepseek_v3", False, 4, 2),
        ("deepseek_v3", True, 2, 2),  # FSDP casts what enters the experts
    ],
)
def test_ranks_of_tp_share_out_tokens_and_gather_results(
    family: Family, mixed_precision: bool, weight_bytes: int, outputs: int
) -> None:
    """Forward gathers outputs, in the type of the router's weights; backward gradients of inputs and weights."""
    layers, count = ("layers.0-2", 3) if family == "mixtral" else ("layers.1-2", 2)
    layout = Layout(dp_shard=2, tp=2, ep=2, mixed_precision=mixed_precision)
    found = of(collectives(small(family), FULL, layout, 0), f"{layers}.mlp.experts")
    gathered = outputs * T * H * weight_bytes + T * H * 2 + T * 2 * weight_bytes
    assert found["tp", "all_gather"] == (count * (outputs + 2), count * gathered)
    assert found["ep", "all_to_all"] == (count * 8, count * (2 * 8 * 8 + 6 * (T // 2) * 2 * H * 2))


def test_published_models_move_what_torch_moved() -> None:
    """Bytes of all-to-alls that torch's operators moved on meta: Mixtral over 8, DeepSeek-V3 on 512 ranks over 64."""
    setup = TrainingSetup(seq_len=4096, checkpointing="full")
    mixtral = by_axis(collectives(published("mixtral-8x7b", "mixtral"), setup, Layout(dp_shard=64, ep=8), 0))
    assert mixtral["ep", "all_to_all"][1] == 12_884_905_984
    model = published("deepseek-v3", "deepseek_v3")
    assert by_axis(collectives(model, setup, Layout(dp_shard=512, ep=64), 0))["ep", "all_to_all"] == (
        464,
        163_477_430_272,
    )


def test_one_gpu_sends_nothing() -> None:
    setup, layout = SETUP, Layout(mixed_precision=False)
    check(small("llama"), setup, layout)
    assert collectives(small("llama"), setup, layout, 0) == ()


def test_volume_is_bytes_by_axis_kind_and_module() -> None:
    found = collectives(small("llama"), SETUP, Layout(dp_shard=2), 0)
    assert volume(found)["dp_shard.all_gather.embed_tokens"] == 2 * V * H * 2
    assert volume(found).total == sum(one.size_bytes for one in found)
