"""What to time: the cases of one model, and a default set for a device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import torch

from analytic.huggingface.config import ModelConfig, load, parse
from analytic.io.files import configs_dir
from analytic.io.keys import Keys
from analytic.memory.capacity import RESERVE_BYTES
from analytic.memory.implementation import NotPredicted
from analytic.memory.schedule import schedule_of
from analytic.model.training import AttentionKernel, Precision, TrainingSetup, fused_kernel
from analytic.performance.calibration import Case, Part, RoutingMode

# On CUDA: (model, sequence length, micro-batch) of layers and steps; compiled ones take the longest to get ready.
DEFAULT_LAYERS = (
    *(("llama-3.2-1b", 1024, 8), ("llama-3.2-1b", 4096, 4), ("llama-3.2-1b", 16384, 1)),
    *(("llama_7b", 2048, 4), ("llama_7b", 4096, 1)),
    *(("llama-3-8b", 1024, 8), ("llama-3-8b", 8192, 1), ("llama-3-8b", 8192, 2), ("llama-3-8b", 16384, 1)),
    *(("llama-2-70b", 4096, 1), ("llama-2-70b", 8192, 1)),
    *(("mixtral-8x7b", 4096, 2), ("qwen3-30b-a3b", 4096, 2), ("deepseek_v3", 4096, 1)),
)
DEFAULT_COMPILED = (
    ("llama-3.2-1b", 4096, 4),
    ("llama-3-8b", 1024, 8),
    ("llama-3-8b", 8192, 1),
    ("llama-2-70b", 4096, 1),
)
DEFAULT_STEPS = (("llama-3.2-1b", 4096, 1), ("llama-3.2-1b", 8192, 2), ("llama-3-8b", 8192, 1))
DEFAULT_MOE_STEP = ("mixtral-8x7b", 4096, 1)
OTHER_KERNELS: tuple[AttentionKernel, ...] = ("efficient", "cudnn", "eager")  # besides flash, on one layer
NARROW_WIDTHS = (256, 512, 1024)  # on CUDA: models that one card trains in minutes
SMALL_WIDTHS, SMALL_SHAPES = (64, 128, 256), ((64, 1), (128, 1), (128, 8))  # on a CPU: tokens, micro-batch


def default_cases(device: torch.device, memory_bytes: int) -> Iterator[Case]:
    """Small to large widths, 1k to 16k tokens, dense and MoE; on a CPU small layers alone, in fp32 and bf16."""
    if device.type == "cuda":
        yield from _layers(device)
        yield from _steps(device, memory_bytes)
    else:
        for precision in ("fp32", "bf16"):
            yield from _small_cases(precision, device, memory_bytes)


def _layers(device: torch.device) -> Iterator[Case]:
    for is_compiled, shapes in ((False, DEFAULT_LAYERS), (True, DEFAULT_COMPILED)):
        for name, seq_len, batch in shapes:
            config = _shipped(name)
            yield from layer_cases(config, setup_for(config, seq_len, batch, "bf16", device), is_compiled=is_compiled)
    config = _shipped("llama-3-8b")
    for case in layer_cases(config, setup_for(config, 8192, 1, "bf16", device)):
        yield replace(case, built_by="ours")
        for kernel in OTHER_KERNELS:
            yield replace(case, setup=replace(case.setup, attention_kernel=kernel))
        yield replace(case, setup=replace(case.setup, precision="fp16"))


def _steps(device: torch.device, memory_bytes: int) -> Iterator[Case]:
    for hidden in NARROW_WIDTHS:
        config = small_config(hidden, vocab_size=32_000)
        yield from cases_of(config, setup_for(config, 4096, 8, "bf16", device), memory_bytes)
    dense = product((False, True), DEFAULT_STEPS)
    for is_compiled, (name, seq_len, batch) in (*dense, (False, DEFAULT_MOE_STEP)):
        config = _shipped(name)
        setup = setup_for(config, seq_len, batch, "bf16", device)
        yield from step_cases(config, setup, memory_bytes, is_compiled=is_compiled)


def _shipped(name: str) -> ModelConfig:
    paths = (configs_dir() / f"{name}_config.json", configs_dir() / "models" / f"{name}.json")
    return load(next(path for path in paths if path.exists()))


def _small_cases(precision: Precision, device: torch.device, memory_bytes: int) -> Iterator[Case]:
    for hidden in SMALL_WIDTHS:
        config = small_config(hidden)
        for seq_len, batch in SMALL_SHAPES:
            yield from cases_of(config, setup_for(config, seq_len, batch, precision, device), memory_bytes)


def small_config(hidden_size: int, vocab_size: int = 1024) -> ModelConfig:
    """A Llama of two layers of that width."""
    keys = {
        "model_type": "llama",
        "hidden_size": hidden_size,
        "intermediate_size": 3 * hidden_size,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": vocab_size,
    }
    return parse(Path(f"llama-{hidden_size}.json"), Keys(keys))


def setup_for(
    config: ModelConfig,
    seq_len: int,
    micro_batch: int,
    precision: Precision,
    device: torch.device,
    kernel: AttentionKernel | None = None,
) -> TrainingSetup:
    """The setup of a timed layer; by default with the fused attention that the device has for the model's heads."""
    if kernel is None:
        kernel = fused_kernel(config.spec)
        has_none = precision == "fp32" or (kernel != "flash" and device.type != "cuda")
        kernel = "eager" if has_none else kernel
    return TrainingSetup(
        seq_len=seq_len, micro_batch=micro_batch, precision=precision, attention_kernel=kernel, rounding_bytes=512
    )


