"""`fits`: whether a model trains on some GPUs, and the largest micro-batch."""

from __future__ import annotations

from typing import Any

import pytest

from tests.commands import facts, printed, refusal

# What `fits` plans for, in the words of `count`.
FSDP = (  # ranks; bytes stored, of moments, at the peak
    (8, 4_015_130_624, 8_030_261_248, 20_610_325_008),
    (512, 62_752_800, 125_505_600, 8_757_385_840),
)
PLANNED = ("--master-weights", "--accumulating", "--rounding", "512")


def test_a_gpu_by_name_and_its_memory_give_one_answer(capsys: pytest.CaptureFixture[str]) -> None:
    """The largest micro-batch fits, and one more does not."""
    named, sized = (facts(capsys, "fits", "llama-3.2-1b", "--gpus", gpus) for gpus in ("1xa100-80", "1x79.25GiB"))
    assert named["memory_bytes"] == sized["memory_bytes"] == 7925 * 2**30 // 100
    assert named["largest"] == sized["largest"]
    none, full = named["largest"]
    assert (none["checkpointing"], full["checkpointing"]) == ("none", "full")
    assert 0 < none["micro_batch"] < full["micro_batch"]
    assert named["reserve_bytes"] == 2 * 10**9
    for batch, fits in ((full["micro_batch"], True), (full["micro_batch"] + 1, False)):
        counted = facts(capsys, "count", "llama-3.2-1b", *PLANNED, "--recompute", "full", "--micro-batch", str(batch))
        assert (counted["memory"]["step"]["peak"] <= 7925 * 2**30 // 100 - 2 * 10**9) is fits


def test_the_peak_is_that_of_count_and_its_categories_add_up(capsys: pytest.CaptureFixture[str]) -> None:
    memory = facts(capsys, "fits", "llama-3.2-1b", "--gpus", "1x80GiB", "--recompute", "full")["memory_per_gpu"]
    counted = facts(capsys, "count", "llama-3.2-1b", *PLANNED, "--recompute", "full")["memory"]["step"]
    assert memory["peak_bytes"] == counted["peak"]
    assert memory["moment"] == counted["moment"]
    parts = ("parameters", "gradients", "optimizer", "activations", "temporaries")
    assert sum(memory[f"{part}_bytes"] for part in parts) == memory["peak_bytes"]
    assert memory["available_bytes"] == 80 * 2**30 - memory["allowance_bytes"]


def test_the_flops_of_one_gpu_are_three_forwards_and_what_runs_again(capsys: pytest.CaptureFixture[str]) -> None:
    """Backward is twice forward, and flash attention forms QK^T once more."""
    found = facts(capsys, "fits", "llama-3.2-1b", "--gpus", "1x80GiB", "--recompute", "none", "--seq-len", "4k")
    forward = facts(capsys, "count", "llama-3.2-1b", "--seq-len", "4k")["flops"]["forward"]
    scores = 16 * 2 * 4096**2 * 32 * 64  # QK^T of 16 layers, 32 heads of 64 features
    assert found["flops_per_gpu"] == 3 * forward + scores


def test_recompute_is_chosen_where_it_is_not_given(capsys: pytest.CaptureFixture[str]) -> None:
    """Peaks of 30.98 and 24.60 GiB: 40 GiB hold the first, 30 GiB the second, 20 GiB neither."""
    for size, recompute, fits in (("40", "none", True), ("30", "full", True), ("20", "full", False)):
        found = facts(capsys, "fits", "llama-3.2-1b", "--gpus", f"1x{size}GiB")
        assert (found["layout"]["recompute"], found["fits"]) == (recompute, fits)
    assert facts(capsys, "fits", "llama-3.2-1b", "--gpus", "1x30GiB", "--recompute", "none")["fits"] is False
    assert "does NOT fit" in printed(capsys, "fits", "llama-3.2-1b", "--gpus", "1x20GiB")


def test_what_fits_may_be_no_longer_than_the_window(capsys: pytest.CaptureFixture[str]) -> None:
    """Mistral's window is 4,096; from there on nothing is predicted."""
    found = facts(capsys, "fits", "mistral-7b-v0.1", "--gpus", "1x1TiB", "--seq-len", "64")
    assert [each["seq_len"] for each in found["largest"]] == [4095, 4095]
    found = facts(capsys, "fits", "mistral-7b-v0.1", "--gpus", "1x1TiB", "--seq-len", "4k")
    assert "sliding window" in found["reason"]
    assert "sliding window" in printed(capsys, "fits", "mistral-7b-v0.1", "--gpus", "1x1TiB", "--seq-len", "4k")


def test_without_a_schedule_the_states_may_decide(capsys: pytest.CaptureFixture[str]) -> None:
    """GPT-2 holds 124,439,808 parameters: 2 + 4 bytes, 4 of gradients and 8 of AdamW each are 1.9 GB or more."""
    small = facts(capsys, "fits", "gpt2", "--gpus", "1x3GB", "--reserve", "2GB")
    assert (small["fits"], small["memory_per_gpu"]) == (False, None)
    assert small["at_least_bytes"] > 10**9
    assert "GPT2LMHeadModel" in small["reason"]
    large = facts(capsys, "fits", "gpt2", "--gpus", "1x80GB")
    assert large["fits"] is None
    assert "not predicted whether it fits" in printed(capsys, "fits", "gpt2", "--gpus", "1x80GB")


def test_a_reserve_is_assumed_unless_it_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    fits = ("fits", "llama-3.2-1b", "--gpus", "1x80GiB")
    assert "1.86 GiB of it kept free (assumed)" in printed(capsys, *fits)
    assert "4.00 GiB of it kept free (given)" in printed(capsys, *fits, "--reserve", "4GiB")


def many(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    return facts(capsys, "fits", *arguments)


@pytest.mark.parametrize(("ranks", "stored", "moments", "peak"), FSDP)
def test_figures_of_a_rank(
    capsys: pytest.CaptureFixture[str], ranks: int, stored: int, moments: int, peak: int
) -> None:
    """Llama-3-8B on 8 and 512 ranks: fp32 shards, bf16 compute, full checkpointing, as a simulated world has them."""
    asked = ("--recompute", "full", "--dp-shard", str(ranks), "--optimizer", "adamw_foreach")
    found = many(capsys, "llama-3-8b", "--gpus", f"{ranks}xh100", *asked)
    memory = found["memory_per_gpu"]
    assert (memory["parameters_bytes"], memory["optimizer_bytes"], memory["peak_bytes"]) == (stored, moments, peak)
    parts = ("parameters", "gradients", "optimizer", "activations", "temporaries")
    assert sum(memory[f"{part}_bytes"] for part in parts) == peak
    assert memory["available_bytes"] == found["memory_bytes"] - memory["allowance_bytes"]
    assert memory["allowance_bytes"] == sum(memory["allowance"].values())
    assert (found["stack"], memory["origin"], found["fits"]) == ("transformers-fsdp2", "proven", True)


def test_what_a_rank_sends(capsys: pytest.CaptureFixture[str]) -> None:
    """8B parameters over 8 ranks divide evenly: 32 layers and the embedding are gathered twice, the tail once."""
    found = many(capsys, "llama-3-8b", "--gpus", "8xh100", "--dp-shard", "8")
    params, tail = 8_030_261_248, 128_256 * 4096 + 4096
    gathered, scattered = found["communication_per_step"]
    assert gathered == {
        "axis": "dp_shard",
        "collective": "all_gather",
        "group_size": 8,
        "count": 2 * 33 + 1,
        "bytes": 2 * (2 * params - tail),
    }
    assert (scattered["collective"], scattered["count"], scattered["bytes"]) == ("reduce_scatter", 34, 4 * params)


def test_without_a_layout_every_one_is_tried(capsys: pytest.CaptureFixture[str]) -> None:
    found = many(capsys, "llama-3-8b", "--gpus", "8xa100-80")
    assert found["fits"] is True
    assert (found["layout"]["dp_shard"], found["layout"]["global_batch"]) == (8, 8)
    assert found["num_fitting"] <= found["num_tried"]
    assert len({str(each["layout"]) + each["stack"] for each in found["alternatives"]}) == len(found["alternatives"])
    assert {each["stack"] for each in found["alternatives"]} >= {"torchtitan", "megatron-te"}
    text = printed(capsys, "fits", "llama-3-8b", "--gpus", "8xa100-80")
    assert "fits on 8 x a100-80: dp_shard 8" in text
    assert len(text.strip().splitlines()) <= 8


def test_a_layout_that_does_not_fit_has_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("llama-3.1-405b", "--gpus", "8xh100", "--tp", "8", "--stack", "megatron-te")
    found = many(capsys, *asked)
    assert (found["fits"], found["most_micro_batch"], found["stack"]) == (False, 0, "megatron-te")
    assert (found["layout"]["tp"], found["layout"]["dp_shard"]) == (8, 1)
    assert found["memory_per_gpu"]["peak_bytes"] > found["memory_per_gpu"]["available_bytes"]
    assert {each["axis"] for each in found["communication_per_step"]} == {"tp"}
    assert found["flops_per_gpu"] > 0
    assert "does NOT fit" in printed(capsys, "fits", *asked)


def test_where_nothing_fits_more_gpus_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("llama-3.1-405b", "--gpus", "8xh100", "--stack", "transformers-fsdp2")
    found = many(capsys, *asked)
    assert found["fits"] is False
    (line,) = (line for line in printed(capsys, "fits", *asked).splitlines() if line.startswith("instead"))
    gpus = int(line.split()[1].replace(",", ""))
    enough = many(capsys, "llama-3.1-405b", "--gpus", f"{gpus}xh100", "--stack", "transformers-fsdp2")
    fewer = many(capsys, "llama-3.1-405b", "--gpus", f"{gpus - 8}xh100", "--stack", "transformers-fsdp2")
    assert (enough["fits"], fewer["fits"]) == (True, False)


def test_a_pipeline_says_how_long_it_is_idle(capsys: pytest.CaptureFixture[str]) -> None:
    """1F1B over 4 ranks idles for 3 (4 - 1) units of the 3 x 8 that a rank computes, and two stages a rank halve it."""
    asked = ("llama-3-8b", "--gpus", "8xh100", "--stack", "megatron-te", "--global-batch", "16")
    one = many(capsys, *asked, "--pp", "4")
    two = many(capsys, *asked, "--pp", "4", "--virtual-stages", "2")
    assert (one["layout"]["micro_batches"], one["pipeline_idle"]) == (8, 9 / (9 + 24))
    assert two["pipeline_idle"] == 9 / (9 + 48)
    assert many(capsys, *asked, "--tp", "8")["pipeline_idle"] == 0


def test_a_global_batch_is_cut_into_micro_batches(capsys: pytest.CaptureFixture[str]) -> None:
    layout = many(capsys, "llama-3-8b", "--gpus", "8xh100", "--dp-shard", "8", "--global-batch", "64")["layout"]
    assert (layout["global_batch"], layout["micro_batches"], layout["micro_batch"]) == (64, 8, 1)
    assert "expected a multiple of micro-batch x data ranks = 1 x 8 = 8" in refusal(
        capsys, "fits", "llama-3-8b", "--gpus", "8xh100", "--dp-shard", "8", "--global-batch", "12"
    )


def test_the_largest_micro_batch_of_a_layout_fits_and_one_more_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("llama-3-8b", "--gpus", "8xa100-80", "--dp-shard", "8", "--recompute", "full")
    most = many(capsys, *asked)["most_micro_batch"]
    for batch, fits in ((most, True), (most + 1, False)):
        assert many(capsys, *asked, "--micro-batch", str(batch))["fits"] is fits


@pytest.mark.parametrize("gpus", ["1xv100-32", "16xv100-32"])
def test_a_gpu_without_bf16_is_planned_in_fp16(capsys: pytest.CaptureFixture[str], gpus: str) -> None:
    assert many(capsys, "llama-3.2-1b", "--gpus", gpus)["setup"]["precision"] == "fp16"
    assert many(capsys, "llama-3.2-1b", "--gpus", gpus.replace("v100-32", "h100"))["setup"]["precision"] == "bf16"
    message = "v100-32 has no bf16 peak: expected one of fp32, fp16"
    assert message in refusal(capsys, "fits", "llama-3.2-1b", "--gpus", gpus, "--precision", "bf16")


def test_what_recomputes_nothing_comes_before_the_first_stack(capsys: pytest.CaptureFixture[str]) -> None:
    """FSDP alone would hold it with every layer recomputed; two ranks of a ring and four of tp need not."""
    found = many(capsys, "llama-3.1-405b", "--gpus", "512xh100")
    assert (found["layout"]["recompute"], found["stack"]) == ("none", "torchtitan")
    fsdp = many(capsys, "llama-3.1-405b", "--gpus", "512xh100", "--dp-shard", "512")
    assert (fsdp["fits"], fsdp["layout"]["recompute"], fsdp["stack"]) == (True, "full", "transformers-fsdp2")


def test_a_model_that_no_stack_runs_is_not_predicted(capsys: pytest.CaptureFixture[str]) -> None:
    found = many(capsys, "gemma-2-9b", "--gpus", "8xh100")
    assert (found["fits"], found["layout"], found["memory_per_gpu"], found["alternatives"]) == (None, None, None, [])
    assert found["reason"]
    assert "not predicted whether it fits" in printed(capsys, "fits", "gemma-2-9b", "--gpus", "8xh100")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--gpus: expected GPUs such as 8xa100-80 or 1x80GiB"),
        (["--gpus", "h999"], "no GPU 'h999': expected one of"),
        (["--gpus", "80"], "no GPU '80': expected one of"),  # a number without its unit is no memory
        (["--gpus", "0xh100"], "'0': expected a whole number from 1"),
        (["--gpus", "2000000000xh100"], "expected a whole number from 1 to 1,000,000,000"),
        (["--gpus", "-1xh100"], "argument --gpus: expected one argument"),
        (["--gpus", "1x2GiB", "--reserve", "3GiB"], "reserve of 3221225472 bytes: expected less than"),
        (["--gpus", "8x2GiB", "--reserve", "3GiB"], "reserve of 3221225472 bytes: expected less than"),
        (["--gpus", "1xh100", "--reserve", "x"], "'x': expected bytes with their unit"),
        (["--gpus", "1xh100", "--reserve", "4"], "'4': expected bytes with their unit"),
        (["--gpus", "1xh100", "--attention", "full"], "unrecognized argument --attention"),
        (["--gpus", "1xh100", "--mtp"], "unrecognized argument --mtp"),
        (["--gpus", "1xh100", "--batch-size", "4"], "unrecognized argument --batch-size"),
    ],
)
def test_bad_options_are_one_line_and_status_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert message in refusal(capsys, "fits", "llama-7b", *arguments)
