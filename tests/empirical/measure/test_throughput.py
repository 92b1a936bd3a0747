"""Timing, on the CPU: the same code as on CUDA, with another clock. No wall time is asserted."""

from __future__ import annotations

from dataclasses import replace
from threading import Event
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from analytic.huggingface.config import ModelConfig
from analytic.performance.calibration import Case
from empirical.measure import throughput
from empirical.measure.throughput import build, copy_ceiling, matmul_ceiling, measure, runner
from tests.calibration_cases import BF16, FP32, LLAMA, MIXTRAL, case
from tests.configurations import parsed
from tests.empirical.models.test_layers import LATENT

CPU = torch.device("cpu")
V3 = parsed(LATENT | {"model_type": "deepseek_v3", "n_group": 4, "topk_group": 2})
DENSE, MOE = parsed(LLAMA), parsed(MIXTRAL)
GPT2 = parsed(
    {
        "model_type": "gpt2",
        "n_embd": 48,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 16,
        "vocab_size": 96,
        "attn_pdrop": 0,
    }
)


pytestmark = pytest.mark.usefixtures("briefly")


@pytest.mark.parametrize("setup", [FP32, BF16], ids=["fp32", "bf16"])
@pytest.mark.parametrize(
    ("config", "part", "options"),
    [
        (DENSE, "forward", {}),
        (DENSE, "forward_backward", {"built_by": "ours"}),
        (DENSE, "step", {}),
        (V3, "forward_backward", {"routing": "router"}),
        (MOE, "step", {"routing": "balanced"}),
        (GPT2, "forward_backward", {}),
    ],
)
def test_every_kind_of_case_is_timed(config: ModelConfig, part: str, options: Any, setup: Any) -> None:
    reading = measure(case(config, part, setup, **options), CPU)
    assert reading.error == ""
    assert len(reading.seconds) == 2
    assert reading.peak_bytes is not None
    assert reading.peak_bytes > 16 * 48 * setup.itemsize  # at the least its output


def test_the_flops_of_an_mfu_are_those_that_torch_counts_in_the_very_module_that_is_timed() -> None:
    for timed in (case(DENSE, "forward", FP32), case(DENSE, "forward_backward", FP32), case(DENSE, "step", FP32)):
        program = build(timed, CPU)
        with FlopCounterMode(display=False) as counter:
            runner(program, timed)()
        assert counter.get_total_flops() == timed.model_flops()


def test_checkpointing_recomputes_and_is_no_model_flop() -> None:
    timed = case(DENSE, setup=replace(FP32, checkpointing="full"))
    program = build(timed, CPU)
    with FlopCounterMode(display=False) as counter:
        runner(program, timed)()
    assert counter.get_total_flops() > timed.model_flops() == case(DENSE, setup=FP32).model_flops()


