"""Figures of `plan --json`, recomputed here by arithmetic."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from analytic.commands.plan import VERB
from analytic.io.files import configs_dir
from analytic.io.jsonc import read_jsonc

SETUP = configs_dir() / "backward_scaling_config.json"
MIXTRAL = configs_dir() / "models" / "mixtral-8x7b.json"


def facts(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, Any]:
    assert VERB.main([*argv, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def mixtral_counts(keys: dict[str, Any]) -> tuple[int, int]:
    """Total and active parameters of a Mixtral from its keys."""
    h, v, layers, ffn = (keys[key] for key in ("hidden_size", "vocab_size", "num_hidden_layers", "intermediate_size"))
    head = keys.get("head_dim") or h // keys["num_attention_heads"]
    q, kv = keys["num_attention_heads"] * head, keys["num_key_value_heads"] * head
    experts, chosen = keys["num_local_experts"], keys["num_experts_per_tok"]
    without = 2 * v * h + h + layers * (2 * h * q + 2 * h * kv + experts * h + 2 * h)
    return without + layers * experts * 3 * h * ffn, without + layers * chosen * 3 * h * ffn


def test_a_law_of_dense_models_sees_the_active_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    found = facts(capsys, "--budget", "1e6", "--kind", "moe", "--gpu", "h100=2")
    total, active = mixtral_counts(found["architecture"])
    assert (found["params"], found["params_active"], found["law_params"]) == (total, active, active)


def test_padding_is_what_the_next_multiple_of_128_adds(capsys: pytest.CaptureFixture[str]) -> None:
    found = facts(capsys, "--budget", "1e4", "--vocab-size", "50257", "--gpu", "h100=2")
    assert found["architecture"]["vocab_size"] == 393 * 128
    assert found["vocab_padding"] == 393 * 128 - 50_257


def backward(capsys: pytest.CaptureFixture[str], folder: Path, **edited: dict[str, Any]) -> dict[str, Any]:
    setup, _ = read_jsonc(SETUP)
    path = folder / "setup.json"
    path.write_text(json.dumps({**setup, **{key: {**setup[key], **value} for key, value in edited.items()}}))
    return facts(capsys, "--setup", str(path))


def test_the_active_parameters_and_days_of_a_machine(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    raw = json.loads(MIXTRAL.read_text())
    setup, _ = read_jsonc(SETUP)
    path = tmp_path / "setup.json"
    path.write_text(json.dumps({**setup, "architecture": raw}))
    found = facts(capsys, "--setup", str(path))
    assert (found["params"], found["params_active"]) == mixtral_counts(raw)
    assert found["days"] == setup["training_gear"]["available_hours"] / 24


def test_flops_per_dollar_are_those_bought_not_those_used(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """1e9 tokens seen once use little of 8 H100 for 30 days; a dollar still buys as much."""
    found = backward(capsys, tmp_path, dataset_constraints={"dataset_size": 10**9, "max_epochs": 1})
    assert found["dataset_limited"]
    (option,) = found["options"]
    assert option["flops_per_usd"] == pytest.approx(989e12 * 0.45 * 3600 / option["usd_per_gpu_hour"])
