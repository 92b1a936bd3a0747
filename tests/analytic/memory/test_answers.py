"""What the memory side answers: setups that check themselves, what fits, the JSON, what is not predicted."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from analytic.api import count
from analytic.errors import UsageError
from analytic.exercise.model_cost import LayerForward, layer_forward
from analytic.io.files import configs_dir
from analytic.memory.capacity import fits
from analytic.memory.cuda import cuda_only
from analytic.memory.implementation import NotPredicted, implementation_of
from analytic.memory.layer import layer_memory, training_events
from analytic.memory.peaks import Peak, live_after
from analytic.memory.schedule import schedule_of
from analytic.memory.static import least_states, model_base
from analytic.memory.step import step_memory
from analytic.memory.tensors import Category
from analytic.model.params import layer_params, model_params
from analytic.model.training import TrainingSetup, planned_setup
from empirical.proof.memory import memory_checks
from tests.configurations import parsed, shipped
from tests.memory_cases import (
    LLAMA_3_8B,
    LLAMA_7B,
    SMALL,
    SMALL_DEEPSEEK_V2,
    SMALL_MIXTRAL,
    predicted,
    scheduled,
)

LONGROPE = {"rope_type": "longrope", "short_factor": [1.0] * 12, "long_factor": [1.0] * 12, "factor": 4.0}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"seq_len": 0}, "seq_len = 0"),
        ({"seq_len": 8, "micro_batch": -1}, "micro_batch = -1"),
        ({"seq_len": 2.0}, "seq_len = 2.0"),
        ({"seq_len": 8, "micro_batch": True}, "micro_batch = True"),
        ({"seq_len": 2**30}, "seq_len = 1073741824"),
        ({"seq_len": 8, "precision": "fp8"}, "expected one of fp16, bf16, fp32"),
        ({"seq_len": 8, "optimizer": "sgd"}, "expected one of adamw_fused, adamw_foreach, none"),
        ({"seq_len": 8, "checkpointing": "some"}, "expected one of none, full"),
        ({"seq_len": 8, "attention_kernel": "sdpa"}, "expected one of eager, flash, efficient, cudnn"),
        ({"seq_len": 8, "rounding_bytes": 256}, "expected one of 1, 512"),
        ({"seq_len": 8, "precision": "fp32"}, "flash takes fp16 and bf16"),
        ({"seq_len": 8, "precision": "fp32", "attention_kernel": "eager", "has_master_weights": True}, "their own"),
    ],
)
def test_an_impossible_setup_is_refused_in_one_line(options: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told) as caught:
        TrainingSetup(**options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (shipped("gpt2"), "GPT2LMHeadModel"),
        (parsed(SMALL | {"hidden_act": "gelu"}), "activation 'gelu'"),
        (parsed(SMALL | {"rope_scaling": LONGROPE}), "'longrope'"),
        (parsed(SMALL | {"attention_dropout": 0.1}), "dropout"),
        (parsed(SMALL_MIXTRAL | {"intermediate_size": 161}), "multiples of 8"),
        (parsed(SMALL_DEEPSEEK_V2 | {"n_shared_experts": 0}), "without shared experts"),
        (
            parsed(SMALL_DEEPSEEK_V2 | {"topk_method": "group_limited_greedy", "n_group": 1, "topk_group": 1}),
            "single group",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_predicted_is_an_answer(config: Any, reason: str) -> None:
    implementation = implementation_of(config, 8)
    assert isinstance(implementation, NotPredicted)
    assert reason in implementation.reason
    setup = TrainingSetup(seq_len=16)
    assert schedule_of(config, setup) == implementation
    assert list(memory_checks(config, setup)) == []


def test_every_prediction_is_in_integers_and_names_its_implementation() -> None:
    path = configs_dir() / "deepseek_v3_config.json"
    options: dict[str, Any] = {"precision": "fp16", "recompute": "full", "optimizer": "adamw_foreach"}
    told = count(path, seq_len=2048, **options)["memory"]
    assert json.loads(json.dumps(told)) == told
    assert told["implementation"] == "transformers 5.23 DeepseekV3ForCausalLM"
    assert told["setup"]["precision"] == "fp16"
    assert [layer["layers"] for layer in told["layers"]] == ["0-2", "3-60"]
    assert told["layer"] == told["layers"][1]
    step = told["step"]
    assert step["peak"] == sum(step["categories"].values()) == sum(step["live"].values())
    assert step["peak"] >= max(runner["total"] for runner in step["runners_up"])
    for name in ("forward_transient", "backward_peak"):
        assert told["layer"][name]["total"] == sum(told["layer"][name]["live"].values())


def test_a_step_peaks_in_the_optimizer_or_before_it() -> None:
    """AdamW, Llama-7B, all bf16: 5 times the parameters if it copies a state, else 4 and the two largest moments."""
    config = parsed(LLAMA_7B)
    parameters_bytes = 2 * 6_738_415_616
    setup = TrainingSetup(seq_len=1024, checkpointing="full", optimizer="adamw_foreach")
    foreach = step_memory(config.spec, predicted(config), setup)
    assert foreach.step_peak.moment == "optimizer step, exp_avg_sq_sqrt"
    assert round(foreach.step_peak.total_bytes / 1e9, 2) == round(5 * parameters_bytes / 1e9, 2) == 67.38
    fused = step_memory(config.spec, predicted(config), replace(setup, optimizer="adamw_fused"))
    assert "backward" in fused.step_peak.moment
    assert fused.step_peak.categories[Category.OPTIMIZER] == 2 * parameters_bytes + 4 * (32 * 9 + 3)


def test_the_forward_pass_of_one_layer_tells_its_parts() -> None:
    config = shipped("llama_7b")
    setup = TrainingSetup(seq_len=2048, precision="fp16", checkpointing="full")
    figure = layer_forward(config, config.spec.runs[0], setup)
    assert isinstance(figure, LayerForward)
    weights = (4 * 4096 * 4096 + 3 * 4096 * 11008 + 2 * 4096) * 2
    assert (figure.weights_bytes, figure.input_bytes) == (weights, 2048 * 4096 * 2)
    assert figure.forward_transient_bytes == 168_820_736
    assert figure.total_bytes == 590_364_672
    assert isinstance(layer_forward(shipped("gpt2"), shipped("gpt2").spec.runs[0], setup), NotPredicted)


def test_a_tied_table_has_one_gradient() -> None:
    config = parsed(SMALL | {"tie_word_embeddings": True})
    step = step_memory(config.spec, predicted(config), TrainingSetup(seq_len=8, optimizer="adamw_foreach"))
    assert step.step_peak.categories[Category.GRADIENTS] == 2 * model_params(config.spec).total
    assert step.step_peak.live["embed_tokens.grad"] == 2 * 256 * 96


def test_the_largest_that_fits_is_the_last_that_does() -> None:
    config = parsed(LLAMA_3_8B)
    setup = TrainingSetup(seq_len=4096, optimizer="none")
    schedule = scheduled(config, setup)
    memory_bytes, reserve_bytes = 80 * 2**30, 6 * 2**30

    def peak(setup: TrainingSetup) -> int:
        return schedule.under(setup).peak_bytes()

    plain, full = fits(schedule, memory_bytes=memory_bytes, reserve_bytes=reserve_bytes)
    assert (plain.checkpointing, full.checkpointing) == ("none", "full")
    assert 0 < plain.micro_batch < full.micro_batch
    assert 4096 < plain.seq_len < full.seq_len
    for fit in (plain, full):
        batched = replace(setup, checkpointing=fit.checkpointing, micro_batch=fit.micro_batch)
        assert peak(batched) <= memory_bytes - reserve_bytes < peak(replace(batched, micro_batch=fit.micro_batch + 1))
        long = replace(setup, checkpointing=fit.checkpointing, seq_len=fit.seq_len)
        assert peak(long) <= memory_bytes - reserve_bytes < peak(replace(long, seq_len=fit.seq_len + 1))


def test_what_does_not_fit_is_zero_and_a_reserve_of_everything_an_error() -> None:
    config = parsed(LLAMA_7B)
    schedule = scheduled(config, TrainingSetup(seq_len=2048))
    found = fits(schedule, memory_bytes=24 * 2**30, reserve_bytes=2**30)
    assert [(fit.micro_batch, fit.seq_len) for fit in found] == [(0, 0), (0, 0)]
    with pytest.raises(UsageError, match="reserve"):
        fits(schedule, memory_bytes=2**30, reserve_bytes=2**30)


def test_what_only_cuda_knows_is_told_apart_with_its_source() -> None:
    setup = TrainingSetup(seq_len=8192)
    lines = {line.name: line for line in cuda_only(parsed(LLAMA_3_8B).spec, setup)}
    heads, tokens, head_dim = 32, 8192, 128
    inside = heads * tokens * 4 + heads * tokens * head_dim * 4 + 2 * heads * tokens * head_dim * 2
    assert lines["flash attention, inside its backward"].size_bytes == inside
    assert lines["cuBLAS workspace, compute capability 9.0"].size_bytes == 32 * 2**20
    assert lines["CUDA context"].size_bytes is None
    assert all("torch" in line.source for line in lines.values())
    of_experts = {line.name: line.size_bytes for line in cuda_only(parsed(SMALL_MIXTRAL).spec, setup)}
    assert of_experts["sorting rows by expert, and adding gradients by index"] is None
    assert "flash" not in {
        line.name for line in cuda_only(parsed(LLAMA_7B).spec, replace(setup, attention_kernel="cudnn"))
    }


def test_kernel_bytes_raise_the_peak_where_it_falls_in_attention() -> None:
    """Many heads and hardly any feed-forward network; 130 tokens are padded to 256, 48 features a head to 64."""
    config = parsed(
        SMALL | {"intermediate_size": 8, "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 48}
    )
    setup = TrainingSetup(seq_len=130, checkpointing="full", is_accumulating=True)

    def backward(setup: TrainingSetup) -> Peak:
        return layer_memory(config.spec.layers[0], config.spec.hidden_size, predicted(config), setup).backward_peak

    plain, counted = backward(setup), backward(replace(setup, counts_kernel_bytes=True))
    inside = 32 * 256 * 4 + 32 * 256 * 64 * 4 + 2 * (130 * 32 * 48 * 2)
    assert "attention: scratch of backward" not in plain.live
    assert counted.live["attention: scratch of backward"] == inside
    assert plain.total_bytes < counted.total_bytes <= plain.total_bytes + inside


def test_backward_frees_all_that_forward_saved() -> None:
    config = parsed(SMALL_MIXTRAL)
    setup = TrainingSetup(seq_len=32, micro_batch=2)
    events, start = training_events(config.spec.layers[0], config.spec.hidden_size, predicted(config), setup)
    assert live_after(events[:start]).total() > 0
    left = live_after(events)
    gradients = sum(size_bytes for (category, _), size_bytes in left.items() if category is Category.GRADIENTS)
    parameters = 2 * layer_params(config.spec.layers[0], config.spec.hidden_size).total
    gradient_of_input = 64 * config.spec.hidden_size * 2
    assert (gradients, left.total()) == (parameters, parameters + gradient_of_input)


def test_the_schedules_need_no_torch() -> None:
    program = (
        "import sys, analytic.report.memory;"
        "heavy = {'torch', 'transformers', 'numpy', 'empirical'} & set(sys.modules);"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("name", ["llama-3.2-1b", "deepseek_v3"])
def test_the_least_that_a_step_holds_is_what_a_schedule_begins_with(name: str) -> None:
    spec = shipped(name).spec
    for setup in (
        TrainingSetup(seq_len=64, is_accumulating=True),
        TrainingSetup(seq_len=64, is_accumulating=True, has_master_weights=True),
        TrainingSetup(seq_len=64, is_accumulating=True, optimizer="none"),
    ):
        begun = {category: 0 for category in Category}
        for (category, tensor), size_bytes in model_base(spec, setup).items():
            is_counted = tensor not in ("rotary_emb.inv_freq", "mlp.gate.e_score_correction_bias", "step")
            begun[category] += size_bytes if is_counted else 0
        least = least_states(spec, setup)
        assert least == {category: begun[category] for category in least}
        assert sum(least.values()) > 0


def test_without_a_schedule_the_least_is_told() -> None:
    """Gemma-2-9B in bf16: two bytes a parameter, its gradient, and each of two moments."""
    counted = count("gemma-2-9b")
    two = 2 * 9_241_705_984
    least = {"parameters": two, "gradients": two, "optimizer states": 2 * two}
    assert counted["memory"]["at_least"] == least
    assert f"at least {4 * two / 2**30:.2f} GiB of states" in str(counted)


def test_the_state_of_training_is_sixteen_bytes_and_eighteen_in_the_optimizer_s_step() -> None:
    """2 of weights, 2 of gradients, 4 of master weights, 4 + 4 of moments; the step has 4 of gradients in place of 2.

    The schedule adds what is rounded, buffers, token ids and step counts: at most a thousandth. The fp32 gradient of
    the last tensor comes before its 16-bit gradient goes.
    """
    config = shipped("llama_7b")
    numel = 6_738_415_616
    setup = planned_setup(config.spec, 2048, 1, "bf16")
    step = scheduled(config, setup).step()
    assert (setup.state.total, setup.state.in_optimizer_step) == (2 + 2 + 4 + 8, 2 + 4 + 4 + 8)
    assert 0 <= step.base.total_bytes - numel * 16 < numel * 16 / 1000
    last = 2 * 32_000 * 4096
    assert 0 <= step.optimizer_peak_bytes - numel * 18 - last < numel * 18 / 1000


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "8 bytes per parameter: bf16 weights and gradients, AdamW in bf16"),
        (
            {"has_master_weights": True},
            "16 bytes per parameter (18 in the optimizer's step): bf16 weights and gradients, fp32 master weights, "
            "AdamW in fp32",
        ),
        ({"optimizer": "none"}, "4 bytes per parameter: bf16 weights and gradients, no optimizer"),
        (
            {"precision": "fp32", "attention_kernel": "eager"},
            "16 bytes per parameter: fp32 weights and gradients, AdamW in fp32",
        ),
    ],
)
def test_the_state_of_training_in_words(options: dict[str, Any], text: str) -> None:
    assert str(TrainingSetup(seq_len=8, **options).state) == text


def test_without_temporaries_the_optimizer_s_peak_is_what_is_live_after_the_passes() -> None:
    """The fused step allocates nothing: parameters, gradients and two moments in bf16 are what it has."""
    config = parsed(LLAMA_7B)
    step = step_memory(config.spec, predicted(config), TrainingSetup(seq_len=8, is_accumulating=True))
    assert step.optimizer_peak_bytes == step.base.total_bytes >= 4 * 2 * 6_738_415_616
