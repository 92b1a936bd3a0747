"""`check-run` and `law`: what a published run implies, and what a law says."""

from __future__ import annotations

import pytest

from analytic.io.files import configs_dir
from tests.commands import facts, printed, refusal

RUN = str(configs_dir() / "runs" / "deepseek-v3.toml")
SETUP = str(configs_dir() / "backward_scaling_config.json")


def test_a_shipped_run_by_name_and_by_path(capsys: pytest.CaptureFixture[str]) -> None:
    found = facts(capsys, "check-run", RUN)
    assert found == facts(capsys, "check-run", "deepseek-v3")
    assert len(found["implied_mfu"]) == 16
    assert [run["run"] for run in found["published_runs"]].count("DeepSeek-V3") == 1


def test_the_answer_of_deepseek_v3(capsys: pytest.CaptureFixture[str]) -> None:
    """2,664,000 H800-hours for 14.8T tokens, at 2 USD an hour."""
    lines = printed(capsys, "check-run", "deepseek-v3").splitlines()
    assert lines[0] == "DeepSeek-V3  14.8T tokens, 2,664,000 GPU-hours on H800-SXM"
    assert "43.87% with full attention" in lines[1]
    assert "5.33M USD at 2.00 USD per GPU-hour" in lines[3]


def test_a_law_and_its_optimum(capsys: pytest.CaptureFixture[str]) -> None:
    found = facts(capsys, "law", "show", "besiroglu")
    assert found["coefficients"] == {"E": 1.8172, "A": 482.01, "B": 2085.43, "alpha": 0.3478, "beta": 0.3658, "k": 1.0}
    c = found["coefficients"]
    for best in found["optima"]:
        assert 6 * best["params"] * best["tokens"] == pytest.approx(best["flops"], rel=1e-9)
        loss = c["E"] + c["A"] / best["params"] ** c["alpha"] + c["B"] / best["tokens"] ** c["beta"]
        assert best["loss"] == pytest.approx(loss, rel=1e-12)
        # at the optimum both terms fall equally fast: alpha A / N^alpha = beta B / D^beta
        left = c["alpha"] * c["A"] / best["params"] ** c["alpha"]
        assert left == pytest.approx(c["beta"] * c["B"] / best["tokens"] ** c["beta"], rel=1e-9)
    assert "the law states no intervals" in printed(capsys, "law", "show", "besiroglu")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("check-run", "none.toml"), "none.toml: No such file"),
        (("check-run", SETUP), "not TOML"),
        (("check-run",), "the following arguments are required: RUN"),
        (("check-run", "deepseek-v3", "--law", "besiroglu"), "unrecognized argument --law"),
        (("law", "show", "chinchilla"), "no scaling law 'chinchilla'"),
        (("law", "show", "none.toml"), "none.toml: No such file"),
        (("law", "shew", "besiroglu"), "invalid choice: 'shew'"),
    ],
)
def test_bad_input_is_one_line(argv: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert message in refusal(capsys, *argv)
