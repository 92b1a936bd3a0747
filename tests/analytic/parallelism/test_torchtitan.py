"""What torchtitan refuses, how it cuts a pipeline, and what its ranks send: arithmetic spelled out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from analytic.errors import UsageError
from analytic.model.spec import LAYER_NORM, DenseFfn, ModelSpec
from analytic.model.training import TrainingSetup
from analytic.parallelism.layout import Layout
from analytic.parallelism.shapes import StackModel
from analytic.parallelism.torchtitan import check_torchtitan, end_params, last_rank, stage_ranges
from analytic.parallelism.torchtitan_volumes import torchtitan_collectives
from tests.analytic.parallelism.stacks import ATTENTION, DENSE, LATENT, ROUTED, F, H, K, L, Q, V, layout, model

SETUP = TrainingSetup(seq_len=64, micro_batch=3)
TOKENS = 3 * 64
WHOLE = 2 * TOKENS * H
LAYER = 2 * H + H * (Q + 2 * K) + Q * H + 3 * H * F

REFUSED: list[tuple[str, ModelSpec, dict[str, Any], dict[str, Any], str]] = [
    ("heads", model(), {"tp": 4}, {}, "tp = 4: expected a divisor of heads = 6"),
    ("kv heads", model(), {"tp": 3}, {}, "tp = 3: expected a divisor of key-value heads = 2"),
    ("cp", model(), {"cp": 3}, {}, "cp = 3: expected 2 x cp to divide seq_len = 64"),
    ("sequence parallel", model(), {"tp": 2}, {"seq_len": 63}, "tp = 2: expected a divisor of the positions of a rank"),
    ("ep", model(), {"ep": 2, "dp_shard": 2}, {}, "ep = 2: expected 1"),
    ("etp", model(), {"etp": 2, "dp_shard": 2}, {}, "etp = 2: expected 1"),
    ("DDP", model(), {"dp_replicate": 2}, {}, "dp_replicate = 2: expected dp_shard > 1"),
    (
        "tied",
        model(tie_word_embeddings=True),
        {"pp": 2, "micro_batches": 2},
        {},
        "pp = 2: expected 1, as the embedding",
    ),
    (
        "stages",
        model(),
        {"pp": 4, "micro_batches": 4},
        {},
        "pp = 4, virtual_stages = 1: expected a product of at most 3",
    ),
    ("no pipeline", model(), {"virtual_stages": 2}, {}, "virtual_stages = 2: expected 1 without a pipeline"),
    ("too few", model(), {"pp": 2}, {}, "micro_batches = 1: expected at least pp = 2"),
    ("single", model(), {"pp": 2, "pipeline_schedule": "looped-bfs"}, {}, "virtual_stages = 1: expected at least 2"),
    ("experts", model(ROUTED), {}, {}, "layers gqa+moe"),
    ("latent", model(LATENT), {}, {}, "layers mla+dense"),
    ("biases", model(replace(DENSE, attention=replace(ATTENTION, qkv_bias=True))), {}, {}, "layers gqa+dense"),
    ("layer norm", model(replace(DENSE, norm=LAYER_NORM)), {}, {}, "layers gqa+dense"),
    ("not gated", model(replace(DENSE, ffn=DenseFfn(intermediate_size=F, gated=False))), {}, {}, "layers gqa+dense"),
    ("window", model(replace(DENSE, attention=replace(ATTENTION, sliding_window=8))), {}, {}, "layers gqa+dense"),
    ("positions", model(num_positions=64, has_rotary=False), {}, {}, "embeddings of positions"),
    ("embedding norm", model(embedding_norm=LAYER_NORM), {}, {}, "embedding_norm"),
    ("embedding size", model(embedding_size=24), {}, {}, "embedding_size"),
    ("final norm", model(final_norm=None), {}, {}, "final_norm = none"),
    ("fp16", model(), {}, {"precision": "fp16"}, "precision = fp16: expected bf16"),
    ("eager", model(), {}, {"attention_kernel": "eager"}, "attention kernel eager"),
]


@pytest.mark.parametrize(
    ("spec", "sizes", "setup", "message"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED]
)
def test_what_torchtitan_refuses_names_the_dimension(
    spec: ModelSpec, sizes: dict[str, Any], setup: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError) as refused:
        check_torchtitan(spec, replace(SETUP, **setup), layout(**sizes))
    assert message in str(refused.value)


@pytest.mark.parametrize(
    "sizes",
    [
        {"tp": 2, "pp": 3, "cp": 2, "micro_batches": 4},
        {"dp_replicate": 2, "dp_shard": 3},
        {"dp_shard": 2, "pp": 2, "virtual_stages": 1, "pipeline_schedule": "gpipe", "micro_batches": 1},
    ],
)
def test_what_torchtitan_runs_is_not_refused(sizes: dict[str, Any]) -> None:
    check_torchtitan(model(), SETUP, layout(**sizes))
    check_torchtitan(model(tie_word_embeddings=True), SETUP, Layout(dp_shard=4, tp=2))
    check_torchtitan(
        model(*(DENSE,) * 6),
        SETUP,
        layout(dp_shard=2, pp=2, virtual_stages=2, pipeline_schedule="zbv", micro_batches=4),
    )


def test_embedding_and_head_count_as_a_layer_each() -> None:
    pipeline = layout(pp=2, virtual_stages=2, micro_batches=2)
    # 12 layers and 2 are 14: stages of 4, 4, 3 and 3, of which the first and the last have one layer less
    assert [stage_ranges(12, pipeline, rank) for rank in (0, 1)] == [[(0, 3), (7, 10)], [(3, 7), (10, 12)]]
    assert stage_ranges(12, Layout(), 0) == [(0, 12)]


def test_a_v_shaped_schedule_ends_where_it_began() -> None:
    v_shaped = layout(pp=2, virtual_stages=2, pipeline_schedule="zbv", micro_batches=4)
    assert stage_ranges(12, v_shaped, 0) == [(0, 3), (10, 12)]
    assert last_rank(v_shaped) == 0
    assert end_params(StackModel.of(model()), v_shaped, 0) == 2 * V * H + H
    assert end_params(StackModel.of(model()), v_shaped, 1) == 0


def sent(
    one: Layout, rank: int = 0, spec: ModelSpec | None = None, **options: Any
) -> dict[tuple[str, ...], tuple[int, int]]:
    every = torchtitan_collectives(StackModel.of(spec or model()), SETUP, one, rank, **options)
    return {(c.axis, c.kind, c.module): (c.count, c.size_bytes) for c in every}


def test_fsdp_gathers_twice_but_the_last_layer_and_the_root() -> None:
    found = sent(Layout(dp_replicate=2, dp_shard=4, micro_batches=5))
    root = 2 * V * H + H  # rounded up to four shards of each group
    padded = -(-root // 4) * 4
    assert found["dp_shard", "all_gather", "layers.0-3"] == (7 * 5, 7 * 5 * 2 * LAYER)
    assert found["dp_shard", "reduce_scatter", "layers.0-3"] == (4 * 5, 4 * 5 * 4 * LAYER)
    assert found["dp_shard", "all_gather", "root"] == (5, 5 * 2 * padded)
    assert found["dp_shard", "reduce_scatter", "root"] == (5, 5 * 4 * padded)
    assert found["dp_replicate", "all_reduce", "layers.0-3"] == (4 * 5, 4 * 5 * 4 * LAYER // 4)
    in_one_type = sent(Layout(dp_shard=4, mixed_precision=False))
    assert in_one_type["dp_shard", "reduce_scatter", "layers.0-3"] == (4, 4 * 2 * LAYER)


def test_with_a_pipeline_parameters_are_gathered_once_a_step() -> None:
    found = sent(Layout(dp_shard=4, pp=2, micro_batches=6))
    assert found["dp_shard", "all_gather", "layers.0-1"] == (2, 2 * 2 * LAYER)
    assert found["dp_shard", "reduce_scatter", "layers.0-1"] == (2, 2 * 4 * LAYER)
    assert found["pp", "send", "hidden_states"] == found["pp", "recv", "hidden_states"] == (6, 6 * WHOLE)


def test_a_v_shaped_pipeline_sends_nothing_where_it_turns() -> None:
    v_shaped = layout(pp=2, virtual_stages=2, pipeline_schedule="zbv", micro_batches=4)
    spec = model(*(DENSE,) * 6)
    # stages 0 and 3 are on rank 0, 1 and 2 on rank 1: it sends 0 to 1 and 3 to 2, once for each of four micro-batches
    assert sent(v_shaped, 0, spec)["pp", "send", "hidden_states"] == (2 * 4, 2 * 4 * WHOLE)
    assert sent(v_shaped, 1, spec)["pp", "send", "hidden_states"] == (2 * 4, 2 * 4 * WHOLE)


@pytest.mark.parametrize(("recompute", "gathers", "scatters"), [("none", 4, 4), ("selective", 6, 4), ("full", 6, 5)])
def test_sequence_parallelism_gathers_and_scatters(recompute: Any, gathers: int, scatters: int) -> None:
    found = sent(Layout(tp=2, micro_batches=5), recompute=recompute)
    assert found["tp", "all_gather", "layers.0-3"] == (gathers * L * 5, gathers * L * 5 * WHOLE)
    assert found["tp", "reduce_scatter", "layers.0-3"] == (scatters * L * 5, scatters * L * 5 * WHOLE)
    assert found["tp", "all_reduce", "layers.0-3"] == (L * 5, L * 5 * 2 * 2 * H)
    assert found["tp", "all_gather", "lm_head"] == found["tp", "reduce_scatter", "embed_tokens"] == (5, 5 * WHOLE)
    assert found["tp", "all_reduce", "loss"] == (15, 15 * 4 * TOKENS)
    assert found["tp", "all_reduce", "norm"] == (5, 5 * 2 * H)


@pytest.mark.parametrize(("recompute", "passes"), [("none", 2), ("selective", 2), ("full", 3)])
def test_keys_and_values_are_gathered_and_their_gradients_rotate(recompute: Any, passes: int) -> None:
    found = sent(Layout(cp=4, micro_batches=5), recompute=recompute)
    shard = 2 * (TOKENS // 4) * 2 * K
    assert found["cp", "all_gather", "layers.0-3.self_attn"] == (L * 5 * passes, L * 5 * passes * 4 * shard)
    assert found["cp", "all_to_all", "layers.0-3.self_attn"] == (L * 5 * 4, L * 5 * 4 * 2 * shard)
