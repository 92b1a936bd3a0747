"""The schedules against what is tracked on the meta device, and against figures published elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analytic.huggingface.config import ModelConfig
from analytic.memory.layer import LayerMemory, layer_memory
from analytic.memory.step import step_memory
from analytic.model.training import TrainingSetup
from empirical.models.programs import LayerProgram, StepProgram
from empirical.proof.check import Check
from empirical.proof.memory import layer_checks, memory_checks, step_checks
from empirical.witnesses.memory import Tracked
from tests.configurations import parsed, shipped
from tests.memory_cases import (
    FAMILIES,
    LLAMA_3_8B,
    LLAMA_3_70B,
    LLAMA_7B,
    models,
    predicted,
    runnable,
    setups,
)

random = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)


def failures(checks: Iterable[Check]) -> list[Check]:
    checks = list(checks)
    assert checks
    return [check for check in checks if check.status == "fail"]


@pytest.mark.parametrize("family", FAMILIES)
def test_random_layers_equal_the_tracker_at_every_rise_and_fall(family: str) -> None:
    @settings(random, max_examples=30)
    @given(models(family), setups(), st.data())
    def agree(config: ModelConfig, setup: TrainingSetup, data: st.DataObject) -> None:
        run = data.draw(st.sampled_from(config.spec.runs))
        assert failures(layer_checks(config, run, predicted(config), runnable(config, setup))) == []

    agree()


@pytest.mark.parametrize("family", FAMILIES)
def test_random_training_steps_equal_the_tracker_at_every_rise_and_fall(family: str) -> None:
    @settings(random, max_examples=8)
    @given(models(family), setups())
    def agree(config: ModelConfig, setup: TrainingSetup) -> None:
        assert failures(step_checks(config, predicted(config), runnable(config, setup))) == []

    agree()


@pytest.mark.parametrize("checkpointing", ["none", "full"])
@pytest.mark.parametrize("name", ["llama_7b", "deepseek_v3", "mixtral-8x7b", "llama-3.2-1b"])
def test_published_models_equal_the_tracker_at_full_size(name: str, checkpointing: Any) -> None:
    setup = TrainingSetup(seq_len=1024, checkpointing=checkpointing, optimizer="adamw_foreach", rounding_bytes=512)
    config = shipped(name)
    assert failures(memory_checks(config, runnable(config, setup))) == []


def test_fp32_master_weights_equal_the_tracker() -> None:
    setup = TrainingSetup(seq_len=256, has_master_weights=True, optimizer="adamw_foreach", checkpointing="full")
    assert failures(memory_checks(shipped("qwen2.5-7b"), setup)) == []


# Measured elsewhere, with other code: bf16, explicit flash operator, 512-byte rounding, every layer
# checkpointed, no optimizer: forward and backward with gradients None, backward with gradients there.
MEASURED_STEPS = [
    (LLAMA_7B, 4096, 15_997_757_952, 27_390_512_128, 29_736_699_904),
    (LLAMA_3_8B, 8192, 28_987_664_896, 33_005_243_392, 47_149_467_648),
    (LLAMA_3_70B, 4096, 152_000_170_496, 282_282_002_432, 294_158_223_360),
]


@pytest.mark.parametrize(("raw", "seq_len", "forward", "backward", "accumulating"), MEASURED_STEPS)
def test_training_steps_equal_published_measurements(
    raw: dict[str, Any], seq_len: int, forward: int, backward: int, accumulating: int
) -> None:
    config = parsed(raw)
    setup = TrainingSetup(seq_len=seq_len, checkpointing="full", optimizer="none", rounding_bytes=512)
    step = step_memory(config.spec, predicted(config), setup)
    assert (step.forward_peak_bytes, step.backward_peak_bytes) == (forward, backward)
    again = step_memory(config.spec, predicted(config), replace(setup, is_accumulating=True))
    assert again.backward_peak_bytes == accumulating


def test_the_tracker_equals_a_published_measurement() -> None:
    setup = TrainingSetup(seq_len=4096, checkpointing="full", optimizer="none", rounding_bytes=512)
    tracked = Tracked(512).measure(StepProgram.build(parsed(LLAMA_7B), setup, "meta"))
    assert tracked.base_bytes is not None
    assert tracked.base_bytes + tracked["forward"].peak_bytes == 15_997_757_952
    assert tracked.base_bytes + tracked["backward"].peak_bytes == 27_390_512_128


def layer(name: str, run: int, setup: TrainingSetup) -> LayerMemory:
    config = shipped(name)
    return layer_memory(config.spec.runs[run].layer, config.spec.hidden_size, predicted(config), setup)


def test_a_llama_layer_equals_its_closed_maxima() -> None:
    """X, Q, K, F, W as in the expressions; batch 1, 2,048 tokens, 16 bit."""
    tokens, hidden, heads, ffn = 2048, 4096, 32, 11008
    x, h4, f = tokens * hidden * 2, tokens * hidden * 4, tokens * ffn * 2
    q = k = x
    memory = layer("llama_7b", 0, TrainingSetup(seq_len=tokens, precision="fp16", checkpointing="full"))
    assert memory.forward_transient.total_bytes == 2 * x + 3 * f == 168_820_736
    assert memory.boundary.total == x
    saved = 2 * (h4 + 4 * tokens + 2 * x) + 2 * q + 2 * k + 4 * tokens * heads + 24 + 4 * f
    assert memory.saved.total == saved
    assert (saved - 24) // tokens == 186_504
    w, norm = hidden * ffn * 2, hidden * 2
    attention_saved = h4 + 4 * tokens + 2 * x + 2 * q + 2 * k + 4 * tokens * heads + 24
    parameters = 4 * hidden * hidden * 2 + 3 * w + 2 * norm
    assert memory.backward_peak.total_bytes == max(
        x + saved + 2 * f + w,
        x + saved + f + w,
        parameters + x + 6 * h4,
        x + attention_saved + 3 * w + norm + 6 * h4,
    )


@pytest.mark.parametrize(("kernel", "saved"), [("flash", 3_152_364_568), ("cudnn", 3_152_364_560)])
def test_a_deepseek_v3_layer_equals_published_measurements(kernel: Any, saved: int) -> None:
    setup = TrainingSetup(seq_len=4096, checkpointing="full", attention_kernel=kernel)
    memory = layer("deepseek_v3", 1, setup)
    assert memory.forward_transient.total_bytes == 2_941_650_944
    assert memory.saved.total == saved


def test_the_backward_of_a_deepseek_v3_layer_is_mostly_its_experts_gradients() -> None:
    setup = TrainingSetup(seq_len=4096, checkpointing="full", attention_kernel="cudnn")
    memory = layer("deepseek_v3", 1, setup)
    config = shipped("deepseek_v3")
    tracked = Tracked().measure(LayerProgram.build(config, config.spec.runs[1], setup, "meta"))
    assert memory.backward_peak.total_bytes == tracked["backward_peak"].peak_bytes
    experts = sum(memory.backward_peak.live[f"mlp.experts.{part}.grad"] for part in ("gate_up_proj", "down_proj"))
    assert experts == 256 * 3 * 7168 * 2048 * 2
