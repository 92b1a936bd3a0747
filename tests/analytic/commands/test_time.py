"""`time` and `compare`: days, dollars and energy of a run, and GPUs next to each other."""

from __future__ import annotations

import pytest

from tests.commands import facts, printed, refusal

TIME = ("time", "llama-3-8b", "--tokens", "15T", "--gpus", "512xh100=2.5")
PER_TOKEN = 51_470_401_536  # FLOPs of Llama-3-8B at 4,096 tokens, full attention


def test_days_and_dollars_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    """FLOPs / (989 TFLOP/s x 40%), 512 GPUs, 2.5 USD an hour, 700 W a board."""
    found = facts(capsys, *TIME)
    hours = 15e12 * PER_TOKEN / (989e12 * 0.4 * 3600)
    assert found["flops_per_token"] == PER_TOKEN
    assert found["compute_flops"] == 15 * 10**12 * PER_TOKEN
    assert found["gpu_hours"] == pytest.approx(hours, rel=1e-12)
    assert found["days"] == pytest.approx(hours / 24 / 512, rel=1e-12)
    assert found["usd"] == pytest.approx(hours * 2.5, rel=1e-12)
    assert found["energy_kwh"] == pytest.approx(hours * 0.7, rel=1e-12)
    assert found["tokens_per_second_per_gpu"] == pytest.approx(989e12 * 0.4 / PER_TOKEN, rel=1e-12)
    assert (found["mfu"]["value"], found["mfu"]["low"], found["mfu"]["high"]) == (0.4, 0.3, 0.5)
    assert found["mfu"]["source"] == "assumed (default)"


def test_the_answer_has_the_range_of_the_mfu(capsys: pytest.CaptureFixture[str]) -> None:
    """44.1 days at 40%: 44.1 x 40 / 50 and 44.1 x 40 / 30 at the ends."""
    first = printed(capsys, *TIME).splitlines()[0]
    assert first == "time      44.1 days on 512 x H100-SXM5-80GB; 35.3 days to 58.8 days over the range of the MFU"


def test_an_mfu_that_is_given_has_no_range(capsys: pytest.CaptureFixture[str]) -> None:
    found = facts(capsys, *TIME, "--mfu", "50%", "--mfu", "a100=10%")
    assert (found["mfu"]["value"], found["mfu"]["low"], found["mfu"]["high"]) == (0.5, None, None)
    assert found["mfu"]["source"] == "assumed (given)"
    assert facts(capsys, *TIME, "--mfu", "50%", "--mfu", "h100=20%")["mfu"]["value"] == 0.2


def test_what_is_doubtful_is_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    few = facts(capsys, "time", "llama-3-8b", "--tokens", "8B", "--gpus", "8xh100")["warnings"]
    assert few == ["1.0 tokens per parameter: fewer than 5, outside of any scaling law"]
    (fp8,) = facts(capsys, *TIME, "--dtype", "fp8")["warnings"]
    assert "an MFU of bf16 runs does not hold for the fp8 peak" in fp8
    (fit,) = facts(capsys, "time", "llama-3-8b", "--tokens", "15T", "--gpus", "1xt4", "--dtype", "fp16")["warnings"]
    assert fit.startswith("t4: ")
    assert facts(capsys, *TIME)["warnings"] == []
    assert "\nwarning: 1.0 tokens per parameter" in printed(
        capsys, "time", "llama-3-8b", "--tokens", "8B", "--gpus", "8xh100"
    )


def test_offers_are_ranked_by_cost_and_those_without_a_price_are_last(capsys: pytest.CaptureFixture[str]) -> None:
    gpus = ("--gpu", "h800", "--gpu", "h100=2.5", "--gpu", "b200=4.5", "--gpu", "a100-80=3")
    found = facts(capsys, "compare", "llama-3-8b", "--tokens", "1T", *gpus)
    # USD per dense bf16 TFLOP/s: 4.5 / 2250 = 0.0020, 2.5 / 989 = 0.0025, 3 / 312 = 0.0096
    assert [offer["gpu"] for offer in found["offers"]] == ["b200", "h100-sxm", "a100-80", "h800"]
    assert [offer["usd"] is None for offer in found["offers"]] == [False, False, False, True]
    assert "cheapest    b200: " in printed(capsys, "compare", "llama-3-8b", "--tokens", "1T", *gpus)


def test_a_comparison_is_the_time_of_each(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ("compare", "llama-3-8b", "--tokens", "15T", "--gpu", "h100=2.5", "--num-gpus", "512")
    (offer,) = facts(capsys, *argv)["offers"]
    alone = facts(capsys, *TIME)
    for key in ("gpu", "num_gpus", "gpu_hours", "days", "usd", "energy_kwh"):
        assert offer[key] == alone[key]


def test_days_give_the_fewest_gpus_that_finish(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ("compare", "llama-3-8b", "--tokens", "15T", "--gpu", "h100=2.5", "--days", "30")
    (offer,) = facts(capsys, *argv)["offers"]
    hours = 15e12 * PER_TOKEN / (989e12 * 0.4 * 3600)
    assert offer["num_gpus"] == -(-hours // (24 * 30))
    assert offer["days"] <= 30


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("time", "llama-3-8b", "--gpus", "8xh100"), "--tokens: expected how many to train on, such as 15T"),
        (("time", "llama-3-8b", "--tokens", "1T"), "--gpus: expected GPUs such as 512xh100"),
        (("time", "llama-3-8b", "--tokens", "1T", "--gpus", "8xh1000"), "no GPU 'h1000'"),
        (("time", "llama-3-8b", "--tokens", "1T", "--gpus", "8xh100=0"), "price = 0 USD per GPU-hour"),
        (("time", "llama-3-8b", "--tokens", "1T", "--gpus", "8xv100"), "v100-16 has no bf16 peak"),
        (("time", "llama-3-8b", "--tokens", "0", "--gpus", "8xh100"), "'0': expected a whole number"),
        ((*TIME, "--mfu", "40%", "--mfu", "50%"), "--mfu: the MFU of every GPU is given twice"),
        ((*TIME, "--mfu", "h100=40%", "--mfu", "h100-sxm=50%"), "--mfu: h100-sxm is given twice"),
        (("compare", "llama-3-8b", "--tokens", "1T"), "--gpu: expected GPUs to compare"),
        (("compare", "llama-3-8b", "--gpu", "h100"), "--tokens: expected how many"),
        (("compare", "llama-3-8b", "--tokens", "1T", "--gpu", "h100", "--gpu", "h100-sxm"), "h100-sxm is given twice"),
        (("compare", "llama-3-8b", "--tokens", "1T", "--gpu", "h100", "--days", "3", "--num-gpus", "8"), "not allowed"),
    ],
)
def test_bad_input_is_one_line(argv: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert message in refusal(capsys, *argv)
