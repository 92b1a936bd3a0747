"""What `prove` measures on a device, on the CPU: memory beside its prediction, and seconds into a calibration."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from analytic.hardware.table import load_hardware
from analytic.performance.calibration_file import load_calibration
from empirical.commands import prove
from empirical.measure import calibrate, throughput
from empirical.measure import memory as memory_measured
from empirical.measure.cases import default_cases
from empirical.measure.machine import this_machine
from empirical.proof.findings import Findings
from empirical.proof.report import verify_text
from tests.calibration_cases import LLAMA, calibration, written
from tests.configurations import parsed

CPU = torch.device("cpu")


pytestmark = pytest.mark.usefixtures("briefly")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps(LLAMA))
    return path


def _arguments(config: Path, out: Path, *more: str) -> list[str]:
    return [str(config), "--seq-len", "8", "--device", "cpu", "--calibration-out", str(out), *more]


def test_prove_measures_memory_and_writes_the_calibration(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "made.json"
    assert prove.VERB.main(_arguments(config, out, "--json")) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["calibration"] == json.loads(out.read_text())
    assert len(load_calibration(out).readings) == 5
    assert [(r["case"]["part"], r["error"]) for r in facts["calibration"]["readings"]] == [
        ("forward", ""),
        ("forward_backward", ""),
        ("forward_backward", ""),
        ("forward_backward", ""),
        ("step", ""),
    ]
    assert {(row["implementation"], row["setup"]["precision"]) for row in facts["memory"]} == {
        (implementation, precision)
        for implementation in ("transformers 5.23 LlamaForCausalLM", "our layers")
        for precision in ("fp16", "bf16")
    }
    assert "training step" in {row["subject"] for row in facts["memory"]}
    assert set(facts["versions"]) >= {"torch", "transformers"}


def test_the_text_has_memory_and_seconds_of_the_file_that_is_gone_on_with(
    config: Path,
    tiny_calibration: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = Path(shutil.copy(tiny_calibration, tmp_path / "made.json"))
    monkeypatch.setattr(calibrate, "measure", lambda *_: pytest.fail("it is timed already"))
    assert prove.VERB.main(_arguments(config, out)) == 0
    text = capsys.readouterr().out
    assert "measured on cpu" in text
    assert "unexplained" in text
    assert "layer 0 forward+backward, 1 x 8, bf16" in text
    assert out.read_text() == tiny_calibration.read_text()


def test_without_a_config_a_set_that_suits_the_machine_is_timed() -> None:
    cases = prove._cases((), CPU, 10**12)
    assert cases == list(default_cases(CPU, 10**12))


def test_an_interrupted_run_tells_and_keeps_what_it_has(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    timed: list[object] = []

    def once(*arguments: Any) -> Any:
        if timed:
            raise KeyboardInterrupt
        timed.append(arguments)
        return throughput.measure(*arguments)

    monkeypatch.setattr(calibrate, "measure", once)
    out = tmp_path / "made.json"
    assert prove.VERB.main(_arguments(config, out, "--json")) == 130
    printed = capsys.readouterr()
    facts = json.loads(printed.out)
    assert len(facts["calibration"]["readings"]) == 1
    assert facts["calibration"] == json.loads(out.read_text())
    assert facts["passed"] > 0
    assert printed.err.endswith("foretrain prove: interrupted\n")


def test_an_interrupt_among_the_peaks_of_a_model_leaves_those_before_it(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(memory_measured, "measure_step", interrupted)
    assert prove.VERB.main(_arguments(config, tmp_path / "made.json", "--json")) == 130
    rows = json.loads(capsys.readouterr().out)["memory"]
    assert [row["quantity"] for row in rows] == ["forward_transient", "backward_peak"] * 2


def test_what_could_not_be_written_is_refused_before_it_begins(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prove, "check_models", lambda *_: pytest.fail("it has begun"))
    whole = written(tmp_path / "whole.json", replace(calibration([]), machine=this_machine(CPU))).read_text()
    truncated = tmp_path / "truncated.json"
    truncated.write_text(whole[:-20])
    for out, said in (
        (tmp_path / "nowhere" / "new.json", "nowhere"),
        (truncated, "not JSON"),
        (written(tmp_path / "other.json", calibration([])), "measured on NVIDIA H200, this is cpu"),
        (tmp_path, "a directory"),
    ):
        assert prove.VERB.main(_arguments(config, out)) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1


def test_a_layer_that_cannot_run_is_an_answer_and_the_next_measurement_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise RuntimeError("Expected inputs of BF16 type\nand more")

    monkeypatch.setattr(memory_measured, "measure_layer", refuse)
    rows = list(memory_measured.measured_memory(parsed(LLAMA), 16, CPU))
    refused = [row for row in rows if row.error]
    assert [(row.setup.precision, row.subject, row.measured_bytes, row.unexplained_bytes) for row in refused] == [
        ("fp16", "layer 0-2", None, None),
        ("bf16", "layer 0-2", None, None),
    ]
    assert {row.error for row in refused} == {"cannot run: Expected inputs of BF16 type"}
    assert len(rows) == 2 + 2 * 3  # also our layer twice and the whole step
    found = Findings(memory={"m": rows})
    facts = found.as_json()["memory"]
    assert [row["measured_bytes"] for row in facts if row["error"]] == [None, None]
    text = verify_text(found, load_hardware(), {})
    (line,) = (line for line in text.splitlines() if "bf16: cannot run: Expected inputs" in line)
    assert line.startswith("  transformers 5.23 LlamaForCausalLM, layer 0-2, bf16: ")
    row = next(line for line in text.splitlines() if "layer 0-2, peak " in line)
    assert row.split()[-6:] == ["-"] * 6  # no figure at all, least of all a zero


def test_what_torch_holds_of_earlier_measurements_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    handed_back: list[bool] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: handed_back.append(True))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (1000 if handed_back else 100, 2000))
    assert memory_measured._available_bytes(torch.device("cuda")) == 900


@pytest.mark.gpu
def test_a_llama_7b_layer_s_memory_on_cuda() -> None:
    from tests.configurations import shipped

    rows = list(memory_measured.measured_memory(shipped("llama_7b"), 2048, torch.device("cuda")))
    assert all(row.measured_bytes is not None and row.measured_bytes > 0 for row in rows)
