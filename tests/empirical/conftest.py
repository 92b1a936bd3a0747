"""Timing as briefly as says anything, and one small calibration for every test that only needs to have one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from analytic.huggingface.config import parse
from analytic.io.keys import Keys
from empirical.measure import throughput
from empirical.measure.calibrate import begin, calibrate
from empirical.measure.cases import cases_of, setup_for
from empirical.measure.machine import this_machine
from tests.calibration_cases import LLAMA

torch.set_num_threads(1)  # operators on tiny tensors only wait for more, the longer the busier the machine


def time_briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    """As few runs, and as small ceilings, as say anything: no test asserts how long they take."""
    for name, value in (("BLOCKS", 2), ("MOST_RUNS", 2), ("MOST_WARM_UPS", 3)):
        monkeypatch.setattr(throughput, name, value)
    monkeypatch.setitem(throughput.MATMUL_SIZES, "cpu", (32, 64))
    monkeypatch.setitem(throughput.COPY_BYTES, "cpu", 2**16)


@pytest.fixture
def briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    time_briefly(monkeypatch)


@pytest.fixture(scope="session")
def tiny_calibration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `LLAMA`, as tiny.json, takes at 8 tokens in bf16 on the CPU: to be copied, not written to."""
    path, device = tmp_path_factory.mktemp("calibration") / "c.json", torch.device("cpu")
    config, machine = parse(Path("tiny.json"), Keys(LLAMA)), this_machine(device)
    cases = cases_of(config, setup_for(config, 8, 1, "bf16", device), machine.memory_bytes)
    with pytest.MonkeyPatch.context() as patches:
        time_briefly(patches)
        for _ in calibrate(path, begin(path, machine, is_resumed=False), cases, device):
            pass
    return path
