"""The command that times: every case on disk as it is done, going on after a kill, and what it refuses."""

from __future__ import annotations

import json
import math
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from analytic.errors import FileError, UsageError
from analytic.io.files import configs_dir
from analytic.model.training import TrainingSetup
from analytic.performance.calibration_file import case_to_json, load_calibration
from empirical.commands.calibrate import VERB as CALIBRATE
from empirical.measure import calibrate, machine, throughput
from empirical.measure.calibrate import begin
from empirical.measure.cases import cut, default_cases, layer_cases, setup_for, step_cases
from empirical.measure.machine import conditions, this_machine, warnings_of
from tests.calibration_cases import FP32, LLAMA, MIXTRAL, calibration, written
from tests.calibration_cases import case as case_of
from tests.configurations import parsed, shipped

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("briefly")
# the command in a process of its own, timing as briefly, its third case without end
PROGRAM = """
import pytest, sys, time
from empirical.commands.calibrate import VERB
from empirical.measure import calibrate as measuring
from tests.empirical.conftest import time_briefly

def measure(*arguments, real=measuring.measure, left=[2, 1]):
    left.pop() if left else time.sleep(600)
    return real(*arguments)

with pytest.MonkeyPatch.context() as patches:
    time_briefly(patches)
    patches.setattr(measuring, "measure", measure)
    VERB.main(sys.argv[1:])
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps(LLAMA))
    return path


def _arguments(config: Path, out: Path) -> list[str]:
    shape = ["--seq-len", "8", "--precision", "fp32", "bf16"]
    return [str(config), "--out", str(out), *shape, "--device", "cpu"]


def test_a_killed_run_is_gone_on_with(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "calibration.json"
    arguments = _arguments(config, out)
    command = [sys.executable, "-c", PROGRAM, *arguments]
    root = configs_dir().parent
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=root)
    assert running.stderr is not None
    for _ in range(2):  # two cases are done, a third is under way
        assert running.stderr.readline()
    running.send_signal(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    running.communicate()
    before = load_calibration(out)
    assert len(before.readings) == 2
    assert CALIBRATE.main([*arguments, "--resume"]) == 0
    after = load_calibration(out)
    assert after.readings[: len(before.readings)] == before.readings
    assert after.ceilings[: len(before.ceilings)] == before.ceilings
    labels = [reading.case.label for reading in after.readings]
    assert len(labels) == len(set(labels)) == 10  # 2 precisions; forward, both passes thrice, step
    assert "best matrix product measured on cpu" in capsys.readouterr().out


def test_the_bad_are_refused(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there = written(tmp_path / "there.json", calibration([]))
    for arguments, said in (
        (_arguments(config, there), "already there"),
        ([*_arguments(config, there), "--resume"], "measured on NVIDIA H200, this is cpu"),
        (_arguments(tmp_path / "none.json", tmp_path / "new.json"), "No such file"),
        (["--out", str(tmp_path / "new.json"), "--seq-len", "8"], "only with MODEL"),
        (["--out", str(tmp_path / "new.json"), "--attention-kernel", "eager"], "only with MODEL"),
        (["--out", str(tmp_path / "new.json"), "--device", "tpu"], "expected cuda or cpu"),
        (_arguments(config, tmp_path / "nowhere" / "new.json"), "cannot be written"),
    ):
        assert CALIBRATE.main(arguments) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1


def test_a_ceiling_that_does_not_run_is_told_and_the_cases_go_on(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.\nand more")

    monkeypatch.setattr(calibrate, "matmul_ceiling", full)
    monkeypatch.setattr(throughput, "build", full)
    out = tmp_path / "c.json"
    assert CALIBRATE.main(_arguments(config, out)) == 0
    assert {ceiling.kind for ceiling in load_calibration(out).ceilings} == {"copy"}
    assert len(load_calibration(out).readings) == 10
    error = capsys.readouterr().err
    assert error.count("a ceiling of the device: does not fit: CUDA out of memory.\n") == 4  # 2 sizes, 2 precisions


def test_to_resume_what_was_never_written_is_to_begin(tmp_path: Path) -> None:
    begun = begin(tmp_path / "c.json", this_machine(CPU), is_resumed=True)
    assert (begun.name, begun.readings, begun.ceilings) == ("c.json", (), ())


def test_a_number_that_json_has_not_is_refused_before_it_is_timed(tmp_path: Path) -> None:
    """A key that nobody reads may be infinite in a published file, but not in ours."""
    config = parsed(LLAMA | {"unread": math.inf})
    out, begun = tmp_path / "c.json", calibration([])
    said = f"{config.path}: architecture.unread = inf: expected a finite number"
    with pytest.raises(FileError, match=re.escape(said)):
        next(calibrate.calibrate(out, begun, [case_of(config, setup=FP32)], CPU))
    assert not out.exists()


def test_other_versions_are_not_gone_on_with(tmp_path: Path) -> None:
    here = this_machine(CPU)
    path = written(tmp_path / "c.json", replace(calibration([]), machine=replace(here, versions={"torch": "1.0"})))
    with pytest.raises(FileError, match=r"measured with torch 1\.0, this is torch "):
        begin(path, here, is_resumed=True)


def test_a_model_too_large_is_timed_at_two_depths_of_full_width() -> None:
    v3 = shipped("deepseek_v3")
    shallow, deeper = step_cases(v3, TrainingSetup(seq_len=4096, attention_kernel="cudnn"), 141 * 10**9)
    assert [len(case.layers) for case in (shallow, deeper)] == [4, 6]
    assert {case.of_layers for case in (shallow, deeper)} == {61}
    for case in (shallow, deeper):
        assert case.layers == v3.spec.layers[: len(case.layers)]
        assert replace(case.config.spec, layers=v3.spec.layers) == v3.spec
        assert "of 61 layers" in case.label
    (whole,) = step_cases(shipped("llama-3.2-1b"), TrainingSetup(seq_len=4096), 141 * 10**9)
    assert len(whole.layers) == whole.of_layers == 16


def test_a_cut_keeps_what_is_said_of_the_layers_that_stay() -> None:
    layers = ["full_attention", "sliding_attention", "full_attention"]
    keys = LLAMA | {"model_type": "qwen3", "layer_types": layers, "use_sliding_window": True, "sliding_window": 4}
    config = parsed(keys)
    assert cut(config, 2).spec.layers == config.spec.layers[:2]


def test_experts_are_timed_by_either_routing() -> None:
    cases = list(layer_cases(parsed(MIXTRAL), TrainingSetup(seq_len=8)))
    assert [case.routing for case in cases] == ["balanced", "router"] * 4
    assert len({json.dumps(case_to_json(case)) for case in cases}) == len(cases)


def test_the_default_set_covers_what_it_should() -> None:
    cases = list(default_cases(torch.device("cuda"), 141 * 10**9))
    setups = [case.setup for case in cases]
    assert {1024, 4096, 16384} <= {setup.seq_len for setup in setups}
    assert {setup.micro_batch for setup in setups} >= {1, 2, 4, 8}
    assert {case.config.spec.hidden_size for case in cases} >= {2048, 4096, 8192}
    assert {case.routing for case in cases} == {"none", "balanced", "router"}
    assert {setup.attention_kernel for setup in setups} == {"flash", "efficient", "cudnn", "eager"}
    assert {case.built_by for case in cases} == {"transformers", "ours"}
    assert {case.is_compiled for case in cases} == {True, False}
    labels = [case.label for case in cases]
    assert len(set(labels)) == len(labels)
    assert {case.setup.precision for case in default_cases(CPU, 10**12)} == {"fp32", "bf16"}


def test_latent_attention_is_timed_with_a_kernel_that_takes_its_heads() -> None:
    v3, cuda = shipped("deepseek_v3"), torch.device("cuda")
    assert setup_for(v3, 4096, 1, "bf16", cuda).attention_kernel == "cudnn"
    assert setup_for(v3, 4096, 1, "bf16", CPU).attention_kernel == "eager"
    assert setup_for(shipped("llama-3-8b"), 4096, 1, "bf16", CPU).attention_kernel == "flash"
    setup = setup_for(v3, 4096, 1, "bf16", cuda, "flash")
    with pytest.raises(UsageError, match="192 for queries and 128 for values"):
        list(layer_cases(v3, setup))


def test_the_card_s_state_is_read_where_there_is_a_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho '1980 MHz, 1980 MHz, 612.00 W, 700.00 W, 61, 0x0000000000000020'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    found = machine._smi("GPU-0")
    assert found["power_limit"] == "700.00 W"
    (slowed,) = warnings_of(found)
    assert "61 C, 612.00 W" in slowed
    tool.write_text("#!/bin/sh\nexit 1\n")
    assert machine._smi("GPU-0") == conditions(CPU) == {}


def test_a_shared_card_is_warned_of() -> None:
    normal = {"throttle_reasons": "0x0000000000000004", "bytes_outside_allocator": str(10**9)}  # its power limit
    assert warnings_of(normal) == []
    assert "others use it" in warnings_of(normal | {"bytes_outside_allocator": str(10**10)})[0]


def test_json_is_the_file(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(throughput, "build", full)
    out = tmp_path / "c.json"
    assert CALIBRATE.main([*_arguments(config, out), "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) == json.loads(out.read_text())
    assert printed.err.count("does not fit") == 10  # it goes on with the next case
    assert json.loads(out.read_text())["readings"][0]["case"]["setup"]["seq_len"] == 8