def cases_of(
    config: ModelConfig, setup: TrainingSetup, memory_bytes: int, *, is_compiled: bool = False
) -> Iterator[Case]:
    """All cases of one model: its layers, and its training step."""
    yield from layer_cases(config, setup, is_compiled=is_compiled)
    yield from step_cases(config, setup, memory_bytes, is_compiled=is_compiled)


def layer_cases(config: ModelConfig, setup: TrainingSetup, *, is_compiled: bool = False) -> Iterator[Case]:
    """For each kind of layer and each routing: forward, and forward and backward without and with checkpointing.

    With checkpointing, also accumulating gradients: that is how a plan trains.
    """
    checkpointed = replace(setup, checkpointing="full")
    timed: tuple[tuple[Part, TrainingSetup], ...] = (
        ("forward", setup),
        ("forward_backward", setup),
        ("forward_backward", checkpointed),
        ("forward_backward", replace(checkpointed, is_accumulating=True)),
    )
    for layer, head in config.spec.kinds.items():
        routings: tuple[RoutingMode, ...] = ("balanced", "router") if layer.has_experts else ("none",)
        for part, own in timed:
            for routing in routings:
                yield Case(
                    config=config,
                    part=part,
                    layer=head.first,
                    of_layers=len(config.spec.layers),
                    setup=own,
                    is_compiled=is_compiled,
                    routing=routing,
                )


def step_cases(
    config: ModelConfig, setup: TrainingSetup, memory_bytes: int, *, is_compiled: bool = False
) -> Iterator[Case]:
    """A step of the whole model, as a plan runs it; where it does not fit, of two smaller depths at full width."""
    setup = replace(setup, has_master_weights=setup.precision != "fp32", checkpointing="full")
    for depth in _depths(config, setup, memory_bytes):
        yield Case(
            config=cut(config, depth),
            part="step",
            layer=None,
            of_layers=len(config.spec.layers),
            setup=setup,
            is_compiled=is_compiled,
            routing="balanced" if config.spec.has_experts else "none",
        )


def _depths(config: ModelConfig, setup: TrainingSetup, memory_bytes: int) -> tuple[int, ...]:
    spec, schedule = config.spec, schedule_of(config, setup)
    if isinstance(schedule, NotPredicted) or schedule.peak_bytes() <= memory_bytes - RESERVE_BYTES:
        return (len(spec.layers),)
    first = spec.runs[-1].first
    return (first + 1, min(first + 3, len(spec.layers)))


def cut(config: ModelConfig, depth: int) -> ModelConfig:
    """The same model with only its first layers."""
    if depth == len(config.spec.layers):
        return config
    key = "n_layer" if config.model_type == "gpt2" else "num_hidden_layers"
    raw = {**config.raw, key: depth}
    if raw.get("layer_types") is not None:
        raw["layer_types"] = raw["layer_types"][:depth]
    if raw.get("mlp_only_layers") is not None:
        raw["mlp_only_layers"] = [i for i in raw["mlp_only_layers"] if i < depth]
    return parse(config.path, Keys(raw))
