"""The first measured layer, on the CPU: the same code as on CUDA, with another clock and another allocator to ask."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from analytic.flops import layer_flops
from analytic.hardware import load_hardware
from empirical import cli, memory_measured, probe
from empirical.probe import Probe, peak_bytes, probe_layer
from empirical.report import verify_text
from tests.configurations import parsed
from tests.test_layers import DENSE, LATENT

CPU = torch.device("cpu")
LLAMA = DENSE | {"model_type": "llama"}
V3 = LATENT | {"model_type": "deepseek_v3", "n_group": 4, "topk_group": 2}


def test_a_peak_is_the_highest_running_total() -> None:
    def run() -> None:
        first = torch.empty(1000)  # 4,000 bytes
        second = torch.empty(500)  # 6,000
        del first  # 2,000
        third = torch.empty(750)  # 5,000
        del second, third

    assert peak_bytes(run, CPU) == 6000


@pytest.mark.parametrize("raw", [LLAMA, V3], ids=["llama", "deepseek_v3"])
def test_a_layer_is_measured(raw: dict[str, object]) -> None:
    config = parsed(raw)
    measured = probe_layer(config, CPU, seq_len=16, batch_size=2, steps=4)
    run, hidden = config.spec.runs[-1], config.spec.hidden_size
    x_bytes = 2 * 16 * hidden * 2
    assert (measured.device, measured.dtype, measured.layer) == ("cpu", "fp16", run.first)
    assert measured.model_flops == 3 * 2 * layer_flops(run.layer, hidden, 16, "full").total
    assert measured.base_bytes > 2 * x_bytes
    assert measured.forward_peak_bytes > x_bytes  # its output is the least that a forward pass leaves
    assert measured.step_peak_bytes > measured.forward_peak_bytes  # recomputation brings back what backward needs
    assert len(measured.step_seconds) == 4
    assert all(seconds > 0 for seconds in measured.step_seconds)


def test_a_layer_that_does_not_fit_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has ...")

    monkeypatch.setattr(probe, "transformers_layer", full)
    measured = probe_layer(parsed(LLAMA), CPU, seq_len=16)
    assert measured.error == "does not fit: CUDA out of memory. Tried to allocate 2.00 GiB."
    assert "does not fit" in verify_text([], [measured], load_hardware(), {})


def test_a_layer_that_cannot_run_is_an_answer_and_the_next_measurement_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise RuntimeError("Expected inputs of BF16 type\nand more")

    monkeypatch.setattr(memory_measured, "measure_layer", refuse)
    rows = list(memory_measured.measured_memory(parsed(LLAMA), 16, CPU))
    refused = [row for row in rows if row.quantity == "cannot run: Expected inputs of BF16 type"]
    assert len(refused) == 2  # one for each precision
    assert len(rows) == 2 + 2 * 3  # beside them our layer twice and the whole step
    monkeypatch.setattr(probe, "transformers_layer", refuse)
    measured = probe_layer(parsed(LLAMA), CPU, seq_len=16)
    assert measured.error == "cannot run: Expected inputs of BF16 type"


def on(device: str, dtype: str) -> Probe:
    return Probe(
        model="m",
        layer=0,
        implementation="transformers",
        device=device,
        dtype=dtype,
        batch_size=1,
        seq_len=8,
        base_bytes=1,
        forward_peak_bytes=1,
        step_peak_bytes=1,
        step_seconds=(0.9, 1.0, 1.2),
        model_flops=494_500_000_000_000,
    )


def test_mfu_is_of_the_dense_peak_and_only_where_one_is_known() -> None:
    hardware = load_hardware()
    assert on("NVIDIA H200", "fp16").mfu(hardware) == pytest.approx(0.5)  # 989 TFLOP/s dense, not 1,979
    assert on("NVIDIA Imaginary 1", "fp16").mfu(hardware) is None
    assert "no MFU" in verify_text([], [on("cpu", "fp16")], hardware, {})
    assert "MFU 0.500" in verify_text([], [on("NVIDIA H200", "fp16")], hardware, {})


def test_verify_writes_the_raw_facts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, out = tmp_path / "config.json", tmp_path / "probe.json"
    config.write_text(json.dumps(LLAMA))
    assert cli.verify([str(config), "--seq-len", "8", "--probe", "cpu", "--probe-out", str(out)]) == 0
    assert "measured on cpu" in capsys.readouterr().out
    facts = json.loads(out.read_text())
    assert facts["schema"] == "trainmeter-probe-1"
    assert set(facts["versions"]) >= {"torch", "transformers"}
    (only,) = facts["probes"]
    assert only["step_seconds"]
    assert "mfu" not in only  # raw facts: an MFU is derived when it is printed
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_probe_that_could_not_be_written_is_refused_before_it_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "verify_all", lambda *args: pytest.fail("it has begun"))
    config, out = tmp_path / "config.json", tmp_path / "nowhere" / "probe.json"
    config.write_text(json.dumps(LLAMA))
    assert cli.verify([str(config), "--seq-len", "8", "--probe", "cpu", "--probe-out", str(out)]) == 2
    assert "nowhere" in capsys.readouterr().err


@pytest.mark.gpu
def test_a_llama_7b_layer_on_cuda() -> None:
    from tests.configurations import shipped

    measured = probe_layer(shipped("llama_7b"), torch.device("cuda"), seq_len=2048)
    assert measured.error == ""
    assert measured.step_peak_bytes > measured.forward_peak_bytes > 2048 * 4096 * 2
    mfu = measured.mfu(load_hardware())
    assert mfu is None or 0.05 < mfu < 1
