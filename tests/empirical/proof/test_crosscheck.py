"""Formula = our torch model = `transformers`, on random small models of every attention and feed-forward kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analytic.huggingface.weight_names import LLAMA
from analytic.model import flops, params
from analytic.model.breakdown import Breakdown
from analytic.model.spec import DenseFfn, GroupedQueryAttention, LatentAttention, MoeFfn
from empirical.models import build
from empirical.models.layers import supported
from empirical.models.names import by_run, term_of
from empirical.proof import crosscheck
from empirical.proof.check import Check
from empirical.proof.crosscheck import verify
from tests.configurations import EVERY_FAMILY, parsed, shipped
from tests.empirical.models.test_layers import DENSE

SEQ_LEN = 7


def failures(checks: Iterator[Check]) -> list[Check]:
    return [check for check in checks if check.status == "fail"]


@pytest.mark.parametrize("family", EVERY_FAMILY)
def test_random_models_agree_in_every_figure(family: str) -> None:
    @settings(max_examples=2, suppress_health_check=[HealthCheck.too_slow])
    @given(raw=EVERY_FAMILY[family])
    def agree(raw: dict[str, Any]) -> None:
        config = parsed(raw)
        checks = list(verify(config, SEQ_LEN))
        assert failures(iter(checks)) == []
        witnesses = {(check.quantity, check.witness) for check in checks}
        for counter in ("fvcore x2", "FlopCounterMode"):
            assert ("forward FLOPs", f"transformers, {counter}") in witnesses
        assert ("parameters", "transformers") in witnesses
        assert (("parameters", "our layers") in witnesses) == supported(config.spec)

    agree()


@pytest.mark.parametrize("family", EVERY_FAMILY)
def test_random_parameters_agree(family: str) -> None:
    """Many more draws of the cheap half: parameters and buffers alone."""

    @settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
    @given(raw=EVERY_FAMILY[family])
    def agree(raw: dict[str, Any]) -> None:
        config = parsed(raw)
        for source in build.sources(config):
            checks = list(crosscheck._check_params(config, source))
            assert len(checks) == 3
            assert failures(iter(checks)) == []

    agree()


def test_a_published_model_agrees_and_every_witness_testified() -> None:
    checks = list(verify(shipped("deepseek-v2-lite"), 128))
    assert failures(iter(checks)) == []
    assert {check.witness for check in checks if check.quantity == "forward FLOPs"} == {
        "transformers, fvcore x2",
        "transformers, FlopCounterMode",
    }
    layer_checks = [check for check in checks if check.quantity.startswith("forward FLOPs, layer")]
    assert len(layer_checks) == 2 * 2 * 2 * 2  # dense and MoE, sdpa and eager, two implementations, two counters


ROTARY: dict[str, dict[str, Any]] = {
    "dynamic": {"type": "dynamic", "factor": 2.0},
    "linear": {"rope_type": "linear", "factor": 4.0},
    "longrope": {
        "type": "longrope",
        "factor": 4.0,
        "short_factor": [1.0] * 8,
        "long_factor": [2.0] * 8,
        "original_max_position_embeddings": 32,
    },
}


@pytest.mark.parametrize("kind", ROTARY)
def test_rotary_scaling_changes_no_count(kind: str) -> None:
    config = parsed(DENSE | {"model_type": "llama", "rope_scaling": ROTARY[kind]})
    assert config.numerics.rope_type == kind
    assert failures(verify(config, SEQ_LEN)) == []


PHIMOE = {"model_type": "phimoe", "num_local_experts": 4, "num_experts_per_tok": 2}
MSCALES = {"short_mscale": 1.2, "long_mscale": 1.2}
DOTS1 = {
    "model_type": "dots1",
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_shared_experts": 1,
    "moe_intermediate_size": 24,
    "first_k_dense_replace": 1,
}


@pytest.mark.parametrize(
    "options",
    [
        PHIMOE | {"rope_scaling": ROTARY["longrope"] | MSCALES},
        DOTS1 | {"n_group": None, "topk_group": None},
        {
            "model_type": "phi3",
            "rope_scaling": {"type": "su", "short_factor": [1.0] * 8, "long_factor": [2.0] * 8},
            "pad_token_id": None,
        },
    ],
)
def test_how_published_files_scale_rotary_embeddings_and_leave_out_groups_changes_no_count(
    options: dict[str, Any],
) -> None:
    assert failures(verify(parsed(DENSE | options), SEQ_LEN)) == []


@pytest.mark.parametrize(
    "options",
    [
        {"model_type": "llama", "attention_dropout": 0.1},
        {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2, "router_jitter_noise": 0.1},
    ],
)
def test_what_training_does_at_random_is_counted_and_its_memory_is_not_predicted(options: dict[str, Any]) -> None:
    checks = list(verify(parsed(DENSE | options), SEQ_LEN))
    assert failures(iter(checks)) == []
    assert not [check for check in checks if "bytes" in check.quantity]


@pytest.mark.parametrize("name", ["llama-3.2-1b", "deepseek-v2-lite"])
def test_our_whole_model_takes_the_same_flops(name: str) -> None:
    config = shipped(name)
    (_, ours) = build.sources(config)
    checks = list(crosscheck._check_model(config, ours, 64))
    assert [check.quantity for check in checks] == ["forward FLOPs", "forward FLOPs", "backward FLOPs"]
    assert failures(iter(checks)) == []


# Formulas made wrong on purpose: the check must fail and name the term.

Wrong = Callable[[pytest.MonkeyPatch], None]


def drop_the_gate_projection(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(f: DenseFfn, hidden_size: int) -> dict[str, int]:
        return {key: value for key, value in right(f, hidden_size).items() if key != "gate_proj"}

    right = params.dense_matrices
    monkeypatch.setattr(params, "dense_matrices", wrong)
    monkeypatch.setattr(flops, "dense_matrices", wrong)


def double_the_output_projection(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(a: GroupedQueryAttention | LatentAttention, hidden_size: int) -> dict[str, int]:
        terms = right(a, hidden_size)
        return terms | {"o_proj": 2 * terms["o_proj"]}

    right = params.attention_matrices
    monkeypatch.setattr(params, "attention_matrices", wrong)
    monkeypatch.setattr(flops, "attention_matrices", wrong)


def take_grouped_queries_for_multi_head(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(a: GroupedQueryAttention | LatentAttention, hidden_size: int) -> dict[str, int]:
        if isinstance(a, GroupedQueryAttention):
            a = replace(a, num_kv_heads=a.num_heads)
        return right(a, hidden_size)

    right = params.attention_matrices
    monkeypatch.setattr(params, "attention_matrices", wrong)
    monkeypatch.setattr(flops, "attention_matrices", wrong)


def forget_the_output_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flops, "head_flops", lambda spec, seq_len: Breakdown("flops", {"lm_head": 0}))


def count_every_expert(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(f: MoeFfn, hidden_size: int, num_experts: int) -> dict[str, int]:
        return right(f, hidden_size, f.num_experts)

    right = params.expert_matrices
    monkeypatch.setattr(flops, "expert_matrices", wrong)


def give_each_head_the_whole_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mistake of the document that this project started from: 2 a S H instead of 4 S H a layer and token."""
    wrong = property(lambda a: a.num_heads * a.num_heads * a.head_dim)
    monkeypatch.setattr(GroupedQueryAttention, "score_width", wrong)


