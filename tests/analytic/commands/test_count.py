"""The commands as their users meet them: options, streams, exit status, JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from analytic.commands import count as cli
from analytic.huggingface.families import FAMILIES, SAME_WEIGHTS_AS
from analytic.io.files import configs_dir, model_config_paths
from analytic.model.params import model_params
from empirical.commands import prove as empirical_cli
from empirical.proof import crosscheck
from tests.configurations import shipped

LLAMA_7B = str(configs_dir() / "llama_7b_config.json")
DEEPSEEK_V3 = str(configs_dir() / "deepseek_v3_config.json")
LLAMA_1B = str(configs_dir() / "models" / "llama-3.2-1b.json")
GPT2 = str(configs_dir() / "models" / "gpt2.json")
SCRIPTS = Path(__file__).parents[3] / "scripts"


def counted(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert cli.count([*arguments, "--json"]) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def integers(value: object) -> bool:
    """Whether every number below is an int."""
    if isinstance(value, dict):
        return all(map(integers, value.values()))
    if isinstance(value, list):
        return all(map(integers, value))
    return not isinstance(value, float)


def test_count_json_has_every_figure_in_base_units(capsys: pytest.CaptureFixture[str]) -> None:
    facts = counted(capsys, DEEPSEEK_V3, "--checkpointing", "full")
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


def test_a_batch_multiplies_flops_and_leaves_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    one = counted(capsys, LLAMA_7B, "--seq-len", "512")
    three = counted(capsys, LLAMA_7B, "--seq-len", "512", "--batch-size", "3")
    assert three["flops"]["forward"] == 3 * one["flops"]["forward"]
    assert three["flops"]["training_per_token"] == one["flops"]["training_per_token"]
    assert three["params"] == one["params"]


def test_attention_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert counted(capsys, LLAMA_7B, "--attention", "causal")["flops"]["forward"] == 28_162_637_430_784
    assert counted(capsys, LLAMA_7B, "--attention", "half")["flops"]["forward"] == 28_162_100_559_872


def test_mtp_option_adds_what_was_extra(capsys: pytest.CaptureFixture[str]) -> None:
    off, on = counted(capsys, DEEPSEEK_V3), counted(capsys, DEEPSEEK_V3, "--mtp")
    assert on["params"]["total"] == off["params"]["total"] + off["params"]["mtp"]
    assert on["flops"]["forward"] == off["flops"]["forward"] + off["flops"]["mtp_forward"]
    assert sum(on["params"]["terms"].values()) == on["params"]["total"]
    assert sum(on["flops"]["terms"].values()) == on["flops"]["forward"]


def test_count_text_prints_zero_positions_and_the_exact_figures(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.count([LLAMA_7B]) == 0
    counts, _, memory = capsys.readouterr().out.partition("memory, predicted for")
    assert memory.startswith(" transformers 5.23 LlamaForCausalLM")
    lines = {line.split("  ")[0] or line.strip().split()[0]: line for line in counts.splitlines() if line}
    assert lines["parameters"].split()[1:3] == ["6,738,415,616", "6.738"]
    assert lines["embed_positions"].split() == ["embed_positions", "0"]
    assert lines["forward FLOPs"].split()[2] == "29,261,612,187,648"


def test_count_json_has_the_memory_of_a_layer_and_a_step(capsys: pytest.CaptureFixture[str]) -> None:
    """The forward transient is the published closed form 2X + 3F; base is the layer's weights, input and tables."""
    options = ("--dtype", "fp16", "--checkpointing", "full", "--optimizer", "none", "--micro-batch", "1")
    memory = counted(capsys, LLAMA_7B, *options)["memory"]
    assert memory["implementation"] == "transformers 5.23 LlamaForCausalLM"
    assert (memory["setup"]["precision"], memory["setup"]["checkpointing"]) == ("fp16", "full")
    assert memory["layer"]["forward_transient"]["total"] == 168_820_736
    assert memory["layer"]["boundary"] == 2 * 2048 * 4096
    step = memory["step"]
    assert sum(step["categories"].values()) == step["peak"] == sum(step["live"].values())
    assert step["moment"]


def test_micro_batch_is_the_batch_unless_it_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    assert counted(capsys, LLAMA_7B, "--batch-size", "3")["memory"]["setup"]["micro_batch"] == 3
    both = counted(capsys, LLAMA_7B, "--batch-size", "3", "--micro-batch", "2")
    assert both["memory"]["setup"]["micro_batch"] == 2
    assert both["flops"]["batch_size"] == 3


def test_a_model_without_a_schedule_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    memory = counted(capsys, GPT2)["memory"]
    assert memory["implementation"] is None
    assert "GPT2LMHeadModel" in memory["reason"]
    assert cli.count([GPT2]) == 0
    assert "no memory schedule for GPT2LMHeadModel" in capsys.readouterr().out


