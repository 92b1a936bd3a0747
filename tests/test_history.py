"""What the two documents that this project started from printed, and what the formulas say: both columns.

The left column applies those documents' own formulas; the right one ours, which the other tests prove.
"""

from __future__ import annotations

from pathlib import Path

from analytic.exercise import model_cost as exercise
from analytic.io.files import configs_dir
from analytic.memory.step import step_memory
from analytic.model.flops import forward_flops
from analytic.model.params import parameter_counts
from analytic.model.training import TrainingSetup
from tests.configurations import parsed, shipped
from tests.memory_cases import predicted

V, H, L, HEADS, D_FF, S = 50_000, 4096, 32, 32, 11_008, 2048
MACHINE = 8 * 989e12 * 0.45 * 720 * 3600  # 8 H100 at 45% for 720 hours
PRINTED_N = 2 * V * H + L * (4 * H * H + 3 * H * D_FF + 2 * H) + H
PRINTED_FORWARD_PER_TOKEN = L * (8 * H * H + 2 * HEADS * S * H + 6 * H * D_FF)  # no head; scores at full H a head
HISTORY = (Path(__file__).parents[1] / "docs" / "history.md").read_text(encoding="utf-8")

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


def in_table(*figures: str) -> bool:
    """Whether one row of the table of both columns has all these figures."""
    rows = [row for row in HISTORY.splitlines() if row.startswith("|")]
    return any(all(figure in row for figure in figures) for row in rows)


def test_parameters_were_right() -> None:
    assert PRINTED_N == parameter_counts(BACKWARD_EXAMPLE.spec).total == 6_885_871_616
    assert f"{PRINTED_N / 1e9:.2f}" == "6.89"
    assert in_table("N = 6.89B", "6,885,871,616")


def test_compute_was_right() -> None:
    assert f"{MACHINE:.3g}" == "9.23e+21"
    assert in_table("C = 9.23e21", "9.2286e21")


def test_forward_flops_were_more_than_twice_too_many() -> None:
    printed = S * PRINTED_FORWARD_PER_TOKEN
    right = forward_flops(shipped("llama_7b").spec, S).total
    assert f"{printed / 1e12:.2f}" == "61.71"
    assert f"{right / 1e12:.2f}" == "29.26"
    assert printed > 2 * right
    assert in_table("61.71 TFLOP", "29.26 TFLOP")


def test_tokens_were_less_than_half() -> None:
    printed = MACHINE / (3 * PRINTED_FORWARD_PER_TOKEN)
    per_token = forward_flops(BACKWARD_EXAMPLE.spec, S).total // S
    right = MACHINE / (3 * per_token)
    assert f"{printed / 1e9:.2f}" == "102.09"
    assert round(right) == 213_100_828_941
    assert in_table("D = 102.09B", "213.10B")


def test_six_nd_was_not_half_but_nearly_right() -> None:
    printed = 1 - 6 * PRINTED_N / (3 * PRINTED_FORWARD_PER_TOKEN)
    per_token = forward_flops(BACKWARD_EXAMPLE.spec, S).total // S
    right = 1 - 6 * PRINTED_N / (3 * per_token)
    assert f"{printed:.1%}" == "54.3%"
    assert f"{right:.3%}" == "4.597%"
    assert in_table("54.3%", "4.6% low")


def test_memory_was_a_convention() -> None:
    n = parameter_counts(shipped("llama_7b").spec).total
    assert f"{12 * n / 2**30 + 11.34:.2f}" == "86.65"
    assert in_table("86.65 GB", "12 bytes a parameter")
    llama = shipped("llama_7b")
    for has_master_weights, gib in ((False, "50.22"), (True, "113.21")):
        setup = TrainingSetup(seq_len=S, precision="fp16", has_master_weights=has_master_weights)
        peak = step_memory(llama.spec, predicted(llama), setup).step_peak.total_bytes
        assert f"{peak / 2**30:.2f}" == gib
        assert in_table("86.65 GB", f"{gib} GiB")


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
