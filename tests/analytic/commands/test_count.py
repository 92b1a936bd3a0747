"""`count`: parameters, FLOPs and memory of a model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from analytic.io.files import configs_dir, model_config_paths
from tests import commands
from tests.commands import refusal
from tests.configurations import shipped

ROOT = Path(__file__).parents[3]
DEEPSEEK_V3 = str(configs_dir() / "deepseek_v3_config.json")


def counted(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    return commands.facts(capsys, "count", *arguments)


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    return commands.printed(capsys, "count", *arguments)


def integers(value: object) -> bool:
    """Whether every number below is an int."""
    if isinstance(value, dict):
        return all(map(integers, value.values()))
    if isinstance(value, list):
        return all(map(integers, value))
    return not isinstance(value, float)


def test_json_has_every_figure_in_base_units(capsys: pytest.CaptureFixture[str]) -> None:
    facts = counted(capsys, "deepseek-v3", "--recompute", "full")
    assert (facts["schema"], facts["config"]["name"]) == ("foretrain/count/1", "deepseek_v3")
    params, flops = facts["params"], facts["flops"]
    assert integers(params)
    assert integers(flops)
    assert (params["total"], params["active"], params["buffers"]) == (671_026_404_352, 37_552_282_624, 14_848)
    assert sum(params["terms"].values()) == params["total"]
    assert params["embedding"] + params["head"] + params["non_embedding"] == params["total"]
    assert (flops["attention"], flops["batch_size"], flops["seq_len"]) == ("full", 1, 4096)
    assert flops["forward"] == sum(flops["terms"].values()) == 383_866_460_176_384
    assert flops["backward"] == 2 * flops["forward"]
    assert flops["training_per_token"] * 4096 == 3 * flops["forward"]
    assert 0 < flops["recompute_executed"] < flops["recompute"]
    assert [(run["first"], run["count"], run["kind"]) for run in flops["layers"]] == [
        (0, 3, "mla+dense"),
        (3, 58, "mla+moe"),
    ]
    head = 2 * 4096 * 7168 * 129_280
    assert sum(run["count"] * run["forward"] for run in flops["layers"]) + head == flops["forward"]
    outside = params["embedding"] + params["head"] + params["terms"]["norm"]
    assert sum(run["count"] * run["params"] for run in flops["layers"]) + outside == params["total"]


def test_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    lines = dict(line.split("  ", 1) for line in printed(capsys, "llama-7b").splitlines())
    # 3 x 29,261,612,187,648 / 2,048 tokens
    assert lines["parameters"].split() == ["6,738,415,616", "(6.74B)"]
    assert lines["training"].split()[:4] == ["42.864", "GFLOP", "a", "token,"]
    assert lines["forward"].split()[:2] == ["29.262", "TFLOP;"]


def test_a_batch_multiplies_flops_and_leaves_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    one = counted(capsys, "llama-7b", "--seq-len", "512")
    three = counted(capsys, "llama-7b", "--seq-len", "512", "--batch-size", "3")
    assert three["flops"]["forward"] == 3 * one["flops"]["forward"]
    assert three["flops"]["training_per_token"] == one["flops"]["training_per_token"]
    assert three["params"] == one["params"]


def test_attention_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert counted(capsys, "llama-7b", "--attention", "causal")["flops"]["forward"] == 28_162_637_430_784
    assert counted(capsys, "llama-7b", "--attention", "half")["flops"]["forward"] == 28_162_100_559_872


def test_mtp_option_adds_what_was_extra(capsys: pytest.CaptureFixture[str]) -> None:
    off, on = counted(capsys, "deepseek-v3"), counted(capsys, "deepseek-v3", "--mtp")
    assert on["params"]["total"] == off["params"]["total"] + off["params"]["mtp"]
    assert on["flops"]["forward"] == off["flops"]["forward"] + off["flops"]["mtp_forward"]
    assert sum(on["params"]["terms"].values()) == on["params"]["total"]
    assert sum(on["flops"]["terms"].values()) == on["flops"]["forward"]


def test_verbose_prints_zero_positions_and_the_exact_figures(capsys: pytest.CaptureFixture[str]) -> None:
    _, _, terms = printed(capsys, "llama-7b", "-v").partition("\n\n")
    counts, _, memory = terms.partition("memory, predicted for")
    assert memory.startswith(" transformers 5.23 LlamaForCausalLM")
    lines = {line.split("  ")[0] or line.strip().split()[0]: line for line in counts.splitlines() if line}
    assert lines["parameters"].split()[1:3] == ["6,738,415,616", "6.738"]
    assert lines["embed_positions"].split() == ["embed_positions", "0"]
    assert lines["forward FLOPs"].split()[2] == "29,261,612,187,648"


def test_json_has_the_memory_of_a_layer_and_a_step(capsys: pytest.CaptureFixture[str]) -> None:
    """The forward transient is the published closed form 2X + 3F; base is the layer's weights, input and tables."""
    options = ("--precision", "fp16", "--recompute", "full", "--optimizer", "none", "--micro-batch", "1")
    memory = counted(capsys, "llama-7b", *options)["memory"]
    assert memory["implementation"] == "transformers 5.23 LlamaForCausalLM"
    assert (memory["setup"]["precision"], memory["setup"]["checkpointing"]) == ("fp16", "full")
    assert memory["layer"]["forward_transient"]["total"] == 168_820_736
    assert memory["layer"]["boundary"] == 2 * 2048 * 4096
    step = memory["step"]
    assert sum(step["categories"].values()) == step["peak"] == sum(step["live"].values())
    assert step["moment"]


