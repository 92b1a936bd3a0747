"""`prove`: what it reports, its status, and what it refuses before it begins."""

from __future__ import annotations

import json

import pytest

from analytic.model.params import model_params
from empirical.commands.prove import VERB as PROVE
from empirical.proof import crosscheck
from tests.commands import refusal


def test_it_passes_and_reports_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert PROVE.main(["llama-3.2-1b", "gpt2", "--seq-len", "16", "--jobs", "1", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["schema"] == "foretrain/prove/1"
    assert facts["failed"] == 0
    assert facts["passed"] == len(facts["checks"]) > 20
    assert {check["model"] for check in facts["checks"]} == {"llama-3.2-1b", "gpt2"}
    ranks = {check["quantity"] for check in facts["checks"] if check["witness"].startswith("rank of a simulated")}
    assert {quantity.partition(", ")[2] for quantity in ranks if quantity.startswith("stored bytes")} == {
        "dp_shard 8, rank 0",
        "dp_shard 512, rank 511",
        "dp_shard 2 x tp 8, rank 15",
    }
    first = facts["checks"][0]
    assert first["quantity"] == "parameters"
    assert (first["analytic"], first["measured"], first["difference"]) == (1_235_814_400, 1_235_814_400, 0)
    assert set(facts["versions"]) >= {"torch", "transformers", "fvcore"}


def test_it_fails_with_status_1_and_names_the_term(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crosscheck, "model_params", lambda spec, **k: model_params(spec, **k).times(2))
    assert PROVE.main(["gpt2", "--seq-len", "16"]) == 1
    out = capsys.readouterr().out
    assert "FAIL gpt2: parameters, transformers" in out
    assert "layers.0-11.mlp.up_proj" in out
    assert "2 failed" in out.splitlines()[-1]


def test_processes_give_the_same_as_one(capsys: pytest.CaptureFixture[str]) -> None:
    results = []
    for jobs in ("1", "2"):
        layout = ("--layout", "dp_shard=2")
        assert PROVE.main(["llama-3.2-1b", "--seq-len", "16", *layout, "--jobs", jobs, "--json"]) == 0
        results.append(json.loads(capsys.readouterr().out)["checks"])
    assert results[0] == results[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.json"], "missing.json: No such file"),
        (["llama-3.2-1b", "missing.json"], "missing.json: No such file"),
        (["llama-3.2-1b", "--seq-len", "x"], "'x': expected a number"),
        (["llama-3.2-1b", "--device", "tpu"], "device tpu: expected cuda or cpu"),
        (["gpt2", "--seq-len", "4096"], "expected at most 1024"),
        (["gpt2", "--perturb"], "--perturb: only with --sweep"),
        (["gpt2", "--sweep", "--seq-len", "8"], "--seq-len: not with --sweep"),
        (["gpt2", "--sweep", "--device", "cpu"], "--device: not with --sweep"),
        (["gpt2", "--sweep", "--train", "1"], "--train: not with --sweep"),
        (["gpt2", "--sweep", "--layouts", "all"], "--layouts: not with --sweep"),
        (["gpt2", "--sweep", "--layout", "tp=2"], "--layout: not with --sweep"),
        (["llama-3-8b", "--layouts", "all", "--layout", "dp_shard=2"], "--layouts: not with --layout"),
        (["llama-3-8b", "--layouts", "some"], "--layouts: "),
        (["llama-3-8b", "--layout", "fsdp=2"], "--layout: 'fsdp=2': expected KEY=VALUE"),
        (["llama-3-8b", "--layout", "dp_shard=2,tp=5"], "tp = 5: expected a divisor of num_attention_heads = 32"),
        (["gpt2", "--layout", "dp_shard=2"], "model_type = 'gpt2': no description"),
    ],
)
def test_it_refuses_before_it_begins(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    assert message in refusal(capsys, "prove", *arguments)
