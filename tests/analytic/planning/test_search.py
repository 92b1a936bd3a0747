"""Plans whose MFU depends on the shape, beside GPUs with published and assumed ones; and the published table."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from analytic.commands.plan import VERB as PLAN
from analytic.hardware.table import load_hardware
from analytic.model.flops import training_flops
from analytic.model.training import TrainingSetup
from analytic.performance.calibration import Calibration
from analytic.performance.published import load_published, nearest
from analytic.performance.work import optimizer_bytes
from analytic.planning import search as tune
from tests.analytic.performance.test_regression import work
from tests.calibration_cases import SECONDS_PER, calibration, case, explained, grid, written
from tests.configurations import parsed

BUDGET = ["--budget", "20000"]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune, "MOST_CANDIDATES", 60)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return written(tmp_path / "h200.json", calibration([explained(of) for of in grid()]))


def plan(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    status = PLAN.main([*BUDGET, *map(str, arguments)])
    printed = capsys.readouterr()
    return status, printed.out or printed.err


def test_each_gpu_s_mfu_says_what_it_is(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gpus = ("--gpu", "h200=1", "--gpu", "h100-sxm=9", "--gpu", "l4=9", "--gpu", "b200=99", "--mfu", "b200=0.3")
    status, text = plan(capsys, "--calibration", file, *gpus, "--json")
    assert status == 0
    facts = json.loads(text)
    by_gpu = {option["gpu"]: option["mfu"]["source"] for option in facts["options"]}
    assert by_gpu["h200"].startswith("predicted from h200.json (NVIDIA H200, 2026-01-02, 1 GPU, transformers, bf16,")
    assert by_gpu["h100-sxm"].startswith("published (NVIDIA/dgxc-benchmarking, llama3.1/README_8b.md at 35a9aec")
    assert by_gpu["l4"] == "assumed (default)"
    assert by_gpu["b200"] == "assumed (given)"
    assert facts["gpu"] == "h200"
    assert facts["mfu"]["upper_bound"] is True
    assert facts["flat_mfu"]["mfu"] == {"value": 0.4, "source": "assumed (default)"}
    assert "--micro-batch 1" in facts["assumed"]


def test_the_plan_spends_the_seconds_that_the_fit_predicts(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Tokens x seconds a token are the GPU-hours paid for: whatever the MFU is a share of."""
    _, text = plan(capsys, "--calibration", file, "--gpu", "h200=2", "--num-gpus", "8", "--json")
    facts = json.loads(text)
    setup = TrainingSetup(seq_len=4096, checkpointing="full", has_master_weights=True, is_accumulating=True)
    own = case(parsed(facts["architecture"]), "step", replace(setup, rounding_bytes=512))
    whole = sum(x * y for x, y in zip(SECONDS_PER, work(own).terms, strict=True))
    seconds = whole - 7 / 8 * optimizer_bytes(own) * SECONDS_PER[3]
    assert facts["tokens"] / 4096 * seconds / 3600 == pytest.approx(20_000 / 2, rel=1e-6)


def test_the_optimum_moves_with_the_mfu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where time goes into layer passes of a fixed length, a larger model costs little more than a small one."""
    slow_passes = (*SECONDS_PER[:-1], 20e-3)
    slow = written(tmp_path / "slow.json", calibration([explained(of, slow_passes) for of in grid()]))
    facts = json.loads(plan(capsys, "--calibration", slow, "--gpu", "h200", "--json")[1])
    assert facts["mfu"]["value"] < 0.2
    assert facts["law_params"] > 1.5 * facts["optimum"]["params"]  # of the same MFU as a constant
    assert facts["within_1_percent_of_optimum"] is False


def test_the_text_shows_both_side_by_side(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, text = plan(capsys, "--calibration", file, "--gpu", "h200", "-v")
    assert status == 0
    assert "this plan  " in text
    assert "at a flat MFU, assumed (default)  h200  40.00%" in text
    assert "predicted from h200.json" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--gpu", "a100-80"), "h200.json was measured on NVIDIA H200: compared are a100-80"),
        (("--gpu", "h200", "--mfu", "0.5"), "h200.json has the MFU of h200, and --mfu gives one, too"),
        (("--gpu", "h200", "--seq-len", "131072"), "times away in"),
        (("--gpu", "h200", "--kind", "moe"), "too few bf16 cases of experts for a fit"),
        (("--gpu", "h200", "--dtype", "fp8"), "no calibration of fp8"),
        (("--gpu", "h200", "--dtype", "fp16"), "too few fp16 cases of dense layers for a fit"),
    ],
)
def test_the_bad_are_refused(
    arguments: tuple[str, ...], said: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, text = plan(capsys, "--calibration", file, *arguments)
    assert status == 2
    assert said in text
    assert text.count("\n") == 1


def test_another_device_and_a_stray_option_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made: Calibration = calibration([explained(of) for of in grid()], device="cpu")
    status, text = plan(capsys, "--calibration", written(tmp_path / "cpu.json", made))
    assert (status, "cpu.json was measured on cpu" in text) == (2, True)
    status, text = plan(capsys, "--micro-batch", 2)
    assert (status, "only with --calibration" in text) == (2, True)
    assert PLAN.main(["--setup", "x", "--calibration", "y"]) == 2
    assert "--calibration: not with --setup" in capsys.readouterr().err


# MFU in percent under full attention, as computed from the same sources elsewhere; llm-foundry and TinyLlama
# print it under this very convention.
@pytest.mark.parametrize(
    ("gpu", "model", "percent"),
    [
        ("a100-80", "MPT-125m", 44.32),
        ("a100-80", "MPT-7b", 64.13),
        ("a100-80", "MPT-70b", 53.24),
        ("a100-40", "TinyLlama-1.1B", 56.26),
        ("h100-sxm", "Llama-3.1-8B", 59.45),
    ],
)
def test_published_throughput_is_converted_to_our_convention(gpu: str, model: str, percent: float) -> None:
    (run,) = [r for r in load_published(load_hardware()) if (r.gpu.key, r.config.name) == (gpu, model)]
    full, causal = run.mfu("full"), run.mfu("causal")
    assert 100 * full.value == pytest.approx(percent, abs=0.2)
    flops = {
        c: training_flops(run.config.spec, seq_len=run.seq_len, convention=c).model_flops for c in ("full", "causal")
    }
    assert causal.value / full.value == pytest.approx(flops["causal"] / flops["full"])
    assert full.origin.startswith("published (")
    assert "full attention" in full.origin


def test_the_nearest_published_size_stands_in() -> None:
    hardware = load_hardware()
    runs, a100 = load_published(hardware), hardware.find("a100-80")
    for active, name in ((1, "MPT-125m"), (3 * 10**9, "MPT-3b"), (10**13, "MPT-70b")):
        run = nearest(runs, a100, "bf16", active)
        assert run is not None
        assert run.config.name == name
    assert nearest(runs, hardware.find("t4"), "bf16", 10**9) is None
    assert nearest(runs, a100, "fp16", 10**9) is None