def test_the_last_of_many_compiled_cases_is_compiled_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one class torch keeps eight compilations by default, and after those would run uncompiled without an error."""
    for name in ("recompile_limit", "fail_on_recompile_limit_hit"):  # put back when the test is over
        monkeypatch.setattr(torch._dynamo.config, name, getattr(torch._dynamo.config, name))
    real = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module, **how: real(module, backend="eager", **how))
    for seq_len in range(4, 4 + torch._dynamo.config.recompile_limit + 1):
        timed = case(DENSE, setup=replace(FP32, seq_len=seq_len), is_compiled=True)
        graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        runner(build(timed, CPU), timed)()
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > graphs


@pytest.mark.parametrize(("config", "built_by"), [(MOE, "transformers"), (MOE, "ours"), (V3, "transformers")])
def test_balanced_routing_gives_every_expert_as_many_tokens(config: ModelConfig, built_by: Any) -> None:
    timed = case(config, "forward", FP32, routing="balanced", built_by=built_by)
    program: Any = build(timed, CPU)
    chosen: list[torch.Tensor] = []
    program.layer.get_submodule("mlp.experts").register_forward_pre_hook(
        lambda _, arguments: chosen.extend(a for a in arguments if not a.is_floating_point())
    )
    runner(program, timed)()
    counts = torch.bincount(chosen[0].flatten())
    assert counts.max() - counts.min() <= 1
    assert all(len(set(row)) == len(row) for row in chosen[0].tolist())


def test_weights_and_inputs_are_random() -> None:
    program: Any = build(case(DENSE, "step", FP32), CPU)
    assert all(p.std() > 0 for p in program.model.parameters() if p.dim() > 1)
    assert program.inputs["input_ids"].unique().numel() > 1
    assert program.model(**program.inputs, use_cache=False).loss.isfinite()


def test_what_does_not_fit_is_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has ...")

    monkeypatch.setattr(throughput, "build", full)
    reading = measure(case(DENSE, "step"), CPU)
    assert (reading.seconds, reading.peak_bytes) == ((), None)
    assert reading.error == "does not fit, needs about 0.0 GiB: CUDA out of memory. Tried to allocate 2.00 GiB."


def test_memory_that_does_not_suffice_is_known_by_what_a_library_says_of_it() -> None:
    with pytest.raises(RuntimeError) as refused:
        torch.empty(2**60, dtype=torch.uint8)
    assert throughput.refusal(case(DENSE), refused.value).startswith("does not fit: ")
    cublas = RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
    assert throughput.refusal(case(DENSE), cublas).startswith("does not fit: CUDA error")
    assert throughput.refusal(case(DENSE), RuntimeError("no kernel")) == "does not run: no kernel"


@pytest.mark.parametrize("kernel", ["efficient", "cudnn"])
@pytest.mark.parametrize("built_by", ["transformers", "ours"])
def test_fused_kernels_that_a_cpu_lacks_are_results(kernel: Any, built_by: Any) -> None:
    timed = case(DENSE, built_by=built_by, setup=replace(BF16, attention_kernel=kernel))
    assert measure(timed, CPU).error.startswith("does not run: ")


def test_the_device_is_at_work_while_its_state_is_read() -> None:
    """A driver's tool takes a while to start: it must not find a card that rests."""
    ran = Event()

    def read() -> dict[str, str]:
        return {"was_running": str(ran.wait(timeout=30))}

    assert throughput._while_it_runs(read, ran.set, CPU) == {"was_running": "True"}
    reading = measure(case(DENSE), CPU, lambda: {"sm_clock": "1980 MHz"})
    assert reading.conditions == {"sm_clock": "1980 MHz"}
    assert len(reading.seconds) == 2


def test_a_block_follows_only_on_settled_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "MOST_WARM_UPS", 20)
    times = iter([9.0, 3.0, 2.0, 1.0, 1.0, 1.0])  # cold; falling; settled
    asked = []

    def clock(*_: object) -> float:
        asked.append(1)
        return next(times, 1.0)

    monkeypatch.setattr(throughput, "seconds_of", clock)
    assert throughput.time_blocks(lambda: None, CPU) == (1.0,) * 2
    assert len(asked) == 6 + 2


def test_ceilings() -> None:
    product, copy = matmul_ceiling("fp32", 64, CPU), copy_ceiling(CPU)
    assert product.work == 2 * 64**3
    assert copy.work == 2 * throughput.COPY_BYTES["cpu"]


@pytest.mark.gpu
@pytest.mark.parametrize("is_compiled", [False, True])
def test_a_llama_3_8b_layer_on_cuda(is_compiled: bool) -> None:
    from analytic.hardware.table import load_hardware
    from tests.calibration_cases import calibration
    from tests.configurations import shipped

    timed: Case = case(shipped("llama-3-8b"), setup=type(BF16)(seq_len=8192), is_compiled=is_compiled)
    reading = measure(timed, torch.device("cuda"))
    assert reading.error == ""
    mfu = calibration([reading], torch.cuda.get_device_name()).mfu(reading, load_hardware())
    assert mfu is None or 0.1 < mfu < 1
