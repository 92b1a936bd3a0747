"""`fits` and layouts that no stack runs: one line that names the axis, status 2, and nothing on stdout."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from analytic.api.fitting import fits
from analytic.errors import UsageError
from tests.commands import refusal

# Llama 3 8B: 32 heads, 8 of keys and values, 32 layers. Mixtral 8x7B: 8 experts. Both 4,096 tokens by default.
NOT_A_SIZE = [
    ("--tp 0", "argument --tp: '0': expected a whole number from 1 to 1,048,576"),
    ("--pp -2", "argument --pp: '-2': expected a number"),
    ("--cp 2.5", "argument --cp: '2.5': expected a whole number from 1 to 1,048,576"),
    ("--ep two", "argument --ep: 'two': expected a number"),
    ("--etp 1048577", "argument --etp: '1048577': expected a whole number from 1 to 1,048,576"),
    ("--dp-shard 99999999999999999999", "argument --dp-shard: '99999999999999999999': expected a whole number"),
    ("--dp-replicate nan", "argument --dp-replicate: 'nan': expected a number"),
    ("--virtual-stages 0", "argument --virtual-stages: '0': expected a whole number"),
    ("--global-batch 0", "argument --global-batch: '0': expected a whole number"),
    ("--tp", "argument --tp: expected one argument"),
    ("--tp 2 --tp 4", "argument --tp: given twice, expected once"),
    ("--tensor-parallel 2", "unrecognized argument --tensor-parallel"),
    ("--pipeline-schedule fast", "argument --pipeline-schedule: invalid choice: 'fast' (choose from 'gpipe', '1f1b'"),
    ("--stack deepspeed", "argument --stack: invalid choice: 'deepspeed' (choose from 'transformers-fsdp2'"),
]
# 8 GPUs
PRODUCTS = [
    ("--tp 3", "fits: tp = 3: expected a divisor of the number of GPUs, 8"),
    ("--pp 16", "fits: pp = 16: expected a divisor of the number of GPUs, 8"),
    ("--dp-replicate 5", "fits: dp_replicate = 5: expected a divisor of the number of GPUs, 8"),
    ("--tp 2 --cp 3", "fits: tp x cp = 2 x 3 = 6: expected a divisor of the number of GPUs, 8"),
    ("--dp-shard 4", "fits: dp_shard = 4: expected the number of GPUs, 8"),
    ("--dp-shard 4 --tp 4", "fits: dp_shard x tp = 4 x 4 = 16: expected the number of GPUs, 8"),
    ("--ep 3", "ep = 3, etp = 1: expected a product that divides dp_shard x cp x tp = 8"),
    ("--pp 4 --ep 4", "ep = 4, etp = 1: expected a product that divides dp_shard x cp x tp = 2"),
    ("--dp-shard 8 --global-batch 12", "global batch of 12 sequences: expected a multiple of micro-batch x data ranks"),
    ("--tp 4 --micro-batch 3 --global-batch 8", "micro-batch x data ranks = 3 x 2 = 6"),
]
OF_A_STACK = [
    # transformers-fsdp2
    ("transformers-fsdp2", "llama-3-8b", 8, "--pp 2", "pp = 2: transformers 5.23 refuses FSDP with pipelines"),
    ("transformers-fsdp2", "llama-3-8b", 8, "--cp 2", "cp = 2: context parallelism is not wired in transformers"),
    ("transformers-fsdp2", "mixtral-8x7b", 8, "--etp 2", "etp = 2: with expert parallelism transformers"),
    ("transformers-fsdp2", "llama-3-8b", 8, "--virtual-stages 2", "virtual_stages = 2: there is no pipeline"),
    ("transformers-fsdp2", "llama-3-8b", 8, "--ep 2", "ep = 2: the model has no experts; expected 1"),
    ("transformers-fsdp2", "mixtral-8x7b", 16, "--ep 16", "ep = 16: expected a divisor of the 8 experts"),
    ("transformers-fsdp2", "mixtral-8x7b", 16, "--tp 4 --ep 2", "ep = 2: expected a multiple of tp = 4"),
    ("transformers-fsdp2", "llama-3-8b", 36, "--tp 3", "tp = 3: expected a divisor of num_attention_heads = 32"),
    ("transformers-fsdp2", "llama-3-8b", 32, "--tp 16", "tp = 16: expected a divisor of num_key_value_heads = 8"),
    ("transformers-fsdp2", "TINY", 8, "--tp 4", "tp = 4: expected at most vocab_size = 3"),
    ("transformers-fsdp2", "llama-3-8b", 8, "--tp 8", "mixed_precision with dp_shard = 1, dp_replicate = 1: only FSDP"),
    ("transformers-fsdp2", "opt-1.3b", 8, "--tp 2", "model_type = 'opt': no description of how transformers"),
    # torchtitan
    ("torchtitan", "mixtral-8x7b", 8, "--tp 2", "layers gqa+moe: torchtitan is predicted for Llama's"),
    ("torchtitan", "llama-3-8b", 8, "--ep 2", "ep = 2: expected 1, as torchtitan is predicted without experts"),
    ("torchtitan", "llama-3-8b", 8, "--etp 2", "etp = 2: expected 1, as torchtitan is predicted without experts"),
    ("torchtitan", "llama-3-8b", 8, "--dp-replicate 8", "dp_replicate = 8: expected dp_shard > 1 with it (HSDP)"),
    ("torchtitan", "llama-3-8b", 36, "--tp 3", "tp = 3: expected a divisor of heads = 32"),
    ("torchtitan", "llama-3-8b", 64, "--tp 16", "tp = 16: expected a divisor of key-value heads = 8"),
    ("torchtitan", "llama-3-8b", 8, "--cp 8 --seq-len 1000", "cp = 8: expected 2 x cp to divide seq_len = 1000"),
    ("torchtitan", "llama-3-8b", 8, "--tp 8 --seq-len 1001", "tp = 8: expected a divisor of the positions of a rank"),
    ("torchtitan", "llama-3-8b", 32, "--pp 32", "pp = 32, virtual_stages = 1: expected a product of at most 17"),
    ("torchtitan", "llama-3.2-1b", 8, "--pp 2", "pp = 2: expected 1, as the embedding is tied to the head"),
    ("torchtitan", "llama-3-8b", 8, "--tp 8", "tp = 8, pp = 1: expected dp_shard or cp > 1 with them, as FSDP alone"),
    ("megatron-te", "llama-3-8b", 8, "--pipeline-schedule 1f1b", "pipeline_schedule = 1f1b: expected pp > 1 with it"),
    ("torchtitan", "llama-3-8b", 8, "--virtual-stages 2", "virtual_stages = 2: expected 1 without a pipeline"),
    ("torchtitan", "llama-3-8b", 8, "--pp 4 --pipeline-schedule zbv", "virtual_stages = 1: expected at least 2 with"),
    (
        "torchtitan",
        "llama-3-8b",
        8,
        "--pp 4 --virtual-stages 2 --pipeline-schedule gpipe",
        "virtual_stages = 2: expected 1 with pipeline_schedule = gpipe",
    ),
    ("torchtitan", "llama-3-8b", 8, "--pp 8 --global-batch 4", "micro_batches = 4: expected at least pp = 8"),
    (
        "torchtitan",
        "llama-3-8b",
        8,
        "--pp 4 --virtual-stages 2 --global-batch 18",
        "micro_batches = 9: expected a multiple of 2, the rounds of pp = 4",
    ),
    (
        "torchtitan",
        "llama-3-8b",
        8,
        "--pp 4 --virtual-stages 2 --pipeline-schedule dualpipev --global-batch 14",
        "micro_batches = 7: expected at least 2 x pp = 8 with dualpipev",
    ),
    # megatron-te
    ("megatron-te", "llama-3-8b", 8, "--ep 2", "ep = 2: expected 1, as the model has no experts"),
    ("megatron-te", "llama-3-8b", 8, "--etp 2", "etp = 2: expected 1, as the model has no experts"),
    ("megatron-te", "mixtral-8x7b", 12, "--ep 3", "ep = 3: expected a divisor of experts = 8"),
    ("megatron-te", "mixtral-8x7b", 8, "--etp 16", "etp = 16: expected a product that divides dp_shard x cp x tp = 8"),
    ("megatron-te", "llama-3-8b", 64, "--tp 64", "tp = 64: expected a divisor of heads = 32"),
    (
        "megatron-te",
        "llama-3-8b",
        10,
        "--pp 5",
        "pp = 5, virtual_stages = 1: expected a product that divides 32",
    ),
    (
        "megatron-te",
        "llama-3-8b",
        8,
        "--pp 8 --virtual-stages 3",
        "virtual_stages = 3: expected a product that divides",
    ),
    ("megatron-te", "llama-3-8b", 8, "--virtual-stages 2", "virtual_stages = 2: expected 1 without a pipeline"),
    ("megatron-te", "llama-3-8b", 8, "--pp 4 --pipeline-schedule zbv", "pipeline_schedule = zbv: expected 1f1b with"),
    (
        "megatron-te",
        "llama-3-8b",
        8,
        "--pp 8 --virtual-stages 2 --global-batch 12",
        "micro_batches = 12: expected a multiple of pp = 8 with virtual stages",
    ),
    ("megatron-te", "llama-3-8b", 8, "--cp 8 --seq-len 1000", "cp = 8: expected 2 x cp to divide seq_len = 1000"),
    ("megatron-te", "llama-3-8b", 8, "--tp 8 --seq-len 1001", "tp = 8: expected a divisor of the positions of a rank"),
    ("megatron-te", "llama-3-8b", 8, "--tp 2 --precision fp32", "precision = fp32: megatron-te trains in 16 bits"),
]
ONE_GPU = [
    ("--tp 2", "tp = 2: expected several GPUs, one has no layout"),
    ("--pp 1", "pp = 1: expected several GPUs, one has no layout"),
    ("--dp-shard 1", "dp_shard = 1: expected several GPUs, one has no layout"),
    ("--global-batch 8", "global_batch = 8: expected several GPUs, one has no layout"),
    ("--stack torchtitan", "stack = torchtitan: expected several GPUs, one has no layout"),
    ("--pipeline-schedule zbv", "pipeline_schedule = zbv: expected several GPUs, one has no layout"),
]
# Each stack with its own reason.
EVERY_STACK = [
    ("--ep 2", ("transformers-fsdp2: ep = 2: ", "torchtitan: ep = 2: ", "megatron-te: ep = 2: ")),
    ("--virtual-stages 2", ("transformers-fsdp2: virtual_stages = 2: ", "torchtitan: virtual_stages = 2: ")),
    ("--etp 2", ("transformers-fsdp2: etp = 2: ", "torchtitan: etp = 2: ", "megatron-te: etp = 2: ")),
]


@pytest.mark.parametrize(("options", "message"), [*NOT_A_SIZE, *PRODUCTS])
def test_sizes_and_their_product(capsys: pytest.CaptureFixture[str], options: str, message: str) -> None:
    assert message in refusal(capsys, "fits", "llama-3-8b", "--gpus", "8xh100", *options.split())


@pytest.mark.parametrize(("stack", "model", "gpus", "options", "message"), OF_A_STACK)
def test_what_a_stack_refuses(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, stack: str, model: str, gpus: int, options: str, message: str
) -> None:
    if model == "TINY":  # no vocabulary that was published is smaller than a node
        keys = {"model_type": "llama", "vocab_size": 3, "hidden_size": 64, "intermediate_size": 64}
        keys |= {"num_attention_heads": 8, "num_hidden_layers": 2, "max_position_embeddings": 64}
        (tmp_path / "config.json").write_text(json.dumps(keys), encoding="utf-8")
        model = str(tmp_path / "config.json")
    line = refusal(capsys, "fits", model, "--gpus", f"{gpus}xh100", "--stack", stack, *options.split())
    assert message in line


@pytest.mark.parametrize(("options", "message"), ONE_GPU)
def test_one_gpu_has_no_layout(capsys: pytest.CaptureFixture[str], options: str, message: str) -> None:
    assert message in refusal(capsys, "fits", "llama-3-8b", "--gpus", "1xh100", *options.split())


@pytest.mark.parametrize(("options", "messages"), EVERY_STACK)
def test_without_a_stack_every_reason_is_given(
    capsys: pytest.CaptureFixture[str], options: str, messages: tuple[str, ...]
) -> None:
    line = refusal(capsys, "fits", "llama-3-8b", "--gpus", "8xh100", *options.split())
    for message in messages:
        assert message in line


def test_more_gpus_than_a_layout_has(capsys: pytest.CaptureFixture[str]) -> None:
    line = refusal(capsys, "fits", "llama-3-8b", "--gpus", "1048577xh100")
    assert "1048577 GPUs: expected at most 1048576 in one layout" in line


def test_nothing_is_drawn_of_a_layout_that_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    drawn = tmp_path / "layouts.svg"
    refusal(capsys, "fits", "llama-3-8b", "--gpus", "8xh100", "--tp", "3", "--plot", str(drawn))
    assert not drawn.exists()


@pytest.mark.parametrize("value", [0, -1, 2.5, "2", True, 2**20 + 1])
def test_a_function_takes_whole_numbers_alone(value: object) -> None:
    with pytest.raises(UsageError, match=r"tp = .*: expected an integer from 1 to 1048576"):
        fits("llama-3-8b", "8xh100", tp=value)


def test_the_table_has_rows_for_all() -> None:
    rows = len(NOT_A_SIZE) + len(PRODUCTS) + len(OF_A_STACK) + len(ONE_GPU) + len(EVERY_STACK)
    assert rows >= 40
    axes = ("tp = ", "pp = ", "cp = ", "ep = ", "etp = ", "virtual_stages = ", "micro_batches = ")
    messages = [row[-1] for row in OF_A_STACK]
    for axis in axes:
        assert any(axis in message for message in messages), axis
