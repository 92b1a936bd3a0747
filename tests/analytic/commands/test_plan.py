"""The plan command from outside: what it prints, what it refuses, and what it imports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from analytic.commands.plan import VERB as PLAN
from analytic.io.files import configs_dir
from analytic.io.jsonc import read_jsonc

SETUP = str(configs_dir() / "backward_scaling_config.json")
JSON_KEYS = {
    *("gpu", "mfu", "compute_flops", "params", "tokens", "loss", "epochs", "dataset_limited", "gpu_hours", "usd"),
    *("law", "flops_per_token", "six_nd_flops", "architecture", "options", "sensitivity"),
}


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert PLAN.main(argv) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def terms(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    return run(capsys, *argv, "-v")


def facts(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(capsys, *argv, "--json"))
    return found


def test_forward_json(capsys: pytest.CaptureFixture[str]) -> None:
    found = facts(capsys, "--budget", "5e6", "--gpu", "a100=4.0", "--law", "exercise", "--seq-len", "2048")
    assert found.keys() >= JSON_KEYS
    assert found["gpu"] == "a100-80"
    assert found["mfu"]["value"] == 0.4
    assert found["mfu"]["source"] == "assumed (default)"
    assert found["compute_flops"] == 5616 * 10**20
    assert found["six_nd_optimum"]["params"] == pytest.approx(47_476_210_890.126, rel=5e-11)
    assert found["six_nd_optimum"]["loss"] == pytest.approx(1.8969638019019, rel=5e-11)
    assert found["params"] == pytest.approx(found["optimum"]["params"], rel=0.01)
    assert found["six_nd_flops"] == 6 * found["params"] * found["tokens"]
    assert found["used_flops"] == found["flops_per_token"] * found["tokens"]
    assert found["gpu_hours"] == pytest.approx(1_250_000, rel=1e-9)
    assert found["usd"] == pytest.approx(5e6, rel=1e-9)
    assert {law["law"] for law in found["sensitivity"]["laws"]} >= {"hoffmann", "besiroglu", "muennighoff"}


def test_backward_json(capsys: pytest.CaptureFixture[str]) -> None:
    found = facts(capsys, "--setup", SETUP)
    assert found.keys() >= JSON_KEYS
    assert found["params"] == 6_885_871_616
    assert found["tokens"] == 213_100_828_941
    assert found["compute_flops"] == 92285568 * 10**14
    assert found["six_nd_flops"] == 6 * 6_885_871_616 * 213_100_828_941
    assert found["energy_kwh"] == pytest.approx(8 * 720 * 0.7)
    assert found["approximation"] is None
    assert any(fact.startswith("attention full, ") for fact in found["assumed"])
    (option,) = found["options"]
    assert (option["gpu"], option["usd_per_gpu_hour"], option["price_source"]) == (
        "h100-sxm",
        2.99,
        "RunPod, 2025-03-03",
    )
    assert option["flops_per_usd"] == pytest.approx(989e12 * 0.45 * 3600 / 2.99)


def test_both_ways_give_machines_the_same_facts(capsys: pytest.CaptureFixture[str]) -> None:
    """All but those of a budget and of a search for an architecture, which a backward file states."""
    forward, backward = facts(capsys, "--budget", "1e6"), facts(capsys, "--setup", SETUP)
    of_a_search = {
        "budget_usd",
        "optimum",
        "within_1_percent_of_optimum",
        "six_nd_optimum",
        "vocab_padding",
        "flat_mfu",
        *("not_compared", "skipped", "sizes", "serving", "loss_by_another"),
    }
    assert forward.keys() - backward.keys() == of_a_search
    for key in ("mfu", "law_details", "fit"):
        assert forward[key].keys() == backward[key].keys()
    assert forward["options"][0].keys() == backward["options"][0].keys()


def test_a_machine_that_is_not_in_the_table_has_no_price(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "setup.json"
    path.write_text(Path(SETUP).read_text().replace('"H100",', '"ours", "peak_flops_per_gpu": 1e15,'))
    found = facts(capsys, "--setup", str(path))
    (option,) = found["options"]
    assert found["gpu"] == option["gpu"] == option["name"] == "ours"
    assert found["usd"] is found["energy_kwh"] is option["usd_per_gpu_hour"] is option["flops_per_usd"] is None


def test_an_moe_planned_backward_is_an_approximation(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    setup, _ = read_jsonc(Path(SETUP))
    mixtral = json.loads((configs_dir() / "models" / "mixtral-8x7b.json").read_text())
    keys = ("model_type", "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    more = ("num_key_value_heads", "num_local_experts", "num_experts_per_tok")
    path = tmp_path / "setup.json"
    path.write_text(json.dumps(setup | {"architecture": {key: mixtral[key] for key in (*keys, *more)}}))
    assert "overestimate" in facts(capsys, "--setup", str(path))["approximation"]


def test_forward_text_says_where_figures_are_from(capsys: pytest.CaptureFixture[str]) -> None:
    text = terms(
        capsys, "--budget", "1e6", "--gpu", "h100", "--gpu", "a100=1.5", "--mfu", "h100=0.5", "--num-gpus", "64"
    )
    for expected in (
        "RunPod, 2025-03-03",
        "given",
        "assumed (default)",
        "assumed (given)",
        "published, dense bf16",
        "arXiv:2404.10102",
        "extrapolates",
        "on 64 GPUs",
    ):
        assert expected in text


def test_figures_without_a_datasheet_are_marked(capsys: pytest.CaptureFixture[str]) -> None:
    lines = terms(capsys, "--budget", "1e6", "--gpu", "a10g").splitlines()
    assert any(line.startswith("energy") and line.endswith("TDP, unverified") for line in lines)
    lines = terms(capsys, "--budget", "1e6", "--gpu", "h800=2", "--dtype", "fp8").splitlines()
    assert any(line.startswith("  peak") and line.endswith(", unverified") for line in lines)
    assert "unverified" not in terms(capsys, "--budget", "1e6", "--gpu", "h100")


def test_moe_is_an_approximation_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    moe = ("--budget", "1e6", "--kind", "moe", "--law", "besiroglu")
    assert "overestimate" in facts(capsys, *moe)["approximation"]
    assert facts(capsys, "--budget", "1e6")["approximation"] is None
    text = terms(capsys, *moe)
    assert "a dense law at the active parameters" in text
    assert "overestimate" in text


def test_repeated_data_say_whose_decay_they_borrow(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ("--budget", "1e6", "--dataset-tokens", "1e8", "--max-epochs", "40")
    text = terms(capsys, *argv)
    assert "R_D* = 15.39" in text
    assert "worth 1.51" in " ".join(text.split())  # 1 + 15.387756 (1 - exp(-39 / 15.387756)) = 15.17...
    assert "beyond 16 epochs" in text
    assert "warning: the data end first: the law would spend the rest of the budget at 0.000" in text
    assert "USD is left over: the data end first" in text
    assert "borrows" not in terms(capsys, *argv, "--law", "muennighoff")


def test_what_does_not_fit_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert "no number of these GPUs could run it" in terms(capsys, "--budget", "1e10", "--gpu", "t4", "--dtype", "fp16")
    assert "DO NOT FIT" in terms(capsys, "--budget", "1e7", "--gpu", "h100", "--num-gpus", "2")
    assert "transformers-fsdp2 dp_shard 8, proven" in terms(capsys, "--setup", SETUP)
    assert "not predicted: no memory schedule" in terms(capsys, "--budget", "1e7", "--gpu", "h100", "--dtype", "fp8")


def test_one_gpu_is_no_plural(capsys: pytest.CaptureFixture[str]) -> None:
    lines = terms(capsys, "--budget", "1e3", "--gpu", "h100", "--num-gpus", "1").splitlines()
    assert any(line.startswith("time") and line.endswith("days on 1 GPU") for line in lines)
    assert any(line.startswith("  1 GPU   ") for line in lines)


def test_gpus_joined_by_pcie_alone_are_passed_over(capsys: pytest.CaptureFixture[str]) -> None:
    offers = ("--gpu", "l40s=0.5", "--gpu", "h100=3")
    found = facts(capsys, "--budget", "200k", *offers)
    (skipped,) = found["skipped"]
    assert (found["gpu"], skipped["gpu"]) == ("h100-sxm", "l40s")
    assert "\npassed over  l40s: the model takes " in run(capsys, "--budget", "200k", *offers)
    small = facts(capsys, "--budget", "50", *offers)  # a model that one of them holds
    assert (small["gpu"], small["skipped"]) == ("l40s", [])
    alone = facts(capsys, "--budget", "200k", "--gpu", "l40s=0.5")
    assert alone["gpu"] == "l40s"
    assert any("joined by PCIe alone" in warning for warning in alone["warnings"])


def test_padding_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    assert "vocabulary 50,304, 47 of it padding" in terms(capsys, "--budget", "1e4", "--vocab-size", "50257")


@pytest.mark.parametrize("switch", ["show_breakdown", "verify_calculations"])
def test_each_output_option_changes_the_output(switch: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "setup.json"
    path.write_text(Path(SETUP).read_text().replace(f'"{switch}": true', f'"{switch}": false'))
    sign = {"show_breakdown": "term by term", "verify_calculations": "recomputed in integers"}[switch]
    assert sign in terms(capsys, "--setup", SETUP)
    assert sign not in terms(capsys, "--setup", str(path))
    key = {"show_breakdown": "breakdown", "verify_calculations": "checks"}[switch]
    assert facts(capsys, "--setup", SETUP)[key]
    assert facts(capsys, "--setup", str(path))[key] is None


def test_the_plan_writes_its_config(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    found = facts(capsys, "--budget", "1e5", "--write-config", str(path))
    assert json.loads(path.read_text()) == found["architecture"]


def test_the_shipped_design_is_what_the_command_gives(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    argv = ("--budget", "5e6", "--gpu", "a100=4.0", "--mfu", "0.4", "--law", "exercise", "--seq-len", "2048")
    run(capsys, *argv, "--write-config", str(path))
    assert path.read_text() == (configs_dir() / "my_model_config.json").read_text()


def test_the_plan_draws_itself(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for suffix in ("PNG", "svg"):
        run(capsys, "--budget", "1e5", "--dataset-tokens", "1e11", "--plot", str(tmp_path / f"plan.{suffix}"))
    assert (tmp_path / "plan.PNG").read_bytes().startswith(b"\x89PNG")
    ElementTree.parse(tmp_path / "plan.svg")


def test_a_picture_needs_matplotlib_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delitem(sys.modules, "analytic.report.plot", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib.axes", None)
    files = ("--write-config", str(tmp_path / "config.json"), "--plot", str(tmp_path / "plan.png"))
    assert PLAN.main(["--budget", "1e5", *files]) == 2
    assert "--plot needs matplotlib" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("config", "picture"),
    [
        ("config.json", "nowhere/x.png"),
        ("config.json", "folder.png"),
        ("folder.png", "x.png"),
        ("config.json", "x.pdf"),
    ],
)
def test_of_two_files_none_is_written_where_one_cannot_be(
    config: str, picture: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "folder.png").mkdir()
    argv = ("--budget", "1e5", "--write-config", str(tmp_path / config), "--plot", str(tmp_path / picture))
    assert PLAN.main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert [path.name for path in tmp_path.rglob("*")] == ["folder.png"]


HEAVY = ("torch", "transformers", "numpy", "scipy", "matplotlib", "fvcore", "rich")


@pytest.mark.parametrize("argv", [["--budget", "5e6"], ["--setup", SETUP]])
def test_a_plan_imports_nothing_heavy(argv: list[str]) -> None:
    code = (
        "import sys; from analytic.commands.plan import VERB; "
        f"status = VERB.main({argv!r}); sys.exit(3 if any(m in sys.modules for m in {HEAVY!r}) else status)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


BUDGET = ("--budget", "1e6")
BAD: dict[str, tuple[tuple[str, ...], str]] = {
    "nothing": ((), "one of the arguments --budget --gpus --setup is required"),
    "two things": ((*BUDGET, "--setup", SETUP), "not allowed with"),
    "budget of nothing": (("--budget", "0"), "'0': expected a number above 0"),
    "negative budget": (("--budget=-5",), "'-5': expected a number such as 200k"),
    "budget as text": (("--budget", "lots"), "'lots': expected a number such as 200k"),
    "budget with a sign": (("--budget", "$5"), "'$5': expected a number such as 200k"),
    "budget with stray commas": (("--budget", "5,00"), "'5,00': expected a number"),
    "budget NaN": (("--budget", "nan"), "'nan': expected a number such as 200k"),
    "budget infinite": (("--budget", "inf"), "'inf': expected a number such as 200k"),
    "budget overflows": (("--budget", "1e400"), "'1e400': expected a number such as 200k"),
    "budget beyond the world": (("--budget", "1e17"), "at most 1e+15"),
    "budget too small": (("--budget", "1e-12"), "does not pay"),
    "budget empty": (("--budget", ""), "'': expected a number such as 200k"),
    "budget missing": (("--budget",), "expected one argument"),
    "unknown GPU": ((*BUDGET, "--gpu", "h1000"), "no GPU 'h1000': expected one of"),
    "GPU without a price": ((*BUDGET, "--gpu", "b200"), "no price is known for b200"),
    "GPU at no price": ((*BUDGET, "--gpu", "b200="), "'': expected a number such as 200k"),
    "GPU free": ((*BUDGET, "--gpu", "b200=0"), "price = 0 USD per GPU-hour: expected a number from 1e-06"),
    "GPU absurdly cheap": ((*BUDGET, "--gpu", "h100=1e-99"), "price = 1e-99 USD per GPU-hour"),
    "GPU absurdly dear": ((*BUDGET, "--gpu", "b200=1e9"), "price = 1e+09"),
    "GPU twice": ((*BUDGET, "--gpu", "h100", "--gpu", "h100-sxm"), "h100-sxm is given twice"),
    "GPU without the dtype": ((*BUDGET, "--gpu", "v100"), "v100-16 has no bf16 peak: expected one of fp32, fp16"),
    "no GPU with the dtype": ((*BUDGET, "--gpu", "a100", "--dtype", "fp8"), "a100-80 has no fp8 peak"),
    "unknown dtype": ((*BUDGET, "--dtype", "int4"), "invalid choice: 'int4'"),
    "MFU in percent": ((*BUDGET, "--mfu", "40"), "'40': expected a share above 0 and at most 1"),
    "MFU above all": ((*BUDGET, "--mfu", "101%"), "'101%': expected a share above 0 and at most 1"),
    "MFU of nothing": ((*BUDGET, "--mfu", "0"), "'0': expected a share above 0"),
    "MFU as text": ((*BUDGET, "--mfu", "forty"), "'forty': expected a number such as 200k"),
    "MFU of an unknown GPU": ((*BUDGET, "--mfu", "h1000=0.4"), "no GPU 'h1000'"),
    "MFU twice": ((*BUDGET, "--mfu", "h100=0.4", "--mfu", "h100=0.5"), "h100-sxm is given twice"),
    "MFU of every GPU twice": ((*BUDGET, "--mfu", "0.4", "--mfu", "0.5"), "MFU of every GPU is given twice"),
    "budget twice": ((*BUDGET, "--budget", "2e6"), "argument --budget: given twice, expected once"),
    "law twice": ((*BUDGET, "--law", "hoffmann", "--law", "hoffmann"), "argument --law: given twice"),
    "MFU of a GPU not compared": ((*BUDGET, "--gpu", "a100", "--mfu", "h100=0.4"), "mfu of h100-sxm: not among"),
    "unknown law": ((*BUDGET, "--law", "chinchilla"), "no scaling law 'chinchilla'"),
    "law from no file": ((*BUDGET, "--law", "none.toml"), "none.toml: No such file"),
    "unknown kind": ((*BUDGET, "--kind", "sparse"), "invalid choice: 'sparse'"),
    "vocabulary of nothing": ((*BUDGET, "--vocab-size", "0"), "expected a whole number from 1 to "),
    "vocabulary as text": ((*BUDGET, "--vocab-size", "many"), "'many': expected a number"),
    "vocabulary too large": ((*BUDGET, "--vocab-size", "999999999"), "expected a whole number from 1 to "),
    "negative sequence": ((*BUDGET, "--seq-len=-1",), "'-1': expected a number such as 200k"),
    "fractional sequence": ((*BUDGET, "--seq-len", "1.5"), "expected a whole number from 1 to "),
    "unknown attention": ((*BUDGET, "--attention", "linear"), "invalid choice: 'linear'"),
    "no days": ((*BUDGET, "--days", "0"), "'0': expected a number above 0"),
    "endless days": ((*BUDGET, "--days", "1e9"), "at most 100000"),
    "days of too many GPUs": ((*BUDGET, "--days", "1e-9"), "days = 1e-09: expected no fewer than 1,000,000,000 GPUs"),
    "half a GPU": ((*BUDGET, "--num-gpus", "0.5"), "expected a whole number from 1 to "),
    "too many GPUs": ((*BUDGET, "--num-gpus", "1e12"), "expected a whole number from 1 to "),
    "days and GPUs": ((*BUDGET, "--days", "3", "--num-gpus", "8"), "not allowed with"),
    "epochs without a dataset": ((*BUDGET, "--max-epochs", "4"), "max_epochs = 4: expected dataset_tokens, too"),
    "half of one token": (
        (*BUDGET, "--dataset-tokens", "1", "--max-epochs", "0.5"),
        "max_epochs = 0.5: expected at least 1 / 1, one token of the dataset",
    ),
    "dataset of nothing": ((*BUDGET, "--dataset-tokens", "0"), "'0': expected a whole number from 1"),
    "half a token": ((*BUDGET, "--dataset-tokens", "1.5"), "expected a whole number from 1 to "),
    "dataset too large": ((*BUDGET, "--dataset-tokens", "1e30"), "expected a whole number from 1 to "),
    "endless epochs": ((*BUDGET, "--dataset-tokens", "1e9", "--max-epochs", "1e9"), "at most 1e+06"),
    "config in no folder": ((*BUDGET, "--write-config", "/nowhere/x.json"), "/nowhere/x.json: cannot be written"),
    "picture in no folder": ((*BUDGET, "--plot", "/nowhere/x.png"), "/nowhere/x.png: cannot be written"),
    "one path for two": ((*BUDGET, "--plot", "x.png", "--write-config", "x.png"), "expected another path"),
    "picture of a kind": ((*BUDGET, "--plot", "x.pdf"), "expected a path that ends in .png or .svg"),
    "setup from no file": (("--setup", "none.json"), "none.json: No such file"),
    "setup from a folder": (("--setup", "."), "a directory"),
    "setup is a law": (("--setup", str(configs_dir() / "scaling_laws.toml")), "not JSON"),
    "setup is a config": (("--setup", str(configs_dir() / "llama_7b_config.json")), "missing training_gear"),
    "setup and an MFU": (("--setup", SETUP, "--mfu", "0.4"), "--mfu: not with --setup, whose file"),
    "setup and GPUs": (("--setup", SETUP, "--num-gpus", "8"), "--num-gpus: not with --setup, whose file"),
    "setup and a law": (("--setup", SETUP, "--law", "besiroglu"), "--law: not with --setup, whose file"),
    "unknown flag": ((*BUDGET, "--gpos", "h100"), "unrecognized argument --gpos; did you mean --gpu"),
    "stray argument": ((*BUDGET, "h100"), "unrecognized argument h100"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_line(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    argv, expected = BAD[case]
    assert PLAN.main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("foretrain plan: ")
    assert expected in captured.err
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err
