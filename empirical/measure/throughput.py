"""Seconds of a layer's passes, of a model's training step, and of what the device does at best.

The same code on every device; only the clock differs: CUDA events between two synchronizations, or the wall
clock. A clock is read around a block of runs, never within it, and a block starts only once the times of
runs have settled. Weights and inputs are random: on zeros a matrix product takes less power, and so less time.
"""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from analytic.huggingface.weight_names import OURS
from analytic.memory.implementation import NotPredicted
from analytic.memory.schedule import schedule_of
from analytic.model.spec import LayerRun
from analytic.model.training import AttentionKernel, Precision
from analytic.performance.calibration import Case, Ceiling, Reading
from analytic.units import GIB
from empirical.models.build import our_layer
from empirical.models.names import names_of
from empirical.models.programs import DTYPES, LayerProgram, StepProgram
from empirical.witnesses.memory import CpuAllocator, CudaAllocator, is_out_of_memory

BLOCKS = 7
BLOCK_SECONDS = 0.05
MOST_RUNS = 50  # in a block
STABLE_WITHIN = 0.05  # of each other: the last runs of a warm-up
STABLE_RUNS = 3
MOST_WARM_UPS = 20
MOST_COMPILED = 256  # as many as torch keeps of one function by default, whatever its guards
MATMUL_SIZES = {"cuda": (4096, 8192, 16384), "cpu": (512, 1024)}
COPY_BYTES = {"cuda": 2**31, "cpu": 2**26}

_BACKENDS: dict[AttentionKernel, SDPBackend] = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
}


def measure(case: Case, device: torch.device, conditions: Callable[[], dict[str, str]] = dict) -> Reading:
    """Time one case. Where the device lacks memory or a kernel, the result has an error and no seconds.

    Args:
        conditions: reads clocks and the like; called right after the last block, while the same runs continue.
    """
    seconds: tuple[float, ...] = ()
    peak_bytes, error, found = None, "", dict[str, str]()
    try:
        with holding_attention(case):
            seconds, peak_bytes, found = _measure(case, device, conditions)
    except Exception as failure:  # whatever a library refuses on this device, the next case follows
        error = refusal(case, failure)
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return Reading(
        case=case,
        seconds=seconds,
        peak_bytes=peak_bytes,
        time_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        conditions=found,
        error=error,
    )


def _measure(
    case: Case, device: torch.device, conditions: Callable[[], dict[str, str]]
) -> tuple[tuple[float, ...], int, dict[str, str]]:
    program = build(case, device)
    allocator = CudaAllocator(device) if device.type == "cuda" else CpuAllocator()
    phases = {"forward": ["forward_transient"], "forward_backward": ["saved", "backward_peak"]}.get(case.part)
    bytes_by_phase = {phase.name: phase.peak_bytes for phase in allocator.measure(program).phases}
    run = runner(program, case)
    seconds = time_blocks(run, device)
    found = _while_it_runs(conditions, run, device)
    return seconds, max(bytes_by_phase[name] for name in phases or bytes_by_phase), found


def _while_it_runs(
    read: Callable[[], dict[str, str]], run: Callable[[], object], device: torch.device
) -> dict[str, str]:
    """Read the state of a device at work: an idle one draws less power and has no reason to slow down."""
    with ThreadPoolExecutor(1) as reader:
        reading = reader.submit(read)
        while not reading.done():
            seconds_of(run, device, 1)
    return reading.result()


def build(case: Case, device: torch.device) -> LayerProgram | StepProgram:
    """The program that is timed: random weights and inputs, experts routed and layers compiled as the case says."""
    config, setup = case.config, case.setup
    names = names_of(config) if case.built_by == "transformers" else OURS
    program: LayerProgram | StepProgram
    if case.layer is None:
        program = StepProgram.build(config, setup, device)
        layers = list(program.model.get_submodule(names.layers_path))
        randomize(program.model)
        for ids in (program.inputs["input_ids"], program.inputs["labels"]):
            ids.random_(config.spec.vocab_size)
        for master, parameter in zip(program.masters, program.model.parameters(), strict=bool(program.masters)):
            master.data.copy_(parameter)
    else:
        run = LayerRun(first=case.layer, count=1, layer=case.layers[0])
        if case.built_by == "transformers":
            program = LayerProgram.build(config, run, setup, device)
        else:
            attention: Any = "eager" if setup.attention_kernel == "eager" else "sdpa"
            layer = our_layer(config, run, attention=attention, device=device, dtype=DTYPES[setup.precision]).train()
            shape = (setup.micro_batch, setup.seq_len, config.spec.hidden_size)
            x = torch.empty(shape, dtype=DTYPES[setup.precision], device=device, requires_grad=True)
            program = LayerProgram(layer, x, {}, setup)
        layers = [program.layer]
        randomize(program.layer)
        program.x.data.normal_()
    for layer in layers:
        if case.routing == "balanced":
            _balance(layer)
        if case.is_compiled:
            _compile(layer)
    return program


def _compile(layer: nn.Module) -> None:
    """Compile by `torch.compile`. By default it keeps 8 compiled shapes of one class, and runs a ninth uncompiled
    without an error: here the limit is higher, and exceeding it is an error."""
    from torch._dynamo import config  # takes a second to import

    config.recompile_limit = MOST_COMPILED
    config.fail_on_recompile_limit_hit = True
    layer.compile(dynamic=False)


