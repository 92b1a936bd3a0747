"""What Megatron-Core refuses, how it cuts a pipeline, and what its ranks send: arithmetic spelled out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from analytic.errors import UsageError
from analytic.model.spec import LAYER_NORM, SANDWICH_NORM, DenseFfn, ModelSpec, Norm, QkNorm
from analytic.model.training import TrainingSetup
from analytic.parallelism.layout import Layout
from analytic.parallelism.megatron import check_megatron, end_params, stage_ranges, stages_in_flight
from analytic.parallelism.megatron_volumes import megatron_collectives
from analytic.parallelism.shapes import StackModel, padded_vocab
from tests.analytic.parallelism.stacks import (
    ATTENTION,
    DENSE,
    EXPERT,
    EXPERTS,
    LATENT,
    ROUTED,
    SHARED,
    TOP_K,
    F,
    H,
    K,
    L,
    Q,
    V,
    layout,
    model,
)

SETUP = TrainingSetup(seq_len=64, micro_batch=3)
TWO = {"tp": 2, "pp": 2, "cp": 2, "micro_batches": 4}


def all_heads_norm() -> ModelSpec:
    attention = replace(ATTENTION, qk_norm=QkNorm(span="all_heads"))
    return model(replace(DENSE, attention=attention))


REFUSED: list[tuple[str, ModelSpec, dict[str, Any], dict[str, Any], str]] = [
    ("heads", model(), {"tp": 4}, {}, "tp = 4: expected a divisor of heads = 6"),
    (
        "kv heads",
        model(replace(DENSE, attention=replace(ATTENTION, num_heads=12, num_kv_heads=4))),
        {"tp": 6},
        {"seq_len": 96},
        "4 key-value heads",
    ),
    (
        "intermediate",
        model(replace(DENSE, ffn=DenseFfn(intermediate_size=81))),
        {"tp": 2},
        {},
        "intermediate_size = 81",
    ),
    ("hidden", ModelSpec(hidden_size=49, vocab_size=V, layers=(DENSE,)), {"tp": 2}, {}, "hidden_size = 49"),
    (
        "layers",
        model(),
        {"pp": 5, "micro_batches": 5},
        {},
        "pp = 5, virtual_stages = 1: expected a product that divides",
    ),
    (
        "no layer",
        model(),
        {"pp": 6, "micro_batches": 6},
        {},
        "pp = 6, virtual_stages = 1: expected a product that divides",
    ),
    (
        "virtual stages",
        model(),
        {"pp": 2, "virtual_stages": 4, "micro_batches": 4},
        {},
        "virtual_stages = 4: expected a product",
    ),
    ("no pipeline", model(), {"virtual_stages": 2}, {}, "virtual_stages = 2: expected 1 without a pipeline"),
    (
        "rounds",
        model(),
        {"pp": 2, "virtual_stages": 2, "micro_batches": 5},
        {},
        "micro_batches = 5: expected a multiple of pp = 2",
    ),
    ("schedule", model(), {"pp": 2, "pipeline_schedule": "gpipe"}, {}, "pipeline_schedule = gpipe: expected 1f1b"),
    (
        "interleaved alone",
        model(),
        {"pp": 2, "pipeline_schedule": "interleaved-1f1b"},
        {},
        "expected 1f1b with virtual_stages = 1",
    ),
    (
        "zbv",
        model(),
        {"pp": 2, "virtual_stages": 2, "pipeline_schedule": "zbv", "micro_batches": 4},
        {},
        "pipeline_schedule = zbv",
    ),
    ("cp", model(), {"cp": 3}, {"seq_len": 64}, "cp = 3: expected 2 x cp to divide seq_len = 64"),
    ("sequence parallel", model(), {"tp": 2}, {"seq_len": 63}, "tp = 2: expected a divisor of the positions of a rank"),
    ("ep", model(ROUTED), {"ep": 3, "dp_shard": 3}, {}, "ep = 3: expected a divisor of experts = 8"),
    (
        "etp",
        model(ROUTED),
        {"etp": 5, "dp_shard": 5},
        {},
        "etp = 5: expected a divisor of the experts' intermediate_size = 24",
    ),
    ("ep without experts", model(), {"ep": 2, "dp_shard": 2}, {}, "ep = 2: expected 1, as the model has no experts"),
    ("etp without experts", model(), {"etp": 2, "dp_shard": 2}, {}, "etp = 2: expected 1, as the model has no experts"),
    ("shared experts", model(ROUTED), {"tp": 6}, {"seq_len": 96}, f"intermediate_size = {SHARED}"),
    ("fp32", model(), {}, {"precision": "fp32", "attention_kernel": "eager"}, "precision = fp32"),
    ("eager", model(), {}, {"attention_kernel": "eager"}, "attention kernel eager"),
    ("foreach", model(), {}, {"optimizer": "adamw_foreach"}, "optimizer = adamw_foreach"),
    ("ALiBi", model(has_rotary=False), {}, {}, "model with ALiBi"),
    ("embedding norm", model(embedding_norm=LAYER_NORM), {}, {}, "model with embedding_norm"),
    ("embedding size", model(embedding_size=24), {}, {}, "model with embedding_size"),
    ("final norm", model(final_norm=None), {}, {}, "model with final_norm = none"),
    ("parallel", model(replace(DENSE, parallel=True)), {}, {}, "model with parallel attention"),
    ("sandwich", model(replace(DENSE, norm_slots=SANDWICH_NORM)), {}, {}, "model with norms after attention"),
    (
        "no weights",
        model(replace(DENSE, norm=Norm(kind="layer", weight=False))),
        {},
        {},
        "model with norms without weights",
    ),
    ("all heads", all_heads_norm(), {}, {}, "model with a norm over all heads at once"),
]


@pytest.mark.parametrize(
    ("spec", "sizes", "setup", "message"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED]
)
def test_what_megatron_refuses_names_the_dimension(
    spec: ModelSpec, sizes: dict[str, Any], setup: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError) as refused:
        check_megatron(spec, replace(SETUP, **setup), layout(**sizes))
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("spec", "sizes"),
    [
        (model(), TWO),
        (model(), {"pp": 2, "virtual_stages": 2, "micro_batches": 4, "dp_replicate": 2, "dp_shard": 3}),
        (model(tie_word_embeddings=True), {"pp": 4, "micro_batches": 2}),
        (model(), {"pp": 3, "micro_batches": 3}),
        (model(ROUTED, ROUTED), {"tp": 2, "ep": 4, "dp_shard": 4}),
        (model(LATENT), {"tp": 4}),
        (model(replace(DENSE, attention=replace(ATTENTION, num_heads=8, num_kv_heads=2))), {"tp": 4}),
    ],
)
def test_what_megatron_runs_is_not_refused(spec: ModelSpec, sizes: dict[str, Any]) -> None:
    check_megatron(spec, SETUP, layout(**sizes))


def test_virtual_stages_are_as_many_layers_and_pp_apart() -> None:
    interleaved = layout(pp=2, virtual_stages=3, micro_batches=2)
    assert [stage_ranges(12, interleaved, stage) for stage in (0, 1)] == [
        [(0, 2), (4, 6), (8, 10)],
        [(2, 4), (6, 8), (10, 12)],
    ]


def test_embedding_and_head_count_as_a_layer_each_where_stages_are_uneven_without() -> None:
    pipeline = layout(pp=2, virtual_stages=2, micro_batches=2)
    # 10 layers and 2 are four stages of 3, the first and the last of which have 2 layers
    assert [stage_ranges(10, pipeline, stage) for stage in (0, 1)] == [[(0, 2), (5, 8)], [(2, 5), (8, 10)]]


def test_the_first_stage_has_pp_and_pp_less_one_over_v_micro_batches_in_flight() -> None:
    v, pp = 4, 8
    in_flight = stages_in_flight(layout(pp=pp, virtual_stages=v, micro_batches=64), 0)
    assert in_flight == v * pp + pp - 1  # of v stages each: pp + (pp - 1) / v micro-batches
    assert [stages_in_flight(Layout(pp=4, micro_batches=8), stage) for stage in range(4)] == [4, 3, 2, 1]
    assert stages_in_flight(Layout(pp=4, micro_batches=2), 0) == 2
    assert stages_in_flight(layout(pp=4, virtual_stages=2, micro_batches=4), 0) == 4 * 2


def test_both_ends_of_a_pipeline_hold_a_tied_embedding() -> None:
    table = 256 * H  # 250 padded to 128
    tied = StackModel.of(model(tie_word_embeddings=True))
    assert padded_vocab(V, 1, 128) == 256
    assert [end_params(tied, Layout(pp=2, micro_batches=2), stage) for stage in (0, 1)] == [table, table + H]
    assert end_params(tied, Layout(), 0) == table + H
    assert end_params(StackModel.of(model()), Layout(), 0) == 2 * table + H


def sent(spec: ModelSpec, one: Layout, rank: int = 0, **options: Any) -> dict[tuple[str, str, str], tuple[int, int]]:
    every = megatron_collectives(StackModel.of(spec), SETUP, one, rank, **options)
    return {(c.axis, c.kind, c.module): (c.count, c.size_bytes) for c in every}


TOKENS = 3 * 64
WHOLE = 2 * TOKENS * H  # one hidden state of a micro-batch in bf16


def test_sequence_parallelism_gathers_three_times_and_scatters_twice_a_network() -> None:
    found = sent(model(), Layout(tp=2, micro_batches=5))
    for network in ("self_attn", "mlp"):
        assert found["tp", "all_gather", f"layers.0-3.{network}"] == (3 * 4 * 5, 3 * 4 * 5 * WHOLE)
        assert found["tp", "reduce_scatter", f"layers.0-3.{network}"] == (2 * 4 * 5, 2 * 4 * 5 * WHOLE)
    assert found["tp", "reduce_scatter", "embed_tokens"] == found["tp", "all_gather", "embed_tokens"] == (5, 5 * WHOLE)
    assert found["tp", "all_gather", "lm_head"] == (10, 10 * WHOLE)
    assert found["tp", "reduce_scatter", "lm_head"] == (5, 5 * WHOLE)
    assert found["tp", "all_gather", "loss"] == (5, 5 * 3 * 4 * TOKENS * 2)
    assert found["tp", "all_reduce", "norms"] == (1, 4 * (L * 2 * H + H))
    assert len(found) == 10


def test_full_recomputation_gathers_and_scatters_once_more() -> None:
    found = sent(model(), Layout(tp=2), recompute="full")
    assert found["tp", "all_gather", "layers.0-3.mlp"] == (4 * 4, 4 * 4 * WHOLE)
    assert found["tp", "reduce_scatter", "layers.0-3.mlp"] == (3 * 4, 3 * 4 * WHOLE)


def test_latent_attention_gathers_what_is_compressed() -> None:
    found = sent(model(LATENT), Layout(tp=2))
    forward_and_again, gradient = 2, 1
    gathered = 2 * TOKENS * (forward_and_again * (20 + 12) + 6) + gradient * WHOLE
    assert found["tp", "all_gather", "layers.0.self_attn"] == (6, gathered)
    assert found["tp", "reduce_scatter", "layers.0.self_attn"] == (4, 2 * TOKENS * (20 + 12 + 6) + WHOLE)


def test_experts_exchange_rows_both_ways_and_back() -> None:
    found = sent(model(ROUTED), Layout(tp=2, dp_shard=8, ep=4, micro_batches=5))
    one = 2 * (TOKENS // 2) * TOP_K * H
    assert found["ep", "all_to_all", "layers.0.mlp.experts"] == (4 * 5, 4 * 5 * one)
    again = sent(model(ROUTED), Layout(tp=2, dp_shard=8, ep=4), recompute="full")
    assert again["ep", "all_to_all", "layers.0.mlp.experts"] == (6, 6 * one)
    split = sent(model(ROUTED), Layout(dp_shard=8, ep=4, etp=2))
    rows = 2 * TOKENS * TOP_K * 2 * H
    assert split["etp", "all_gather", "layers.0.mlp.experts"] == (2, 2 * rows)
    assert split["etp", "reduce_scatter", "layers.0.mlp.experts"] == (2, 2 * rows)


def test_keys_and_values_go_around_a_ring_with_their_gradients() -> None:
    found = sent(model(), Layout(cp=4, micro_batches=5))
    one = 2 * (TOKENS // 4) * 2 * K
    assert found["cp", "send", "layers.0-3.self_attn"] == (L * 5 * 3 * 3, L * 5 * 3 * 3 * one)
    assert found["cp", "send", "layers.0-3.self_attn"] == found["cp", "recv", "layers.0-3.self_attn"]
    again = sent(model(), Layout(cp=4), recompute="selective")
    assert again["cp", "send", "layers.0-3.self_attn"] == (L * 4 * 3, L * 4 * 3 * one)


@pytest.mark.parametrize("virtual_stages", [1, 2])
def test_what_a_pipeline_sends_it_receives(virtual_stages: int) -> None:
    pipeline = layout(pp=2, tp=2, virtual_stages=virtual_stages, micro_batches=4)
    ends = [sent(model(), pipeline, rank)["pp", kind, "hidden_states"] for rank in (0, 2) for kind in ("send", "recv")]
    boundaries = 2 * virtual_stages - 1  # each crossed forward and back by each of four micro-batches
    assert sum(count for count, _ in ends) == 2 * (2 * 4 * boundaries)
    assert sum(size for _, size in ends) == 2 * (2 * 4 * boundaries) * WHOLE // 2


def test_zero_1_scatters_fp32_gradients_and_gathers_16_bit_parameters() -> None:
    split = H * (Q + 2 * K) + Q * H + 3 * H * F
    dense = L * (2 * H + split // 2) + 2 * (256 // 2) * H + H
    found = sent(model(), Layout(dp_replicate=2, dp_shard=3, cp=2, tp=2))
    assert found["dp_shard", "reduce_scatter", "gradients"] == (1, 4 * dense)
    assert found["dp_shard", "all_gather", "parameters"] == (1, 2 * dense)
    assert found["dp_replicate", "all_reduce", "gradients"] == (1, 4 * -(-dense // 6))


def test_gradients_are_reduced_in_16_bits_without_mixed_precision() -> None:
    mixed, half = (sent(model(), Layout(dp_shard=3, tp=2, mixed_precision=mixed)) for mixed in (True, False))
    assert half["dp_shard", "reduce_scatter", "gradients"][1] * 2 == mixed["dp_shard", "reduce_scatter", "gradients"][1]
    assert half["dp_shard", "all_gather", "parameters"] == mixed["dp_shard", "all_gather", "parameters"]
    assert half["tp", "all_reduce", "norms"] == (1, 2 * (L * 2 * H + H))


def test_experts_are_reduced_among_the_ranks_that_share_them() -> None:
    found = sent(model(ROUTED), Layout(dp_shard=8, ep=4))
    experts = EXPERTS * 3 * H * EXPERT // 4
    groups = {
        (c.axis, c.kind): c.group_size
        for c in megatron_collectives(StackModel.of(model(ROUTED)), SETUP, Layout(dp_shard=8, ep=4), 0)
    }
    assert found["efsdp", "reduce_scatter", "gradients.experts"] == (1, 4 * experts)
    assert found["efsdp", "all_gather", "parameters.experts"] == (1, 2 * experts)
    assert (groups["efsdp", "all_gather"], groups["dp_shard", "all_gather"], groups["ep", "all_to_all"]) == (2, 8, 4)


def test_a_tied_head_sums_its_gradient_over_both_ends() -> None:
    found = sent(model(tie_word_embeddings=True), Layout(pp=2, micro_batches=2))
    assert found["pp", "all_reduce", "embed_tokens"] == (1, 4 * 256 * H)
    assert ("pp", "all_reduce", "embed_tokens") not in sent(model(), Layout(pp=2, micro_batches=2))