def test_latent_attention_takes_the_kernel_that_takes_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert counted(capsys, DEEPSEEK_V3)["memory"]["setup"]["attention_kernel"] == "cudnn"
    assert counted(capsys, LLAMA_7B)["memory"]["setup"]["attention_kernel"] == "flash"
    assert counted(capsys, LLAMA_7B, "--dtype", "fp32")["memory"]["setup"]["attention_kernel"] == "eager"


def test_what_fits_is_answered_for_gib_and_for_a_gpu_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    """One size in two spellings gives one answer; the largest micro-batch fits, and one more does not."""
    answers = []
    for size in ("a100-80", "79.25"):
        assert cli.count([LLAMA_1B, "--fits", size, "--json"]) == 0
        answers.append(json.loads(capsys.readouterr().out))
    assert [answer["memory_bytes"] for answer in answers] == [7925 * 2**30 // 100] * 2
    assert answers[0]["fits"] == answers[1]["fits"]
    none, full = answers[0]["fits"]
    assert (none["checkpointing"], full["checkpointing"]) == ("none", "full")
    assert 0 < none["micro_batch"] < full["micro_batch"]
    largest = full["micro_batch"]
    for batch, fits in ((largest, True), (largest + 1, False)):
        facts = counted(capsys, LLAMA_1B, "--checkpointing", "full", "--micro-batch", str(batch))
        assert (facts["memory"]["step"]["peak"] <= 7925 * 2**30 // 100 - 2 * 10**9) is fits


def test_a_sequence_as_long_as_the_window_has_no_schedule(capsys: pytest.CaptureFixture[str]) -> None:
    """From there on `transformers` hands attention a mask, and the fused kernels take none."""
    mistral = str(configs_dir() / "models" / "mistral-7b-v0.1.json")
    assert counted(capsys, mistral, "--seq-len", "4095")["memory"]["implementation"] is not None
    memory = counted(capsys, mistral, "--seq-len", "4096")["memory"]
    assert memory["implementation"] is None
    assert "sliding window" in memory["reason"]
    assert cli.count([mistral, "--seq-len", "64", "--fits", "80"]) == 0  # what fits may be longer than the window
    assert "sliding window" in capsys.readouterr().out


def test_a_reserve_is_assumed_unless_it_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.count([LLAMA_1B, "--fits", "80"]) == 0
    assert "kept free (assumed)" in capsys.readouterr().out
    assert cli.count([LLAMA_1B, "--fits", "80", "--reserve", "4"]) == 0
    assert "4.00 GiB of it kept free (given)" in capsys.readouterr().out


def test_count_says_what_it_read_a_model_as(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.count([str(configs_dir() / "models" / "kimi-k2.json")]) == 0
    assert "model_type kimi_k2 read as deepseek_v3" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "CONFIG: expected a Hugging Face config.json, or --families"),
        ([LLAMA_7B, "--seq-len", "0"], "'0': expected an integer from 1"),
        ([LLAMA_7B, "--seq-len", "-5"], "'-5': expected an integer from 1"),
        ([LLAMA_7B, "--seq-len", "2k"], "'2k': expected an integer"),
        ([LLAMA_7B, "--seq-len", "1e3"], "'1e3': expected an integer"),
        ([LLAMA_7B, "--seq-len", "99999999999"], "expected an integer from 1 to"),
        ([LLAMA_7B, "--batch-size", "1.5"], "'1.5': expected an integer"),
        ([LLAMA_7B, "--attention", "flash"], "invalid choice: 'flash'"),
        ([LLAMA_7B, "--nonsense"], "unrecognized arguments: --nonsense"),
        ([GPT2, "--seq-len", "2048"], "--seq-len 2048: expected at most 1024, the learned positions"),
        ([LLAMA_7B, "--mtp"], "states no num_nextn_predict_layers"),
        ([LLAMA_7B, "--fits", "h999"], "expected a number of GiB or a GPU: no GPU 'h999'"),
        ([LLAMA_7B, "--fits", "-1"], "expected a number of GiB or a GPU"),
        ([LLAMA_7B, "--fits", "2", "--reserve", "3"], "reserve of 3221225472 bytes: expected less than"),
        ([LLAMA_7B, "--reserve", "1"], "--reserve: expected only with --fits"),
        ([LLAMA_7B, "--fits", "80", "--attention", "full"], "--attention: expected without --fits"),
        ([LLAMA_7B, "--fits", "80", "--checkpointing", "none"], "--checkpointing: expected without --fits"),
        ([DEEPSEEK_V3, "--fits", "80", "--mtp"], "--mtp: expected without --fits"),
        ([LLAMA_7B, "--seq", "8"], "unrecognized arguments: --seq 8"),
        ([LLAMA_7B, "--reserve", "x"], "'x': expected a number of GiB"),
        ([LLAMA_7B, "--dtype", "fp8"], "invalid choice: 'fp8'"),
        ([LLAMA_7B, "--dtype", "fp32", "--attention-kernel", "flash"], "expected eager with fp32"),
        ([DEEPSEEK_V3, "--attention-kernel", "flash"], "these have 192 for queries and 128 for values"),
        ([LLAMA_7B, "--dtype", "fp32", "--master-weights"], "fp32 parameters are their own"),
        ([LLAMA_7B, "--micro-batch", "0"], "'0': expected an integer"),
        ([LLAMA_7B, "--batch-size", "1", "--batch-size", "2"], "argument --batch-size: given twice"),
        ([LLAMA_7B, "--dtype", "fp16", "--dtype=bf16"], "argument --dtype: given twice"),
    ],
)
def test_bad_options_are_one_line_and_status_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert cli.count(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert message in captured.err


def test_verify_passes_and_reports_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert empirical_cli.verify([LLAMA_1B, GPT2, "--seq-len", "16", "--jobs", "1", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["failed"] == 0
    assert facts["passed"] == len(facts["checks"]) > 20
    assert {check["model"] for check in facts["checks"]} == {"llama-3.2-1b", "gpt2"}
    first = facts["checks"][0]
    assert first["quantity"] == "parameters"
    assert (first["analytic"], first["measured"], first["difference"]) == (1_235_814_400, 1_235_814_400, 0)
    assert set(facts["versions"]) >= {"torch", "transformers", "fvcore"}


def test_verify_fails_with_status_1_and_names_the_term(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crosscheck, "model_params", lambda spec, **k: model_params(spec, **k).times(2))
    assert empirical_cli.verify([GPT2, "--seq-len", "16"]) == 1
    out = capsys.readouterr().out
    assert "FAIL gpt2: parameters, transformers" in out
    assert "layers.0-11.mlp.up_proj" in out
    assert "2 failed" in out.splitlines()[-1]


def test_verify_in_processes_gives_the_same_as_in_one(capsys: pytest.CaptureFixture[str]) -> None:
    results = []
    for jobs in ("1", "2"):
        assert empirical_cli.verify([GPT2, LLAMA_1B, "--seq-len", "16", "--jobs", jobs, "--json"]) == 0
        results.append(json.loads(capsys.readouterr().out)["checks"])
    assert results[0] == results[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.json"], "missing.json: No such file"),
        ([LLAMA_1B, "missing.json"], "missing.json: No such file"),
        ([LLAMA_1B, "--seq-len", "x"], "'x': expected an integer"),
        ([LLAMA_1B, "--device", "tpu"], "device tpu: expected cuda or cpu"),
        ([GPT2, "--seq-len", "4096"], "expected at most 1024"),
    ],
)
def test_verify_refuses_before_it_begins(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert empirical_cli.verify(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert message in captured.err


def python(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, cwd=cwd)


def test_analytic_imports_no_instrument() -> None:
    """Every module of `analytic`, in a fresh interpreter."""
    modules = sorted(path.stem for path in (SCRIPTS.parent / "analytic").glob("*.py") if path.stem != "__init__")
    program = "import importlib, sys\n"
    program += "".join(f"importlib.import_module('analytic.{name}')\n" for name in modules)
    program += "print([m for m in ('torch', 'transformers', 'fvcore', 'empirical', 'scipy') if m in sys.modules])"
    done = python("-c", program, cwd=SCRIPTS.parent)
    assert done.stdout == "[]\n", done.stderr


def test_the_count_script_runs_from_elsewhere_without_torch(tmp_path: Path) -> None:
    program = (
        "import runpy, sys\n"
        f"sys.argv = ['count.py', {LLAMA_7B!r}, '--json']\n"
        "try:\n"
        f"    runpy.run_path({str(SCRIPTS / 'count.py')!r}, run_name='__main__')\n"
        "except SystemExit as exit:\n"
        "    assert exit.code == 0\n"
        "assert not {'torch', 'transformers', 'numpy', 'rich'} & set(sys.modules)\n"
    )
    done = python("-c", program, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["params"]["total"] == 6_738_415_616


def test_scripts_exit_with_the_status_of_their_command(tmp_path: Path) -> None:
    for script in ("count.py", "verify.py"):
        done = python(str(SCRIPTS / script), "missing.json", cwd=tmp_path)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1


def test_a_reader_that_leaves_early_is_no_error() -> None:
    command = f"'{sys.executable}' '{SCRIPTS / 'count.py'}' '{DEEPSEEK_V3}' | head -1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, check=False)
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


def test_families_are_listed_with_their_shipped_shapes(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.count(["--families"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == sorted((*FAMILIES, *SAME_WEIGHTS_AS))
    (llama,) = (line for line in lines if line.startswith("llama "))
    assert llama.split() == ["llama", "LlamaForCausalLM", "gqa+dense", "yes", "llama-3.2-1b", *["1,235,814,400"] * 2]
    assert cli.count(["--families", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["families"]) == len(lines) - 1


def test_layers_that_alternate_are_two_rows(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.count([str(configs_dir() / "models" / "gpt-oss-20b.json")]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = lines[lines.index(next(line for line in lines if line.startswith("layers  "))) + 1 :][:2]
    assert [row.split("  ")[0] for row in rows] == ["0, 2, 4, ..., 22", "1, 3, 5, ..., 23"]
    assert "gqa+moe, window 128" in rows[0]
    assert "window" not in rows[1]