def randomize(module: nn.Module) -> None:
    """Matrices of the size that keeps activations near one, vectors of ones; random rotary frequencies."""
    with torch.no_grad():
        for tensor in module.parameters():
            tensor.fill_(1.0) if tensor.dim() < 2 else tensor.normal_(std=tensor.shape[-1] ** -0.5)
        for name, buffer in module.named_buffers():
            if name.endswith("inv_freq"):
                buffer.uniform_()


def _balance(layer: nn.Module) -> None:
    """Assign tokens to experts in turn, so that each gets the same number, whatever the router prefers."""
    mlp: Any = layer.get_submodule("mlp")
    if not hasattr(mlp, "gate"):  # a dense layer of a model that has experts in others
        return
    num_experts = mlp.gate.weight.shape[0]

    def in_turn(_: nn.Module, __: Any, output: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        *kept, experts = output  # every router returns the chosen experts [T,k] last
        turns = torch.arange(experts.numel(), device=experts.device) % num_experts
        return (*kept, turns.view_as(experts).to(experts.dtype))

    mlp.gate.register_forward_hook(in_turn)


def runner(program: LayerProgram | StepProgram, case: Case) -> Callable[[], None]:
    """A function that runs the timed part of a case once and can be called again."""
    if isinstance(program, StepProgram):
        return lambda: _step(program)
    layer = program
    if case.part == "forward":
        return lambda: _forward(layer)
    gradient = torch.randn_like(layer.x)
    return lambda: _forward_backward(layer, gradient)


def _step(program: StepProgram) -> None:
    for _ in program.phases():
        pass
    program.reset()


def _forward(program: LayerProgram) -> None:
    with torch.no_grad():
        program.call()


def _forward_backward(program: LayerProgram, gradient: Tensor) -> None:
    program.output().backward(gradient)
    if program.setup.is_accumulating:
        program.x.grad = None  # those of the weights stay, to be added to
    else:
        program.reset()


def holding_attention(case: Case) -> AbstractContextManager[None]:
    """Restrict our layers, which ask for any fused attention, to one kernel; `transformers` layers name theirs."""
    backend = _BACKENDS.get(case.setup.attention_kernel)
    return nullcontext() if backend is None or case.built_by == "transformers" else sdpa_kernel(backend)


def time_blocks(run: Callable[[], object], device: torch.device) -> tuple[float, ...]:
    """Seconds of one run, averaged over each block of runs, once times have settled."""
    once = _settle(run, device)
    runs = max(1, min(MOST_RUNS, math.ceil(BLOCK_SECONDS / once)))
    return tuple(seconds_of(run, device, runs) for _ in range(BLOCKS))


def _settle(run: Callable[[], object], device: torch.device) -> float:
    """Run until the last runs take the same time, within 5%, or 20 have passed; the first is cold and not counted."""
    seconds_of(run, device, 1)
    recent: list[float] = []
    for _ in range(MOST_WARM_UPS):
        recent = [*recent, seconds_of(run, device, 1)][-STABLE_RUNS:]
        if len(recent) == STABLE_RUNS and max(recent) <= (1 + STABLE_WITHIN) * min(recent):
            break
    return statistics.median(recent)


def seconds_of(run: Callable[[], object], device: torch.device, runs: int) -> float:
    """Seconds of one run, averaged over several in a row."""
    if device.type != "cuda":
        begun = time.perf_counter()
        for _ in range(runs):
            run()
        return (time.perf_counter() - begun) / runs
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize(device)
    start.record()
    for _ in range(runs):
        run()
    end.record()
    torch.cuda.synchronize(device)
    return start.elapsed_time(end) / 1e3 / runs


def matmul_ceiling(precision: Precision, size: int, device: torch.device) -> Ceiling:
    """A square matrix product: 2 n^3 FLOPs."""
    a, b = (torch.randn(size, size, device=device, dtype=DTYPES[precision]) for _ in range(2))
    out = torch.empty_like(a)
    seconds = time_blocks(lambda: torch.mm(a, b, out=out), device)
    return Ceiling(kind="matmul", precision=precision, work=2 * size**3, seconds=seconds)


def copy_ceiling(device: torch.device) -> Ceiling:
    """A copy within the device's memory: every byte is read and written."""
    source = torch.randint(256, (COPY_BYTES[device.type],), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    seconds = time_blocks(lambda: target.copy_(source), device)
    return Ceiling(kind="copy", precision=None, work=2 * source.numel(), seconds=seconds)


def refusal(case: Case, failure: Exception) -> str:
    """Why a case has no seconds, on one line."""
    first = (str(failure).splitlines() or [type(failure).__name__])[0]
    if not is_out_of_memory(failure):
        return f"does not run: {first}"
    return f"does not fit{_need(case)}: {first}"


def _need(case: Case) -> str:
    """What a whole model needs by its memory schedule, where there is one."""
    schedule = schedule_of(case.config, case.setup)
    if case.layer is not None or isinstance(schedule, NotPredicted):
        return ""
    return f", needs about {schedule.peak_bytes() / GIB:.1f} GiB"
