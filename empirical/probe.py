"""A first measurement on a device: one decoder layer in fp16 under checkpointing, its peak bytes and its seconds.

The same code runs on CUDA and on the CPU; only the clock and the allocator that is asked differ.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils.checkpoint import checkpoint

from analytic.flops import layer_flops
from analytic.hardware import Hardware
from analytic.hf import ModelConfig
from empirical.build import transformers_layer
from empirical.memory import running_total
from empirical.memory_measured import MeasuredPeak, measured_memory, why

WARM_UP_STEPS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Raw facts of one layer on one device; whatever is derived from them is derived when printed.

    Attributes:
        implementation: whose layer, with which attention.
        base_bytes: live before: parameters, input and rotary tables.
        forward_peak_bytes: most allocated above the base by a checkpointed forward pass.
        step_peak_bytes: the same for forward, recomputation and backward, gradients absent at first.
        step_seconds: each timed step of forward, recomputation and backward.
        model_flops: of one such step, full attention; recomputation not among them.
        memory: peaks of a layer and, where it fits, of a whole step, beside what is predicted for them.
        error: why there are no figures; they are then zero or empty.
    """

    model: str
    layer: int
    implementation: str
    device: str
    dtype: str
    batch_size: int
    seq_len: int
    base_bytes: int
    forward_peak_bytes: int
    step_peak_bytes: int
    step_seconds: tuple[float, ...]
    model_flops: int
    memory: tuple[MeasuredPeak, ...] = ()
    error: str = ""

    @property
    def median_seconds(self) -> float:
        return statistics.median(self.step_seconds)

    def mfu(self, hardware: Hardware) -> float | None:
        """Model FLOPs per second over the device's dense peak at the dtype; None where no peak is known."""
        gpu = hardware.of_device(self.device)
        if gpu is None or self.dtype not in gpu.peak_flops_per_s:
            return None
        return self.model_flops / self.median_seconds / gpu.peak(self.dtype)

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"memory": [peak.as_json() for peak in self.memory]}


def probe_layer(
    config: ModelConfig,
    device: torch.device,
    *,
    seq_len: int,
    batch_size: int = 1,
    dtype: torch.dtype = torch.float16,
    steps: int = 20,
) -> Probe:
    """Measure the first layer of the model's last run of equal ones (of a DeepSeek model, an MoE layer)."""
    run = config.spec.runs[-1]
    forward = layer_flops(run.layer, config.spec.hidden_size, seq_len, "full").total
    facts: dict[str, Any] = {
        "model": config.name,
        "layer": run.first,
        "implementation": "transformers, sdpa, non-reentrant checkpoint",
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "dtype": {torch.float16: "fp16", torch.bfloat16: "bf16", torch.float32: "fp32"}[dtype],
        "batch_size": batch_size,
        "seq_len": seq_len,
        "model_flops": 3 * forward * batch_size,
    }
    try:
        layer = transformers_layer(config, run, seq_len=seq_len, device=device, dtype=dtype).train()
        x = torch.randn(batch_size, seq_len, config.spec.hidden_size, device=device, dtype=dtype, requires_grad=True)
        measured = _measure(layer, x, steps)
        del layer, x
        memory = tuple(measured_memory(config, seq_len, device))
    except Exception as error:  # whatever a library refuses, the other models go on
        nothing: dict[str, Any] = {"base_bytes": 0, "forward_peak_bytes": 0, "step_peak_bytes": 0, "step_seconds": ()}
        return Probe(**facts, **nothing, error=why(error))
    return Probe(**facts, **measured, memory=memory)


def _measure(layer: torch.nn.Module, x: Tensor, steps: int) -> dict[str, Any]:
    def forward() -> Tensor:
        out: Tensor = checkpoint(layer, x, use_reentrant=False, preserve_rng_state=False)
        return out

    def step() -> None:
        out = forward()
        out.backward(gradient)

    def forget() -> None:
        layer.zero_grad(set_to_none=True)
        x.grad = None

    gradient = torch.randn_like(x)
    for _ in range(WARM_UP_STEPS):
        step()
        forget()
    tensors = (*layer.parameters(), *layer.buffers(), x, gradient)
    return {
        "base_bytes": sum(t.numel() * t.element_size() for t in tensors),
        "forward_peak_bytes": peak_bytes(forward, x.device),
        "step_peak_bytes": peak_bytes(step, x.device, forget),
        "step_seconds": tuple(_seconds(step, x.device, forget) for _ in range(steps)),
    }


def peak_bytes(run: Callable[[], object], device: torch.device, forget: Callable[[], None] = lambda: None) -> int:
    """Most bytes requested of the allocator, at any moment of `run`, above what was live before.

    On CUDA the allocator's own figure of requested bytes; elsewhere the sum of the profiler's memory events.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        base = torch.cuda.memory_stats(device)["requested_bytes.all.current"]
        torch.cuda.reset_peak_memory_stats(device)
        run()
        torch.cuda.synchronize(device)
        peak: int = torch.cuda.memory_stats(device)["requested_bytes.all.peak"] - base
    else:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as recorded:
            run()
        peak, _ = running_total(recorded)
    forget()
    return peak


def _seconds(step: Callable[[], None], device: torch.device, forget: Callable[[], None]) -> float:
    """Seconds of one step: between two CUDA events, or by the wall clock."""
    if device.type == "cuda":
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        step()
        end.record()
        end.synchronize()
        seconds: float = start.elapsed_time(end) / 1e3
    else:
        begun = time.perf_counter()
        step()
        seconds = time.perf_counter() - begun
    forget()
    return seconds
