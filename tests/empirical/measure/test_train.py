"""Training what was planned, on the CPU: real steps, counted, for as long as was asked or until an interrupt."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from analytic.errors import UsageError
from analytic.hardware.table import load_hardware
from analytic.planning.this_machine import CPU_FAMILY, machine_plan
from analytic.scaling.law_file import load_law
from empirical.commands import prove
from empirical.measure import machine, throughput, train
from empirical.measure import memory as memory_measured
from empirical.measure.throughput import build
from empirical.models.programs import StepProgram
from empirical.proof.findings import Findings
from empirical.proof.report import verify_text
from empirical.proof.workers import Finished, check_models
from tests.calibration_cases import BF16, FP32, LLAMA, calibration, case
from tests.configurations import parsed

CPU = torch.device("cpu")
TINY = parsed(LLAMA)
PLANNED = replace(BF16, micro_batch=2, checkpointing="full", has_master_weights=True)
STEP = case(TINY, "step", PLANNED)


def program() -> StepProgram:
    built = build(STEP, CPU)
    assert isinstance(built, StepProgram)
    return built


def quiet(steps: int, seconds: float) -> None:
    """Ignores progress."""


def interrupt(*_: object) -> None:
    """As the signal would; a shell may have its background jobs ignore that."""
    raise KeyboardInterrupt


def loss_of(model: Any) -> float:
    ids = torch.arange(2 * 16).view(2, 16)
    with torch.no_grad():
        return float(model(input_ids=ids, labels=ids, use_cache=False).loss)


def test_steps_train() -> None:
    """Tokens are uniform, so that there is nothing to learn but that: the loss falls towards ln 96."""
    torch.manual_seed(0)
    built = program()
    before, weights = loss_of(built.model), [p.detach().clone() for p in built.model.parameters()]
    for _ in range(40):
        train.step(built)
    assert loss_of(built.model) < before
    for old, new, master in zip(weights, built.model.parameters(), built.masters, strict=True):
        assert not torch.equal(old, new)
        assert torch.equal(new, master.to(torch.bfloat16))


def test_every_step_has_tokens_of_its_own() -> None:
    built = program()
    seen = []
    for _ in range(2):
        train.step(built)
        seen.append(built.inputs["input_ids"].clone())
        assert torch.equal(built.inputs["labels"], seen[-1])
    assert not torch.equal(*seen)


def test_the_flops_are_those_that_torch_counts() -> None:
    plain = case(TINY, "step", FP32)
    built: Any = build(plain, CPU)
    with FlopCounterMode(display=False) as counter:
        train.step(built)
    assert counter.get_total_flops() == plain.model_flops()
    trained = train.train(plain, CPU, 1e-6, quiet)
    assert trained.flops_per_s == pytest.approx(plain.model_flops() * trained.steps / trained.seconds)


def test_it_trains_for_as_long_as_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def seconds_of(run: Any, device: torch.device, runs: int) -> float:
        run()
        now[0] += 0.25 * runs
        return 0.25

    monkeypatch.setattr(train, "seconds_of", seconds_of)
    monkeypatch.setattr("empirical.measure.train.time.perf_counter", lambda: now[0])
    progress = []
    trained = train.train(STEP, CPU, 3.0, lambda *block: progress.append(block))
    assert progress == [
        (1, 0.25),
        (5, 1.25),
        (9, 2.25),
        (12, 3.0),
    ]  # a first step, blocks of a second, the rest
    assert (trained.steps, trained.seconds, trained.tokens) == (12, 3.0, 12 * 2 * 16)
    assert (trained.tokens_per_s, trained.step_seconds) == (12 * 32 / 3.0, 0.25)
    assert trained.peak_bytes is not None
    assert trained.peak_bytes > 14 * sum(p.numel() for p in program().model.parameters())  # 2 + 4 + 4 + 4 bytes each
    assert (trained.energy_joules, trained.error, trained.was_interrupted) == (None, "", False)


def test_an_interrupt_ends_it_with_what_was_measured() -> None:
    trained = train.train(STEP, CPU, 60, interrupt)
    assert trained.was_interrupted
    assert trained.steps == 1
    assert trained.seconds > 0


def test_what_does_not_fit_is_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.\nand more")

    monkeypatch.setattr(train, "build", full)
    trained = train.train(STEP, CPU, 1, quiet)
    assert trained.error == "does not fit, needs about 0.0 GiB: CUDA out of memory."
    assert (trained.steps, trained.tokens_per_s, trained.step_seconds, trained.flops_per_s) == (0, None, None, None)


def test_an_error_after_some_steps_leaves_what_they_took(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([100.0, 350.0])
    monkeypatch.setattr(train, "energy_joules", lambda _: next(readings))

    def fails(steps: int, seconds: float) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    trained = train.train(STEP, CPU, 3600, fails)
    assert (trained.steps, trained.energy_joules) == (1, 250.0)
    assert trained.error.endswith("CUDA out of memory.")
    assert not trained.was_interrupted


def nvml(energy: int | None) -> SimpleNamespace:
    """As nvml.h has it; `energy` None is a card that has no such counter."""

    def read(handle: Any, millijoules: Any) -> int:
        millijoules._obj.value = energy or 0
        return 3 if energy is None else 0

    return SimpleNamespace(
        nvmlInit_v2=lambda: 0,
        nvmlDeviceGetHandleByUUID=lambda card, handle: 0 if card == b"GPU-0" else 2,
        nvmlDeviceGetTotalEnergyConsumption=read,
    )


def test_energy_is_read_where_it_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine._nvml_joules(nvml(1500), "GPU-0") == 1.5
    assert machine._nvml_joules(nvml(None), "GPU-0") is None
    assert machine._nvml_joules(nvml(1500), "GPU-1") is None
    assert machine.energy_joules(CPU) is None
    readings = iter([100.0, 350.0])
    monkeypatch.setattr(train, "energy_joules", lambda _: next(readings))
    assert train.train(STEP, CPU, 1e-6, quiet).energy_joules == 250.0


@pytest.fixture
def arguments(tiny_calibration: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Of a run that goes on with a calibration that has all cases."""
    shutil.copy(tiny_calibration, tmp_path / "c.json")
    monkeypatch.setattr(memory_measured, "measured_memory", lambda *_: [])
    config = tmp_path / "tiny.json"
    config.write_text(json.dumps(LLAMA))
    return [str(config), "--seq-len", "8", "--device", "cpu", "--calibration-out", str(tmp_path / "c.json")]