@pytest.mark.parametrize(
    ("model", "wrong", "term"),
    [
        ("llama-3.2-1b", drop_the_gate_projection, "layers.0-15.mlp.gate_proj"),
        ("llama-3.2-1b", double_the_output_projection, "layers.0-15.self_attn.o_proj"),
        ("llama-3.2-1b", take_grouped_queries_for_multi_head, "layers.0-15.self_attn.k_proj"),
        ("llama-3.2-1b", forget_the_output_head, "lm_head"),
        ("llama-3.2-1b", give_each_head_the_whole_width, "layers.0-15.self_attn"),
        ("deepseek-v2-lite", count_every_expert, "layers.1-26.mlp.experts"),
        ("deepseek-v2-lite", drop_the_gate_projection, "layers.1-26.mlp.shared_experts.gate_proj"),
        ("gpt2", double_the_output_projection, "layers.0-11.self_attn.o_proj"),
    ],
)
def test_a_wrong_formula_is_caught_and_the_term_named(
    monkeypatch: pytest.MonkeyPatch, model: str, wrong: Wrong, term: str
) -> None:
    config = shipped(model)
    wrong(monkeypatch)
    named = {key for check in failures(verify(config, SEQ_LEN)) for key in check.terms}
    assert term in named


def test_a_layer_unlike_its_run_cannot_hide_in_the_sum() -> None:
    """Two layers that are wrong by opposite amounts: the sum is right, and both are named."""
    spec = shipped("llama-3.2-1b").spec
    paths = {f"model.layers.{i}.mlp.up_proj.weight": 100 for i in range(16)}
    paths["model.layers.3.mlp.up_proj.weight"] += 7
    paths["model.layers.9.mlp.up_proj.weight"] -= 7
    counted = by_run("params", spec, ((term_of(path, LLAMA), n) for path, n in paths.items()))
    differences = counted.differences(Breakdown("params", {"layers.0-15.mlp.up_proj": 1600}))
    assert counted.total == 1600
    assert differences["layers.3.mlp.up_proj"] == (0, 107)
    assert differences["layers.9.mlp.up_proj"] == (0, 93)


def test_a_parameter_without_a_term_fails_by_its_path() -> None:
    spec = shipped("llama-3.2-1b").spec
    counted = by_run("params", spec, [(term_of("model.layers.0.self_attn.gate", LLAMA), 32)])
    assert "model.layers.0.self_attn.gate (no such term)" in counted.differences(Breakdown("params", {}))


def test_a_witness_that_breaks_is_a_failed_check(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise RuntimeError("no such class")

    monkeypatch.setattr(build, "transformers_model", broken)
    checks = list(verify(shipped("llama-3.2-1b"), SEQ_LEN))
    failed = failures(iter(checks))
    assert failed
    assert all(check.measured is None and check.error == "RuntimeError: no such class" for check in failed)
    assert all(check.status == "pass" for check in checks if check.witness.startswith("our layers"))


@settings(max_examples=30)
@given(seq_len=st.integers(1, 40), window=st.one_of(st.none(), st.integers(1, 50)))
def test_causal_pairs_are_those_of_the_mask(seq_len: int, window: int | None) -> None:
    seen = sum(1 for q in range(seq_len) for k in range(q + 1) if window is None or q - k < window)
    assert flops.doubled_pairs(seq_len, "causal", window) == 2 * seen
    assert flops.doubled_pairs(seq_len, "full", window) == 2 * seq_len**2