def test_micro_batch_is_the_batch_unless_it_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    assert counted(capsys, "llama-7b", "--batch-size", "3")["memory"]["setup"]["micro_batch"] == 3
    both = counted(capsys, "llama-7b", "--batch-size", "3", "--micro-batch", "2")
    assert both["memory"]["setup"]["micro_batch"] == 2
    assert both["flops"]["batch_size"] == 3


def test_a_model_without_a_schedule_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    memory = counted(capsys, "gpt2")["memory"]
    assert memory["implementation"] is None
    assert "GPT2LMHeadModel" in memory["reason"]
    assert "no memory schedule for GPT2LMHeadModel" in printed(capsys, "gpt2")


def test_latent_attention_takes_the_kernel_that_takes_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert counted(capsys, "deepseek-v3")["memory"]["setup"]["attention_kernel"] == "cudnn"
    assert counted(capsys, "llama-7b")["memory"]["setup"]["attention_kernel"] == "flash"
    assert counted(capsys, "llama-7b", "--precision", "fp32")["memory"]["setup"]["attention_kernel"] == "eager"


def test_a_sequence_as_long_as_the_window_has_no_schedule(capsys: pytest.CaptureFixture[str]) -> None:
    """From there on `transformers` hands attention a mask, and the fused kernels take none."""
    assert counted(capsys, "mistral-7b-v0.1", "--seq-len", "4095")["memory"]["implementation"] is not None
    memory = counted(capsys, "mistral-7b-v0.1", "--seq-len", "4k")["memory"]
    assert memory["implementation"] is None
    assert "sliding window" in memory["reason"]


def test_it_says_what_it_read_a_model_as(capsys: pytest.CaptureFixture[str]) -> None:
    assert "model_type kimi_k2 read as deepseek_v3" in printed(capsys, "kimi-k2")


def test_layers_that_alternate_are_two_rows(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, "gpt-oss-20b", "-v").splitlines()
    rows = lines[lines.index(next(line for line in lines if line.startswith("layers  "))) + 1 :][:2]
    assert [row.split("  ")[0] for row in rows] == ["0, 2, 4, ..., 22", "1, 3, 5, ..., 23"]
    assert "gqa+moe, window 128" in rows[0]
    assert "window" not in rows[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: MODEL"),
        (["llama-7b", "--attention", "flash"], "invalid choice: 'flash'"),
        (["gpt2", "--seq-len", "2048"], "--seq-len 2048: expected at most 1024, the learned positions"),
        (["gpt2", "--seq-len", "2k"], "--seq-len 2048: expected at most 1024, the learned positions"),
        (["llama-7b", "--mtp"], "states no num_nextn_predict_layers"),
        (["llama-7b", "--precision", "fp8"], "invalid choice: 'fp8'"),
        (["llama-7b", "--precision", "fp32", "--attention-kernel", "flash"], "expected eager with fp32"),
        (["deepseek-v3", "--attention-kernel", "flash"], "these have 192 for queries and 128 for values"),
        (["llama-7b", "--precision", "fp32", "--master-weights"], "fp32 parameters are their own"),
        (["missing.json"], "missing.json: No such file"),
    ],
)
def test_bad_options_are_one_line_and_status_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert message in refusal(capsys, "count", *arguments)


def test_a_reader_that_leaves_early_is_no_error() -> None:
    command = f"'{sys.executable}' -m empirical.commands.main count '{DEEPSEEK_V3}' -v | head -1"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0
    assert done.stderr == ""


def test_every_shipped_config_is_verified_by_default() -> None:
    names = {path.stem for path in model_config_paths()}
    assert names >= {
        *("llama_7b_config", "deepseek_v3_config", "llama-2-70b", "llama-3-8b", "llama-3.1-8b", "llama-3.2-1b"),
        *("mistral-7b-v0.1", "qwen2.5-7b", "qwen3-8b", "mixtral-8x7b", "qwen3-30b-a3b", "deepseek-v2-lite"),
        *("kimi-k2", "gpt2"),
    }
    assert shipped("llama_7b").default_seq_len == 2048
