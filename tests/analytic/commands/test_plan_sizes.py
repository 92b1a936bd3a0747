"""`plan --params` and `plan --inference-tokens` from outside: what they print, and what they refuse."""

from __future__ import annotations

import pytest

from analytic.api.plans import plan
from analytic.errors import PlannerError
from analytic.io.files import configs_dir
from tests.commands import facts, printed, refusal

BUDGET = ("plan", "--budget", "1M", "--gpu", "h100=2.5")
SETUP = str(configs_dir() / "backward_scaling_config.json")


def test_serving_is_said_with_what_is_assumed_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    argv = (*BUDGET, "--inference-tokens", "1T")
    found = facts(capsys, *argv)
    serving = found["serving"]
    assert serving["tokens"] == 10**12
    assert serving["mfu"] == {"value": 0.1, "source": "assumed (default)"}
    assert (serving["gpu"], serving["usd_per_gpu_hour"], serving["price_source"]) == ("h100-sxm", 2.5, "given")
    assert serving["usd"] == pytest.approx(1e12 * found["flops_per_token"] / 3 / 98.9e12 / 3600 * 2.5)
    assert serving["usd"] + found["usd"] == pytest.approx(1e6)
    assert {"--inference-mfu 0.1", "--inference-gpu what trains"} <= set(found["assumed"])
    answer = printed(capsys, *argv).splitlines()
    assert len([line for line in answer if not line.startswith("warning")]) <= 8
    (line,) = (line for line in answer if line.startswith("serving"))
    assert "for 1T tokens at 10.00% MFU, assumed (default)" in line
    assert "the same money at N" in printed(capsys, *argv, "-v")


def test_serving_at_its_own_mfu_on_its_own_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    given = ("--inference-mfu", "25%", "--inference-gpu", "h200=4")
    found = facts(capsys, *BUDGET, "--inference-tokens", "1T", *given)
    assert found["serving"]["mfu"] == {"value": 0.25, "source": "assumed (given)"}
    assert found["serving"]["usd"] == pytest.approx(1e12 * found["flops_per_token"] / 3 / 247.25e12 / 3600 * 4)
    assert not [each for each in found["assumed"] if "inference" in each]


def test_an_old_price_of_serving_is_warned_about(capsys: pytest.CaptureFixture[str]) -> None:
    """The H100's of the table is of 2025-03-03; the one given has no date."""
    said = "the price of serving is of 2025-03-03"
    old, given = (
        facts(capsys, *BUDGET, "--inference-tokens", "1T", "--inference-gpu", gpu)["warnings"]
        for gpu in ("h100", "h100=2")
    )
    assert [each for each in old if said in each]
    assert not [each for each in given if "price" in each]


def test_without_serving_nothing_is_said_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert facts(capsys, *BUDGET)["serving"] is None
    assert "serv" not in printed(capsys, *BUDGET, "-v")


def test_a_size_says_what_the_best_one_would_gain(capsys: pytest.CaptureFixture[str]) -> None:
    found = facts(capsys, *BUDGET, "--params", "8B")
    best = found["sensitivity"]["best_of_family"]
    assert found["params"] == pytest.approx(8e9, rel=0.01)
    model = printed(capsys, *BUDGET, "--params", "8B").splitlines()[0]
    assert model.startswith("model    8.0") or model.startswith("model    7.9")
    assert f"would be {found['loss'] - best['loss']:.3f} nats lower" in model


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ((*BUDGET, "--params", "0"), "'0': expected a whole number from 1"),
        ((*BUDGET, "--params", "lots"), "'lots': expected a number"),
        ((*BUDGET, "--params", "1e16"), "expected a whole number from 1"),
        ((*BUDGET, "--params", "8B", "--params", "9B"), "--params: given twice"),
        ((*BUDGET, "--inference-tokens", "0.5"), "expected a whole number from 1"),
        ((*BUDGET, "--inference-tokens", "1e18"), "does not pay for serving 1,000,000,000,000,000,000 tokens"),
        ((*BUDGET, "--inference-mfu", "0.1"), "--inference-mfu: only with --inference-tokens"),
        ((*BUDGET, "--inference-gpu", "h100"), "--inference-gpu: only with --inference-tokens"),
        ((*BUDGET, "--inference-tokens", "1T", "--inference-mfu", "10"), "'10': expected a share above 0"),
        ((*BUDGET, "--inference-tokens", "1T", "--inference-gpu", "b200"), "one, as in --inference-gpu b200=USD"),
        ((*BUDGET, "--inference-tokens", "1T", "--inference-gpu", "b2000=1"), "no GPU 'b2000'"),
        ((*BUDGET, "--inference-tokens", "1T", "--inference-gpu", "v100=1"), "v100-16 has no bf16 peak"),
        ((*BUDGET, "--inference-tokens", "1T", "--inference-gpu", "h100=0"), "price = 0 USD per GPU-hour"),
        (
            ("plan", "--gpus", "64xh100", "--for", "3w", "--inference-tokens", "1T"),
            "--inference-tokens: not with --gpus, a machine as it is",
        ),
        (("plan", "--setup", SETUP, "--params", "8B"), "--params: not with --setup, whose file"),
        (("plan", "--setup", SETUP, "--inference-tokens", "1T"), "--inference-tokens: not with --setup"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(argv: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert message in refusal(capsys, *argv)


def test_python_takes_the_same() -> None:
    found = plan(budget="1M", gpu={"h100": 2.5}, inference_tokens="1T", inference_gpu="h200=4", inference_mfu=0.25)
    assert found["serving"]["usd_per_gpu_hour"] == 4
    assert plan(budget="1M", gpu={"h100": 2.5}, params="8B")["params"] == pytest.approx(8e9, rel=0.01)
    with pytest.raises(PlannerError, match="only with inference_tokens"):
        plan(budget="1M", inference_mfu=0.25)
