"""What the two documents that this project started from printed, and what the formulas say: both columns.

The left column applies those documents' own formulas; the right one ours, which the other tests prove.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from analytic.commands import count as cli
from analytic.exercise import model_cost as exercise
from analytic.hardware.table import load_hardware
from analytic.io.files import configs_dir
from analytic.model.flops import forward_flops
from analytic.model.params import parameter_counts
from analytic.model.training import TrainingSetup
from analytic.performance.calibration_file import load_calibration
from analytic.planning.assumptions import DEFAULT_LAW
from analytic.planning.this_machine import CPU_FAMILY, machine_plan
from analytic.report.memory_json import memory_as_json
from analytic.scaling.law_file import load_law
from empirical.proof.findings import Findings
from empirical.proof.report import verify_text
from tests.configurations import parsed, shipped

V, H, L, HEADS, D_FF, S = 50_000, 4096, 32, 32, 11_008, 2048
MACHINE = 8 * 989e12 * 0.45 * 720 * 3600  # 8 H100 at 45% for 720 hours
PRINTED_N = 2 * V * H + L * (4 * H * H + 3 * H * D_FF + 2 * H) + H
PRINTED_FORWARD_PER_TOKEN = L * (8 * H * H + 2 * HEADS * S * H + 6 * H * D_FF)  # no head; scores at full H a head
README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")

BACKWARD_EXAMPLE = parsed(
    {
        "model_type": "llama",
        "vocab_size": V,
        "hidden_size": H,
        "num_hidden_layers": L,
        "num_attention_heads": HEADS,
        "intermediate_size": D_FF,
    }
)


def in_readme(*figures: str) -> bool:
    """Whether one row of a table in the README has all these figures."""
    rows = [row for row in README.splitlines() if row.startswith("|")]
    return any(all(figure in row for figure in figures) for row in rows)


def test_parameters_were_right() -> None:
    assert PRINTED_N == parameter_counts(BACKWARD_EXAMPLE.spec).total == 6_885_871_616
    assert f"{PRINTED_N / 1e9:.2f}" == "6.89"
    assert in_readme("N = 6.89B", "6,885,871,616")


def test_compute_was_right() -> None:
    assert f"{MACHINE:.3g}" == "9.23e+21"
    assert in_readme("C = 9.23e21", "9.2286e21")


def test_forward_flops_were_more_than_twice_too_many() -> None:
    printed = S * PRINTED_FORWARD_PER_TOKEN
    right = forward_flops(shipped("llama_7b").spec, S).total
    assert f"{printed / 1e12:.2f}" == "61.71"
    assert f"{right / 1e12:.2f}" == "29.26"
    assert printed > 2 * right
    assert in_readme("61.71 TFLOP", "29.26 TFLOP")


def test_tokens_were_less_than_half() -> None:
    printed = MACHINE / (3 * PRINTED_FORWARD_PER_TOKEN)
    per_token = forward_flops(BACKWARD_EXAMPLE.spec, S).total // S
    right = MACHINE / (3 * per_token)
    assert f"{printed / 1e9:.2f}" == "102.09"
    assert round(right) == 213_100_828_941
    assert in_readme("D = 102.09B", "213.10B")


def test_six_nd_was_not_half_but_nearly_right() -> None:
    printed = 1 - 6 * PRINTED_N / (3 * PRINTED_FORWARD_PER_TOKEN)
    per_token = forward_flops(BACKWARD_EXAMPLE.spec, S).total // S
    right = 1 - 6 * PRINTED_N / (3 * per_token)
    assert f"{printed:.1%}" == "54.3%"
    assert f"{right:.3%}" == "4.597%"
    assert in_readme("54.3%", "4.6% low")


def test_memory_was_a_convention() -> None:
    n = parameter_counts(shipped("llama_7b").spec).total
    assert f"{12 * n / 2**30 + 11.34:.2f}" == "86.65"
    assert in_readme("86.65 GB", "12 bytes a parameter")
    for has_master_weights, gib in ((False, "50.22"), (True, "113.21")):
        facts = memory_as_json(
            shipped("llama_7b"), TrainingSetup(seq_len=S, precision="fp16", has_master_weights=has_master_weights)
        )
        assert f"{facts['step']['peak'] / 2**30:.2f}" == gib
        assert in_readme("86.65 GB", f"{gib} GiB")


def test_the_exercises_functions() -> None:
    total, layer_tflops, peak_gb = exercise.model_training_cost_analysis_llama(configs_dir() / "llama_7b_config.json")
    assert (total, layer_tflops) == (6_738_415_616, 0.897648164864)
    weights, layer_input, transient = 2 * 202_383_360, 2 * S * H, 2 * 2 * S * H + 3 * 2 * S * D_FF  # 2X + 3F
    assert transient == 168_820_736
    assert peak_gb == (weights + layer_input + transient) / 1e9
    total, layer_tflops, peak_gb = exercise.model_training_cost_analysis_deepseek(
        configs_dir() / "deepseek_v3_config.json"
    )
    assert (total, layer_tflops) == (671_026_404_352, 6.169183649792)  # an MoE layer, 4,096 tokens
    transient = 2_941_650_944  # tracked outside this project, in the same 16 bits
    assert peak_gb == (2 * 11_507_286_016 + 2 * 4096 * 7168 + transient) / 1e9


@pytest.mark.parametrize(
    ("title", "options"),
    [
        ("as transformers' LlamaForCausalLM", ()),
        ("memory, predicted for", ("--dtype", "fp16", "--checkpointing", "full")),
    ],
)
def test_readme_shows_what_the_count_command_prints(
    capsys: pytest.CaptureFixture[str], title: str, options: tuple[str, ...]
) -> None:
    assert cli.count([str(configs_dir() / "llama_7b_config.json"), *options]) == 0
    printed = {line.rstrip() for line in capsys.readouterr().out.splitlines()}
    blocks = re.findall(r"```text\n(.*?)```", README, re.DOTALL)
    (example,) = (block for block in blocks if title in block)
    lines = {line.rstrip() for line in example.splitlines() if not line.startswith(("$", "..."))}
    assert len(lines) > 10
    assert lines <= printed | {""}


def test_readme_lists_the_families_that_the_tool_lists(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.count(["--families"]) == 0
    assert f"```text\n$ python3 -m uv run scripts/count.py --families\n{capsys.readouterr().out}```" in README


def test_readme_shows_the_plan_that_the_committed_cpu_calibration_makes() -> None:
    made = load_calibration(configs_dir() / "calibrations" / "cpu.json")
    planned = machine_plan(made, 1, CPU_FAMILY, load_law(DEFAULT_LAW), load_hardware())
    printed = verify_text(Findings(calibration=made, planned=planned), load_hardware(), {}).splitlines()
    (block,) = (b for b in re.findall(r"```text\n(.*?)```", README, re.DOTALL) if "a plan for this machine" in b)
    shown, _, against = block.partition("trained ")
    lines = [line for line in shown.split("...\n", 1)[1].splitlines() if line]
    assert len(lines) > 8
    assert [line for line in lines if line not in printed] == []
    rows = {re.split(r"  +", line.strip())[0]: line.split()[-3:] for line in against.splitlines() if line}
    assert rows["tokens per second"][0] == f"{planned.tokens_per_s:,.1f}"
    assert rows["tokens"][0] == f"{planned.plan.outcome.tokens:,}"
    assert planned.peak_bytes is not None
    assert rows["peak memory, bytes requested; planned: by the schedule"][0] == f"{planned.peak_bytes:,}"
    steps = int(against.split()[0])
    tokens, seconds = _number(rows["tokens"][1]), _number(rows["seconds"][1])
    assert tokens == steps * planned.case.setup.tokens
    assert _number(rows["tokens per second"][1]) == pytest.approx(tokens / seconds, rel=1e-3)
    flops = _number(rows["tokens per second"][1]) * planned.plan.outcome.candidate.flops_per_token
    peak = planned.plan.option.gpu.peak("bf16")
    assert _number(rows["MFU, full attention, %"][1]) == pytest.approx(100 * flops / peak, rel=1e-3)
    for name in ("tokens per second", "tokens", "peak memory, bytes requested; planned: by the schedule"):
        plan, actual, difference = rows[name]
        expected = 100 * (_number(actual) / _number(plan) - 1)
        assert float(difference.rstrip("%")) == pytest.approx(expected, abs=0.01)


def _number(text: str) -> float:
    return float(text.replace(",", ""))
