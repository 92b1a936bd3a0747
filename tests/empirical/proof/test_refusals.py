"""What `count` reads and `transformers` refuses: one line from `prove`, and next to nothing of what can be written."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from analytic.errors import PlannerError, UnsupportedModelError
from analytic.huggingface.families import FAMILIES
from empirical.commands.main import main
from empirical.models import build
from empirical.proof import sweep
from empirical.proof.crosscheck import verify
from empirical.proof.workers import check_models
from tests.configurations import parsed
from tests.empirical.models.test_layers import DENSE
from tests.empirical.proof.test_sweep import SMALL, UNSHIPPED

LLAMA = DENSE | {"model_type": "llama"}
# Read, as it is of no known key's kind; refused by the class, which checks the types of its own.
REFUSED = DENSE | {"model_type": "glm", "num_key_value_heads": None, "head_dim": 16}


@pytest.mark.parametrize(
    "neutral",
    [
        {"gradient_checkpointing": True},
        {"return_dict": False, "use_cache": False},
        {"output_attentions": True, "output_hidden_states": True},
        {"torch_dtype": "float16", "dtype": "float32"},
        {"id2label": {"0": "yes"}, "label2id": {"yes": 0}, "num_labels": 1, "problem_type": "nonsense"},
        {"initializer_range": 1, "rms_norm_eps": 1, "bos_token_id": 10**6, "eos_token_id": [1, 2]},
        {"pad_token_id": 0},
        {"quantization_config": {"quant_method": "fp8"}, "attention_bias": None},
    ],
)
def test_what_changes_no_count_disturbs_no_witness(neutral: dict[str, Any]) -> None:
    failed = [check for check in verify(parsed(LLAMA | neutral), 7) if check.status == "fail"]
    assert failed == []


def test_the_keys_that_were_read_are_left_as_they_are() -> None:
    raw = LLAMA | {"rope_parameters": {"rope_theta": 5e5}}
    config = parsed(copy.deepcopy(raw))
    build.transformers_model(config)
    assert config.raw == raw


@pytest.mark.parametrize("copies", [1, 2])  # in this process, and in two of their own
def test_what_the_class_refuses_is_one_line_and_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], copies: int
) -> None:
    paths = [tmp_path / f"{i}.json" for i in range(copies)]
    for path in paths:
        path.write_text(json.dumps(REFUSED))
    assert main(["prove", *map(str, paths), "--jobs", str(copies)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert ".json: transformers refuses this configuration: unsupported operand type" in line


def test_the_refusal_of_one_configuration_crosses_the_processes() -> None:
    jobs = [(parsed(REFUSED), 7), (parsed(LLAMA), 7)]
    with pytest.raises(UnsupportedModelError, match="transformers refuses this configuration"):
        check_models(jobs, 2, lambda _: None)


VALUES: tuple[Any, ...] = (None, 0, -1, 3, "x", True, False, 0.5, 10**5 + 1, [], ["x"], {}, {"x": 1})
WRONG: tuple[Any, ...] = (None, 0, "x", [])
KEYS_OF_EVERY_FILE = (
    *("architectures", "attention_dropout", "bos_token_id", "dtype", "eos_token_id", "gradient_checkpointing"),
    *("id2label", "initializer_range", "label2id", "max_position_embeddings", "num_labels", "output_attentions"),
    *("output_hidden_states", "pad_token_id", "return_dict", "rope_scaling", "rope_theta", "tie_word_embeddings"),
    *("torch_dtype", "use_cache"),
)
MORE_SMALL = SMALL | {
    **{"moe_intermediate_size": 24, "shared_expert_intermediate_size": 24, "num_local_experts": 4, "num_experts": 4},
    **{"n_routed_experts": 8, "n_shared_experts": 1, "num_experts_per_tok": 2, "n_group": 2, "topk_group": 1},
    **{"moe_num_experts": 4, "moe_k": 2, "moe_num_shared_experts": 1, "first_k_dense_replace": 1},
    **{"q_lora_rank": 16, "kv_lora_rank": 12, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 10},
}
LATENT = ("deepseek_v2", "deepseek_v3", "glm4_moe_lite", "youtu")
OTHER_HEAD_DIM = ("olmoe", "phi", "stablelm", *LATENT)


def small(family: str) -> dict[str, Any]:
    """A small configuration of a family, with every key that its class has."""
    raw = sweep.complete_keys(family, num_layers=2)
    raw |= {key: value for key, value in MORE_SMALL.items() if key in raw} | UNSHIPPED.get(family, {})
    if family in LATENT:
        raw["num_key_value_heads"] = raw["num_attention_heads"]
    if family in OTHER_HEAD_DIM:
        raw.pop("head_dim", None)
    if family.startswith("hunyuan"):
        raw["attention_head_dim"] = raw.pop("head_dim")
    return raw


def pairs(raw: dict[str, Any]) -> int:
    """How many pairs of a head's features the class turns."""
    config = parsed(raw)
    attention = config.spec.layers[0].attention
    head_dim = getattr(attention, "head_dim", None) or getattr(attention, "qk_rope_head_dim", 0)
    rotary = getattr(build.transformers_config(config), "rope_parameters", None) or {}
    return int(head_dim * rotary.get("full_attention", rotary).get("partial_rotary_factor", 1)) // 2


def changed(raw: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Each key with each value, or left out; and rotary scaling of each kind, whole and with one key wrong."""
    for key in dict.fromkeys((*raw, *KEYS_OF_EVERY_FILE)):
        more = (raw["vocab_size"],) if "token" in key else ("bfloat99", "float16") if "dtype" in key else ()
        if key != "model_type":
            yield from (raw | {key: value} for value in (*VALUES, *more))
            yield {other: value for other, value in raw.items() if other != key}
    count = pairs(raw)
    whole = {
        **{"factor": 2.0, "original_max_position_embeddings": 32, "rope_theta": 1e4},
        **{"low_freq_factor": 1.0, "high_freq_factor": 4.0},
        **{"short_factor": [1.0] * count, "long_factor": [1.0] * count},
    }
    bare = {key: value for key, value in raw.items() if key != "rope_parameters"}
    for name in ("default", "dynamic", "linear", "llama3", "longrope", "proportional", "yarn"):
        for section, spelling in (("rope_scaling", "type"), ("rope_parameters", "rope_type")):
            yield bare | {section: {spelling: name}}
            yield bare | {section: {spelling: name, **whole}}
            for key, wrong in itertools.product(whole, WRONG):
                yield bare | {section: {spelling: name, **whole, key: wrong}}


@pytest.mark.thorough
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_read_can_be_built(family: str) -> None:
    """Without `analytic.huggingface.checks` and those of rotary scaling, the classes refuse three in ten."""
    read, refused = 0, []
    for raw in changed(small(family)):
        try:
            config = parsed(copy.deepcopy(raw))
        except PlannerError:
            continue
        if len(config.spec.layers) > 8:
            continue
        read += 1
        try:
            build.transformers_model(config)
        except UnsupportedModelError as error:
            refused.append(str(error))
    assert read > 100
    assert len(refused) <= 5, refused
