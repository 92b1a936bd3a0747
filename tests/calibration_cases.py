"""Calibrations for tests: small models, and a file whose seconds follow from coefficients that the test chose."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from analytic.huggingface.config import ModelConfig
from analytic.memory.implementation import NotPredicted
from analytic.model.training import TrainingSetup
from analytic.performance.calibration import Calibration, Case, Machine, Reading
from analytic.performance.calibration_file import to_json
from analytic.performance.work import work_of
from tests.configurations import parsed

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 48,
    "intermediate_size": 112,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 96,
}
MIXTRAL: dict[str, Any] = LLAMA | {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2}
FP32 = TrainingSetup(seq_len=16, precision="fp32", attention_kernel="eager")
BF16 = TrainingSetup(seq_len=16)
# seconds per matrix-product FLOP, expert FLOP, attention FLOP, byte, layer pass: of the order of an H200
SECONDS_PER = (1 / 700e12, 1 / 400e12, 1 / 500e12, 1 / 4e12, 20e-6)


def case(config: ModelConfig, part: str = "forward_backward", setup: TrainingSetup = BF16, **options: Any) -> Case:
    """A case of the model's last layer, or of all of it."""
    depth = len(config.spec.layers)
    layer = None if part == "step" else depth - 1
    keys: dict[str, Any] = {
        "config": config,
        "part": part,
        "layer": layer,
        "of_layers": depth,
        "setup": setup,
    } | options
    return Case(**keys)


def llama(hidden_size: int, depth: int = 2, **more: Any) -> ModelConfig:
    """A Llama of that width, heads of 128 features."""
    keys = {
        "model_type": "llama",
        "hidden_size": hidden_size,
        "intermediate_size": 3 * hidden_size,
        "num_hidden_layers": depth,
        "num_attention_heads": hidden_size // 128,
        "num_key_value_heads": min(8, hidden_size // 128),
        "vocab_size": 32_000,
    }
    return parsed(keys | more)


def explained(of: Case, seconds_per: Sequence[float] = SECONDS_PER) -> Reading:
    """A reading that takes exactly what the coefficients say."""
    work = work_of(of)
    assert not isinstance(work, NotPredicted)
    seconds = sum(x * y for x, y in zip(seconds_per, work.terms, strict=True))
    return Reading(
        case=of, seconds=(seconds,) * 3, peak_bytes=10**9, time_utc="2026-01-02T03:04:05+00:00", conditions={}
    )


def grid(widths: Sequence[int] = (1024, 2048, 4096, 8192)) -> list[Case]:
    """Layers and steps of several widths, lengths and micro-batches, as a calibration has them."""
    cases = []
    for width in widths:
        for seq_len, micro_batch in ((1024, 4), (4096, 1), (4096, 2)):
            setup = TrainingSetup(seq_len=seq_len, micro_batch=micro_batch)
            config = llama(width)
            cases += [case(config, part, setup) for part in ("forward", "forward_backward")]
            cases.append(case(config, setup=replace(setup, checkpointing="full")))
        cases.append(case(llama(width), "step", replace(setup, checkpointing="full", has_master_weights=True)))
    return cases


def calibration(readings: Sequence[Reading], device: str = "NVIDIA H200") -> Calibration:
    machine = Machine(device=device, memory_bytes=141 * 10**9, versions={"torch": "0"}, revision="none")
    return Calibration(name="calibration.json", machine=machine, ceilings=(), readings=tuple(readings))


def written(path: Path, made: Calibration) -> Path:
    path.write_text(json.dumps(to_json(made)))
    return path


def backward_file(path: Path, config: ModelConfig, mfu: object, **gear: object) -> Path:
    """A machine of one H200 and a day, to train that model at a micro-batch of one."""
    sections = {
        "architecture": dict(config.raw),
        "training_gear": {"gpu_type": "h200", "num_gpus": 1, "available_hours": 24, "dtype": "bf16"} | gear,
        "training_efficiency": {"expected_mfu": mfu, "batch_size": 1, "gradient_accumulation_steps": 1},
        "dataset_constraints": {"dataset_size": 10**12, "max_epochs": 1, "sequence_length": 4096},
        "scaling_law": {"base": "besiroglu"},
        "output_options": {},
    }
    path.write_text(json.dumps(sections))
    return path
