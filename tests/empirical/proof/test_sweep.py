"""The sweep over the registry of `transformers`: what it calls exact, refused and wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, cast

import pytest

from analytic.huggingface.families import FAMILIES, Family
from analytic.huggingface.families.common import Described
from analytic.io.keys import Keys
from analytic.model import params
from analytic.model.spec import Attention
from empirical.commands.prove import VERB as PROVE
from empirical.proof import sweep
from empirical.proof.crosscheck import verify
from tests.configurations import parsed

# What the classes of this list leave out, and sizes that leave no two terms equal.
UNSHIPPED: dict[str, dict[str, Any]] = {
    "arcee": {},
    "codegen": {"n_head": 4},
    "glm4_moe_lite": {"num_key_value_heads": 6, "head_dim": 64, "n_shared_experts": 2},
    "gpt-sw3": {},
    "gpt_neo": {
        "attention_types": [[["global", "local"], 1]],
        "attention_layers": ["global", "local"],
        "num_layers": 2,
    },
    "gptj": {"n_inner": 55},
    "granitemoeshared": {"shared_intermediate_size": 39},
    "helium": {"head_dim": 16},
    "hunyuan_v1_dense": {"attention_bias": True},
    "hunyuan_v1_moe": {"num_experts": 5, "moe_topk": [2, 3], "num_shared_expert": [1, 1], "head_dim": 24},
    "internlm3": {},
    "iquestcoder": {"attention_bias": True},
    "jais2": {"mlp_bias": False},
    "ministral": {"sliding_window": 5},
    "ministral3": {},
    "mpt": {},
    "nemotron": {"mlp_bias": True},
    "persimmon": {"head_dim": 16},
    "seed_oss": {"attention_out_bias": True},
    "xglm": {},
    "youtu": {"num_key_value_heads": 6, "head_dim": 64},
}
SMALL = (
    {key: 96 for key in ("hidden_size", "n_embd", "d_model")}
    | {key: 6 for key in ("num_attention_heads", "n_head", "n_heads", "attention_heads", "num_heads")}
    | {key: 57 for key in ("intermediate_size", "ffn_dim")}
    | {key: 64 for key in ("max_position_embeddings", "n_positions")}
    | {"num_key_value_heads": 2, "head_dim": 24, "rotary_dim": 6, "vocab_size": 101, "pad_token_id": None}
)


def swept(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    status = PROVE.main(["--sweep", *arguments, "--jobs", "1", "--json"])
    facts = json.loads(capsys.readouterr().out)
    assert facts["schema"] == "foretrain/sweep/1"
    outcomes: list[dict[str, Any]] = facts["outcomes"]
    return status, outcomes


def test_the_registry_holds_every_family() -> None:
    assert set(sweep.registry()) >= set(FAMILIES)


@pytest.mark.parametrize("model_type", UNSHIPPED)
def test_a_small_model_of_a_family_that_no_shipped_configuration_is_of_agrees(model_type: str) -> None:
    keys = sweep.default_keys(model_type, num_layers=2)
    keys |= {key: value for key, value in SMALL.items() if key in keys} | UNSHIPPED[model_type]
    if model_type.startswith("hunyuan"):  # as Tencent's files spell it
        keys["attention_head_dim"] = keys.pop("head_dim")
    checks = list(verify(parsed(keys), 7))
    assert [check for check in checks if check.status == "fail"] == []
    assert {"transformers, fvcore x2", "transformers, FlopCounterMode"} <= {check.witness for check in checks}


def test_exact_refused_and_unbuildable_are_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    status, facts = swept(capsys, "llama", "mamba", "deepseek_v2", "nemotron")
    assert status == 0
    assert [(fact["model_type"], fact["verdict"]) for fact in facts] == [
        ("llama", "exact"),
        ("mamba", "refused"),
        ("deepseek_v2", "refused"),
        ("nemotron", "cannot be built"),
    ]
    assert facts[0]["parameters"] == 6_738_415_616  # Llama-7B's, which LlamaConfig defaults to
    assert facts[1]["reason"].startswith("model_type = 'mamba': expected one of ")
    assert facts[2]["reason"].startswith("num_experts_per_tok = null: expected an integer")
    assert "NoneType" in facts[3]["reason"]  # what transformers says of num_key_value_heads


def forget_the_output_projection(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(a: Attention, hidden_size: int) -> dict[str, int]:
        return right(a, hidden_size) | {"o_proj": 0}

    right = params.attention_matrices
    monkeypatch.setattr(params, "attention_matrices", wrong)


def test_a_wrong_formula_is_wrong_with_its_terms_and_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    forget_the_output_projection(monkeypatch)
    status, (fact,) = swept(capsys, "gpt2")
    assert (status, fact["verdict"]) == (1, "wrong")
    assert fact["terms"]["parameters, layers.0-11.self_attn.o_proj"] == [0, 12 * 768 * 768]


def test_the_table_closes_with_the_totals(capsys: pytest.CaptureFixture[str]) -> None:
    assert PROVE.main(["--sweep", "gpt2", "mamba", "--jobs", "1"]) == 0
    out, progress = capsys.readouterr()
    assert out.splitlines()[-1] == (
        "2 configurations: 1 exact, 0 parameters only, 1 refused, 0 cannot be built, 0 wrong"
    )
    assert "1 of 2: gpt2" in progress


def test_an_interrupted_sweep_prints_what_was_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(model_type: str) -> list[sweep.Outcome]:
        if model_type == "gpt2":
            raise KeyboardInterrupt
        return [sweep.Outcome(model_type=model_type, verdict="exact")]

    monkeypatch.setattr(sweep, "default_outcomes", interrupted)
    assert PROVE.main(["--sweep", "llama", "gpt2", "mamba", "--jobs", "1"]) == 130
    assert capsys.readouterr().out.splitlines()[-1].startswith("1 configurations: 1 exact")


def test_flops_that_no_witness_counts_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("empirical.witnesses.flops.ZERO_FLOP_OPERATORS", frozenset())
    (outcome,) = sweep.default_outcomes("gpt2")
    assert outcome.verdict == "parameters only"
    assert "forward FLOPs, transformers, fvcore x2: UncountedOperatorError" in outcome.reason


def test_a_parser_that_overlooks_a_key_is_found_by_changing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    right = FAMILIES["gpt2"].parse

    def overlooks_n_inner(keys: Keys) -> Described:
        return right(Keys({**keys.config, "n_inner": None}, keys.derived))

    overlooking = replace(FAMILIES["gpt2"], parse=overlooks_n_inner)
    monkeypatch.setitem(cast("dict[str, Family]", FAMILIES), "gpt2", overlooking)
    wrong = {o.change for o in sweep.perturbed_outcomes("gpt2") if o.verdict == "wrong"}
    assert wrong == {"n_inner = 1", "n_inner = 4", "n_inner = 16"}


@pytest.mark.parametrize("arguments", [["no_such_type"], ["--perturb", "mamba"], ["--jobs", "0"]])
def test_bad_arguments_are_one_line_and_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert PROVE.main(["--sweep", *arguments]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
