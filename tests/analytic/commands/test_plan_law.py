"""`plan --law` with a law that `law fit` wrote: its intervals, and what it prints first."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.commands import facts, printed, refusal
from tests.law_runs import simulated, written

ASKED = ("plan", "--budget", "2k", "--gpu", "h100=2.5")


@pytest.fixture(scope="module")
def law(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Fitted to runs of at most 1e9 parameters and 8e10 tokens: 4.8e20 FLOP."""
    from analytic.commands.law import VERB

    folder = tmp_path_factory.mktemp("law")
    runs, path = written(folder, simulated(0.002)), folder / "mine.toml"
    assert VERB.main(["fit", runs, "--write-law", str(path)]) == 0
    return str(path)


def test_a_fitted_law_gives_intervals_around_each_figure(law: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = facts(capsys, *ASKED, "--law", law)
    for name in ("params", "tokens", "loss"):
        (low_95, high_95), (low_80, high_80) = found[f"{name}_95"], found[f"{name}_80"]
        assert low_95 < low_80 < high_80 < high_95
        assert low_95 < found[name] < high_95
    stated = found["law_details"]["intervals"]
    assert stated["largest_run_flops"] == pytest.approx(6 * 1e9 * 8e10)
    assert 10 ** stated["decades_beyond"] == pytest.approx(found["used_flops"] / 4.8e20)
    assert facts(capsys, *ASKED, "--law", law) == found  # the seed of the draws is fixed


@pytest.mark.parametrize("decided", [("--params", "1B"), ("--inference-tokens", "10B"), ("--dataset-tokens", "1B")])
def test_what_the_law_does_not_decide_has_no_interval_but_its_loss(
    decided: tuple[str, str], law: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = facts(capsys, *ASKED, "--law", law, *decided)
    assert found["params_80"] is found["params_95"] is found["tokens_80"] is found["tokens_95"] is None
    assert found["loss_95"][0] < found["loss_80"][0] < found["loss"] < found["loss_80"][1] < found["loss_95"][1]


def test_the_band_comes_before_the_best_size(law: str, capsys: pytest.CaptureFixture[str]) -> None:
    model, tokens, loss = printed(capsys, *ASKED, "--law", law).splitlines()[:3]
    assert model.index("come within 0.005 nats") < model.index("best") < model.index("(80%)") < model.index("(95%)")
    assert "(80%)" in tokens
    assert "(95%)" in loss
    assert "decades beyond its runs" in loss


def test_a_shipped_law_says_that_it_states_none(capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, *ASKED, "--law", "besiroglu", "-v")
    assert "(besiroglu, which states no intervals)" in out
    assert "none: the law states no intervals" in out
    found = facts(capsys, *ASKED, "--law", "besiroglu")
    assert {found[f"{name}_{share}"] for name in ("params", "tokens", "loss") for share in (80, 95)} == {None}
    assert found["law_details"]["intervals"] is None


def test_a_fitted_law_is_shown_with_its_intervals(law: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "80 and 95%" in printed(capsys, "law", "show", law)
    assert facts(capsys, "law", "show", law)["law_details"]["intervals"]["kappa"] >= 1


def test_a_budget_far_beyond_the_runs_is_warned_about(law: str, capsys: pytest.CaptureFixture[str]) -> None:
    warnings = facts(capsys, "plan", "--budget", "1M", "--gpu", "h100=2.5", "--law", law)["warnings"]
    assert sum("D = 20 N chooses better" in each for each in warnings) == 1


def test_a_fit_without_runs_predicts_as_the_fit_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file has all that intervals are made of: at C = 6 N D they are those of `law fit`."""
    from analytic.scaling.fitted_plan import plan_with_intervals, predictive
    from analytic.scaling.law_file import load_law

    for form in ("coupled", "additive", "tied", "zero_e"):
        path = tmp_path / f"{form}.toml"
        runs = written(tmp_path, simulated(0.002))
        found = facts(capsys, "law", "fit", runs, "--form", form, "--flops", "1e21", "--write-law", str(path))
        read = predictive(load_law(str(path)))
        assert read is not None
        plan = plan_with_intervals(read, 1e21)
        for name in ("params", "tokens", "loss"):
            for bound in ("value", "low_80", "high_80", "low_95", "high_95"):
                assert getattr(getattr(plan, name), bound) == pytest.approx(found["optimum"][name][bound], rel=1e-6)


def test_a_model_with_experts_is_planned_by_a_law_of_such_models(capsys: pytest.CaptureFixture[str]) -> None:
    """8 experts: X = 8.85, so that L = 21.8 N^-.1675 + 120 D^-.234 + 1.3637, to the rounding of its coefficients."""
    found = facts(capsys, *ASKED, "--kind", "moe")
    assert found["law"] == "ludziejewski"
    assert found["approximation"] is None
    assert "--law ludziejewski" in found["assumed"]
    assert found["law_params"] == found["params_active"] < found["params"]
    n, d = found["params_active"], found["tokens"]
    assert found["loss"] == pytest.approx(21.833 * n**-0.1676 + 119.9126 * d**-0.2338 + 1.3637, rel=2e-3)
    assert found["law_details"]["fitted"]["experts"] == [1, 32]
    out = printed(capsys, *ASKED, "--kind", "moe", "-v")
    assert "8 a layer" in out
    assert " active come within 0.005 nats" in out.splitlines()[0]
    dense = facts(capsys, *ASKED, "--kind", "moe", "--law", "besiroglu")
    assert "overestimate" in dense["approximation"]
    assert {"besiroglu", "ludziejewski"} <= {each["law"] for each in dense["sensitivity"]["laws"]}
    assert "ludziejewski" not in {each["law"] for each in facts(capsys, *ASKED)["sensitivity"]["laws"]}


def test_a_model_with_experts_beyond_the_law_s_runs_is_warned_about(capsys: pytest.CaptureFixture[str]) -> None:
    warnings = facts(capsys, "plan", "--budget", "100k", "--gpu", "h100=2.5", "--kind", "moe")["warnings"]
    assert any("beyond what ludziejewski was fitted on: params" in each for each in warnings)


def test_a_law_of_n_and_d_alone_says_so_where_the_loss_would_be(capsys: pytest.CaptureFixture[str]) -> None:
    found = facts(capsys, *ASKED, "--law", "llama-3")
    assert (found["law"], found["loss"]) == ("llama-3", None)
    assert found["loss_by_another"]["law"] == "besiroglu"
    assert found["tokens"] == pytest.approx(0.299 * found["used_flops"] ** 0.537, rel=0.02)
    out = printed(capsys, *ASKED, "--law", "llama-3", "-v")
    assert "none by llama-3, which gives N and D alone" in out
    assert "the size by llama-3" in out
    rows = {each["law"]: each["loss"] for each in found["sensitivity"]["laws"]}
    assert rows["deepseek"] is rows["llama-3"] is None
    assert facts(capsys, *ASKED)["loss_by_another"] is None


@pytest.mark.parametrize("name", ["kaplan", "ludziejewski", "deepseek", "llama-3"])
def test_every_published_law_is_shown(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = facts(capsys, "law", "show", name)
    assert found["law"] == name
    assert found["law_details"]["citation"]
    assert len(found["optima"]) >= 7
    assert "none: the law states no intervals" in printed(capsys, "law", "show", name, "-v")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--law", "deepseek", "--params", "8B"), "deepseek gives N and D without a loss"),
        (("--law", "llama-3", "--inference-tokens", "1T"), "llama-3 gives N and D without a loss"),
        (("--law", "deepseek", "--calibration", "configs/calibrations/cpu.json"), "deepseek gives no loss"),
    ],
)
def test_what_a_law_without_a_loss_cannot_do(
    argv: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).parents[3])
    assert message in refusal(capsys, *ASKED, *argv)