def test_prove_plans_proves_and_trains(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert prove.VERB.main([*arguments, "--train", "0.002", "--json"]) == 0
    printed = capsys.readouterr()
    facts = json.loads(printed.out)
    planned, trained = facts["planned"], facts["trained"]
    assert planned["mfu"] == {"value": 0.4, "source": "assumed (default)"}
    assert planned["why_assumed"] == "c.json: too few bf16 cases of dense layers for a fit"
    assert planned["peak_source"] == "best matrix product measured on cpu"
    assert trained["tokens"] == trained["steps"] * 128 > 0
    assert {check["model"] for check in facts["checks"]} == {"tiny", "plan"}  # its model is proven, too
    (flops,) = {c["analytic"] for c in facts["checks"] if (c["model"], c["quantity"]) == ("plan", "forward FLOPs")}
    assert 3 * flops == 128 * planned["flops_per_token"]
    assert "trained 1 steps in" in printed.err


def test_an_interrupted_prove_prints_what_was_trained(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(case: Any, device: torch.device, seconds: float, on_progress: Any) -> train.Trained:
        return real(case, device, seconds, interrupt)

    real = train.train
    monkeypatch.setattr(train, "train", interrupted)
    assert prove.VERB.main([*arguments, "--train", "60"]) == 130
    printed = capsys.readouterr()
    assert "trained 1 steps on synthetic tokens, interrupted" in printed.out
    assert printed.err.endswith("foretrain prove: interrupted\n")


def test_a_plan_that_cannot_be_made_leaves_what_was_measured(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise UsageError("minutes = 1e-09: not enough for one token")

    monkeypatch.setattr(prove, "machine_plan", refuse)
    assert prove.VERB.main([*arguments, "--train", "1", "--json"]) == 2
    printed = capsys.readouterr()
    facts = json.loads(printed.out)
    assert len(facts["calibration"]["readings"]) == 5
    assert facts["passed"] > 0
    assert printed.err.endswith("foretrain prove: minutes = 1e-09: not enough for one token\n")


def test_an_interrupt_while_the_plan_is_proven_ends_it(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def proven(jobs: Any, *more: Any) -> Any:
        return Finished([], was_interrupted=True) if jobs[0][0].name == "plan" else check_models(jobs, *more)

    monkeypatch.setattr(prove, "check_models", proven)
    monkeypatch.setattr(train, "train", lambda *_: pytest.fail("it trains"))
    assert prove.VERB.main([*arguments, "--train", "60"]) == 130
    assert "a plan for this machine" in capsys.readouterr().out


@pytest.mark.parametrize("minutes", ["-1", "0", "nan", "inf", "x", "1e9"])
def test_no_such_minutes(minutes: str, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert prove.VERB.main([*arguments, f"--train={minutes}"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert prove.VERB.main([*arguments, "--train", minutes]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_text_puts_both_beside_each_other() -> None:
    product = throughput.matmul_ceiling("bf16", 64, CPU)
    plan = machine_plan(
        replace(calibration([], device="cpu"), ceilings=(product,)),
        1,
        CPU_FAMILY,
        load_law("besiroglu"),
        load_hardware(),
    )
    trained = train.Trained(
        case=plan.case,
        steps=10,
        seconds=2.0,
        peak_bytes=2 * (plan.peak_bytes or 0),
        energy_joules=None,
        was_interrupted=False,
    )
    text = verify_text(Findings(planned=plan, trained=trained), load_hardware(), {})
    rows = {line.strip().split("  ")[0]: line.split()[-3:] for line in text.splitlines()}
    assert rows["peak memory, bytes requested; planned: by the schedule"][-1] == "+100.00%"
    assert rows["seconds"] == ["60.00", "2.00", "-96.67%"]
    assert rows["tokens"][1] == "1,280"
    assert rows["energy, J; planned: at the board's TDP"] == ["unknown", "unreadable", "-"]
    failed = replace(trained, error="does not fit: of memory")
    text = verify_text(Findings(planned=plan, trained=failed), load_hardware(), {})
    assert "trained 10 steps on synthetic tokens, ended by an error: does not fit: of memory" in text
    assert "tokens per second" in text
    never = replace(failed, steps=0, seconds=0.0)
    text = verify_text(Findings(planned=plan, trained=never), load_hardware(), {})
    assert "not trained: does not fit: of memory" in text
