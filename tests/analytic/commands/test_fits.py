"""`fits`: whether a model trains on some GPUs, and the largest micro-batch."""

from __future__ import annotations

import pytest

from tests.commands import facts, printed, refusal

# What `fits` plans for, in the words of `count`.
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


def test_several_gpus_share_ideally_and_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    found = facts(capsys, "fits", "llama-3-8b", "--gpus", "8xa100-80")
    assert (found["num_gpus"], found["layout"]["dp_shard"], found["layout"]["global_batch"]) == (8, 8, 8)
    assert found["fits"] is found["sharded"]["fits"] is True
    assert found["stack"] == "ideal sharding, unmeasured"
    assert "ideal sharding, unmeasured" in printed(capsys, "fits", "llama-3-8b", "--gpus", "8xa100-80")
    assert facts(capsys, "fits", "llama-3-8b", "--gpus", "2xa100-40")["fits"] is False


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
