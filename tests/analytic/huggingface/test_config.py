"""What a configuration may say: keys derived with their source, and one clear line for everything that is refused."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from analytic.commands.count import VERB as COUNT
from analytic.errors import PlannerError
from analytic.huggingface import config as hf
from analytic.huggingface.families import FAMILIES
from analytic.io.files import MAX_FILE_BYTES, model_config_paths
from empirical.proof.sweep import complete_keys
from tests.configurations import EVERY_FAMILY, parsed, shipped
from tests.empirical.models.test_layers import DENSE, LATENT

LLAMA = DENSE | {"model_type": "llama"}
MIXTRAL = DENSE | {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2}
QWEN3_MOE = DENSE | {"model_type": "qwen3_moe", "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8}
V2 = LATENT | {"model_type": "deepseek_v2"}
V3 = LATENT | {"model_type": "deepseek_v3", "n_group": 4, "topk_group": 2}
PHI3 = DENSE | {"model_type": "phi3"}
VOCAB = int(LLAMA["vocab_size"])
GPT2 = {"model_type": "gpt2", "n_embd": 48, "n_head": 4, "n_layer": 2, "n_positions": 32, "vocab_size": 97}
SHIPPED: dict[str, Mapping[str, Any]] = {
    config.read_as: config.raw for config in map(hf.load, model_config_paths()) if config.model_type == config.read_as
}
# of the others, the defaults of their class, which state every key
COMPLETE = SHIPPED | {family: complete_keys(family) for family in FAMILIES if family not in SHIPPED}


def refused(path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr with which the count command refuses a file; its status must be 2."""
    assert COUNT.main([str(path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("foretrain count: ")
    assert "Traceback" not in captured.err
    return captured.err


# A change to a good configuration, and what the one line must say.
BAD_KEYS: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (LLAMA, {"hidden_size": -64}, "hidden_size = -64: expected an integer from 1"),
    (LLAMA, {"hidden_size": 0}, "hidden_size = 0: expected an integer from 1"),
    (LLAMA, {"hidden_size": "64"}, "hidden_size = '64': expected an integer"),
    (LLAMA, {"hidden_size": 64.0}, "hidden_size = 64.0: expected an integer"),
    (LLAMA, {"hidden_size": True}, "hidden_size = true: expected an integer"),
    (LLAMA, {"hidden_size": None}, "hidden_size = null: expected an integer"),
    (LLAMA, {"hidden_size": [64]}, "hidden_size = [64]: expected an integer"),
    (LLAMA, {"hidden_size": 10**12}, "hidden_size = 1000000000000: expected an integer from 1 to 16777216"),
    (LLAMA, {"hidden_size": 10**4000}, "hidden_size = 1000"),
    (LLAMA, {"num_hidden_layers": 10**7}, "num_hidden_layers = 10000000: expected an integer from 1 to 10000"),
    (LLAMA, {"hidden_size": 2**24, "intermediate_size": 2**24, "num_hidden_layers": 9999}, "expected at most 10000000"),
    (LLAMA, {"vocab_size": -1}, "vocab_size = -1"),
    (LLAMA, {"num_attention_heads": 5}, "hidden_size = 64: expected a multiple of num_attention_heads"),
    (LLAMA, {"num_key_value_heads": 3}, "num_key_value_heads = 3: expected a divisor of num_attention_heads = 4"),
    (LLAMA, {"num_key_value_heads": 8}, "num_key_value_heads = 8: expected a divisor"),
    (LLAMA, {"head_dim": 7}, "head_dim = 7: expected an even number"),
    (LLAMA, {"attention_bias": "yes"}, "attention_bias = 'yes': expected true or false"),
    (LLAMA, {"tie_word_embeddings": 1}, "tie_word_embeddings = 1: expected true or false"),
    (LLAMA, {"rms_norm_eps": 0}, "rms_norm_eps = 0: expected a positive number"),
    (LLAMA, {"rope_scaling": "yarn"}, "rope_scaling = 'yarn': expected an object"),
    (LLAMA, {"hidden_act": 3}, "hidden_act = 3: expected one of gelu"),
    (LLAMA, {"hidden_act": "nonsense"}, "hidden_act = 'nonsense': expected one of gelu"),
    (LLAMA, {"rope_scaling": {"rope_type": "nonsense"}}, "rope_type = 'nonsense': expected one of default"),
    (GPT2, {"activation_function": "nonsense"}, "activation_function = 'nonsense': expected one of gelu"),
    (LLAMA, {"max_position_embeddings": "4k"}, "max_position_embeddings = '4k': expected an integer"),
    (LLAMA, {"num_nextn_predict_layers": "one"}, "num_nextn_predict_layers = 'one': expected an integer from 0"),
    (LLAMA, {"num_mtp_modules": -1}, "num_mtp_modules = -1: expected an integer from 0"),
    (LLAMA, {"max_position_embeddings": None}, "max_position_embeddings = null: expected an integer from 1"),
    (LLAMA, {"pad_token_id": VOCAB}, f"expected an integer from -{VOCAB} to {VOCAB - 1}, as vocab_size"),
    (LLAMA, {"pad_token_id": -1 - VOCAB}, f"pad_token_id = {-1 - VOCAB}: expected an integer from"),
    (LLAMA, {"pad_token_id": [0]}, "pad_token_id = [0]: expected an integer from"),
    (LLAMA, {"eos_token_id": [1, "2"]}, "eos_token_id = [1, '2']: expected an integer, or a list of them"),
    (LLAMA, {"return_dict": "no"}, "return_dict = 'no': expected true or false"),
    (LLAMA, {"use_cache": 3}, "use_cache = 3: expected true or false"),
    (LLAMA, {"gradient_checkpointing": 1}, "gradient_checkpointing = 1: expected true or false"),
    (LLAMA, {"id2label": 3}, "id2label = 3: expected an object"),
    (LLAMA, {"num_labels": -1}, "num_labels = -1: expected an integer from 0"),
    (LLAMA, {"torch_dtype": "bfloat99"}, "torch_dtype = 'bfloat99': expected a type of torch's such as bfloat16"),
    (LLAMA, {"dtype": 16}, "dtype = 16: expected a type of torch's"),
    (LLAMA, {"attention_dropout": 1.5}, "attention_dropout = 1.5: expected a number from 0 to 1"),
    (LLAMA, {"initializer_range": "small"}, "initializer_range = 'small': expected a finite number"),
    (LLAMA, {"per_layer_config": {"0": {"head_dim": 8}}}, "expected null (layers that differ by it are not counted)"),
    (LLAMA, {"rope_theta": "big"}, "rope_theta = 'big': expected a positive number"),
    (LLAMA, {"rope_parameters": {"rope_theta": None}}, "rope_theta = null: expected a positive number"),
    (LLAMA, {"rope_parameters": {"rope_type": None}}, "rope_type = null: expected one of default"),
    (LLAMA, {"rope_parameters": {"partial_rotary_factor": 2}}, "partial_rotary_factor = 2: expected a positive number"),
    (LLAMA, {"rope_parameters": {"sliding_attention": 3}}, "sliding_attention = 3: expected an object"),
    (LLAMA, {"rope_scaling": {"type": "linear"}}, "factor = null: expected a positive number"),
    (LLAMA, {"rope_scaling": {"type": "dynamic"}}, "factor = null: expected a positive number"),
    (LLAMA, {"rope_scaling": {"type": "yarn"}}, "factor = null: expected a positive number"),
    (LLAMA, {"rope_scaling": {"type": "yarn", "factor": 4, "beta_fast": "x"}}, "beta_fast = 'x': expected a number"),
    (LLAMA, {"rope_scaling": {"rope_type": "llama3", "factor": 8}}, "low_freq_factor = null: expected a positive"),
    (LLAMA, {"rope_scaling": {"rope_type": "longrope", "factor": 8}}, "short_factor = null: expected a list of pos"),
    (LLAMA, {"rope_scaling": {"rope_type": "longrope", "short_factor": [1, 0]}}, "short_factor = [1, 0]: expected a"),
    (PHI3, {"rope_scaling": {"type": "linear", "factor": 2}}, "type = 'linear': expected one of default, longrope"),
    (LLAMA, {"model_type": "bert"}, "model_type = 'bert': expected one of"),
    (LLAMA, {"model_type": 7}, "model_type = 7: expected a string"),
    (LLAMA, {"model_type": None}, "model_type = null: expected a string"),
    (
        LLAMA,
        {"model_type": "evil", "auto_map": {"AutoConfig": "configuration_evil.EvilConfig"}},
        "model_type = 'evil': expected one of",
    ),
    (MIXTRAL, {"num_experts_per_tok": 5}, "num_experts_per_tok = 5: expected at most num_local_experts = 4"),
    (MIXTRAL, {"num_local_experts": 0}, "num_local_experts = 0: expected an integer"),
    (QWEN3_MOE, {"mlp_only_layers": [9]}, "mlp_only_layers = [9]: expected a list of integers from 0 to 1"),
    (QWEN3_MOE, {"mlp_only_layers": 1}, "mlp_only_layers = 1: expected a list"),
    (QWEN3_MOE, {"decoder_sparse_step": 0}, "decoder_sparse_step = 0"),
    (V3, {"num_key_value_heads": 2}, "num_key_value_heads = 2: expected 4, the number of heads"),
    (V3, {"qk_rope_head_dim": 7}, "qk_rope_head_dim = 7: expected an even number"),
    (V3, {"n_group": 3}, "n_group = 3: expected a divisor of n_routed_experts = 8"),
    (V3, {"topk_group": 9}, "topk_group = 9: expected at most n_group = 4"),
    (V3, {"moe_layer_freq": 2}, "moe_layer_freq = 2: expected 1"),
    (V3, {"first_k_dense_replace": -1}, "first_k_dense_replace = -1"),
    (V3, {"q_lora_rank": "none"}, "q_lora_rank = 'none': expected an integer"),
    (V2, {"topk_method": "noaux_tc"}, "topk_method = 'noaux_tc': expected one of greedy"),
    (V2, {"mlp_bias": True}, "mlp_bias = true: expected false"),
    (GPT2, {"n_head": 5}, "n_embd = 48: expected a multiple of n_head = 5"),
    (GPT2, {"add_cross_attention": True}, "add_cross_attention = true: expected false"),
    (GPT2, {"resid_pdrop": 1.5}, "resid_pdrop = 1.5: expected a number"),
    (DENSE, {"model_type": "qwen2", "use_sliding_window": True, "layer_types": ["full_attention"]}, "layer_types = ["),
]


@pytest.mark.parametrize(("good", "change", "message"), BAD_KEYS)
def test_a_bad_key_is_one_line_that_names_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], good: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(good | change))
    line = refused(path, capsys)
    assert line.startswith(f"foretrain count: {path}: ")
    assert message in line


def directory(path: Path) -> None:
    path.mkdir()


def gigabyte(path: Path) -> None:
    with path.open("wb") as file:  # sparse: no gigabyte is written
        file.truncate(2**30)


def text(content: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(content)


BAD_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "No such file or directory"),
    "directory": (directory, "a directory"),
    "gigabyte": (gigabyte, f"1073741824 bytes, expected at most {MAX_FILE_BYTES}"),
    "not utf-8": (lambda path: path.write_bytes(b"\xff\xfe{}"), "not UTF-8"),
    "empty": (text(""), "not JSON"),
    "cut off": (text("{"), "line 1, column 2: not JSON"),
    "trailing comma": (text('{"a": 1,}'), "not JSON"),
    "list": (text("[1, 2]"), "a JSON list, expected an object"),
    "string": (text('"llama"'), "a JSON string, expected an object"),
    "null": (text("null"), "a JSON null, expected an object"),
    "NaN": (text(json.dumps(LLAMA | {"hidden_size": math.nan})), "hidden_size = nan: expected an integer"),
    "infinity": (text(json.dumps(LLAMA | {"rope_theta": math.inf})), "rope_theta = inf: expected a positive number"),
    "duplicate key": (text('{"hidden_size": 1, "hidden_size": 2}'), "key 'hidden_size' appears twice"),
    "too deep": (text('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}"), "nested too deeply"),
    "endless integer": (text('{"hidden_size": ' + "9" * 5000 + "}"), "integer string conversion"),
    "empty object": (text("{}"), "missing model_type"),
    "llama with Meta's own keys": (text('{"model_type": "llama", "dim": 8192, "n_layers": 80}'), "missing hidden_size"),
    "gpt2 with Llama's keys": (text('{"model_type": "gpt2", "hidden_size": 768}'), "missing n_embd"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_one_line_that_names_it(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    path = tmp_path / "config.json"
    make, message = BAD_FILES[name]
    make(path)
    line = refused(path, capsys)
    assert str(path) in line
    assert message in line


def test_a_device_is_not_read() -> None:
    with pytest.raises(PlannerError, match=r"^/dev/zero: not a regular file"):
        hf.load(Path("/dev/zero"))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_required_key_is_missed_by_name(family: str) -> None:
    complete = COMPLETE[family]
    assert parsed(complete).read_as == family
    for key in FAMILIES[family].required:
        with pytest.raises(PlannerError, match=f"missing {key}: a {family} config must state"):
            parsed({k: v for k, v in complete.items() if FAMILIES[family].aliases.get(k, k) != key})


def test_a_published_shape_is_shipped_of_every_family_that_random_models_are_drawn_of() -> None:
    assert set(EVERY_FAMILY) == set(SHIPPED)


def test_a_text_config_is_read_and_what_it_leaves_to_the_class_is_told() -> None:
    config = shipped("gemma-3-4b")
    assert (config.model_type, config.read_as) == ("gemma3", "gemma3_text")
    assert "text_config of gemma3" in config.notes[0]
    assert config.derived["num_attention_heads"].value == 8
    assert "states what differs" in config.derived["vocab_size"].source
    stated = {**config.raw, "vocab_size": 1000}
    assert parsed({"model_type": "gemma3", "text_config": stated}).spec.vocab_size == 1000


def test_the_class_stands_for_no_key_outside_a_text_config() -> None:
    with pytest.raises(PlannerError, match="missing num_attention_heads, vocab_size, num_key_value_heads: a gemma3"):
        parsed({key: value for key, value in shipped("gemma-3-4b").raw.items() if key != "text_config"})


def test_a_text_config_of_another_kind_is_refused_by_both_names() -> None:
    with pytest.raises(PlannerError, match="model_type = 'llama4', its text_config 'llama4_text': expected one of"):
        parsed({"model_type": "llama4", "text_config": LLAMA | {"model_type": "llama4_text"}})


def test_other_spellings_are_read_unless_they_contradict() -> None:
    bloom = COMPLETE["bloom"]
    assert "n_embed" in bloom
    assert parsed(bloom).spec.hidden_size == 4096
    with pytest.raises(PlannerError, match="n_embed = 4096: expected 1024, as hidden_size says"):
        parsed({**bloom, "hidden_size": 1024})


def test_layers_for_multi_token_prediction_that_are_not_counted_are_told() -> None:
    config = parsed(DENSE | {"model_type": "mimo", "num_nextn_predict_layers": 1})
    assert config.notes == (
        "model_type mimo read as qwen2, whose class holds the same weights",
        "num_nextn_predict_layers = 1: multi-token-prediction layers of qwen2 are not counted",
    )


# What a family's class builds or runs otherwise than its keys say, and is therefore refused.
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("phimoe", {"num_experts_per_tok": 3}, "num_experts_per_tok = 3: expected 2"),
    ("olmoe", {"head_dim": 64}, "head_dim = 64: expected 128"),
    ("phi", {"qk_layernorm": True, "head_dim": 80}, "head_dim = 80: expected 64"),
    ("falcon", {"new_decoder_architecture": True, "parallel_attn": False}, "parallel_attn = false: expected true"),
    ("falcon", {"num_ln_in_parallel_attn": 2}, "num_ln_in_parallel_attn = 2: expected 1"),
    ("opt", {"activation_function": "rellu"}, "activation_function = 'rellu': expected one of "),
    ("bloom", {"slow_but_exact": True}, "slow_but_exact = true: expected false"),
    ("gemma3_text", {"use_bidirectional_attention": True}, "use_bidirectional_attention = true: expected false"),
    ("glm4_moe", {"moe_layer_freq": 2}, "moe_layer_freq = 2: expected 1"),
    ("exaone4", {"layer_types": ["chunked_attention"]}, "expected a list of 30 strings"),
    ("smollm3", {"layer_types": ["sliding_attention"] * 36}, "use_sliding_window = false: expected true"),
    ("smollm3", {"no_rope_layers": [1, 0]}, "expected a list of 36 zeros and ones"),
]


@pytest.mark.parametrize(("family", "change", "message"), REFUSED)
def test_what_a_class_would_build_otherwise_is_refused(family: str, change: dict[str, Any], message: str) -> None:
    with pytest.raises(PlannerError, match=re.escape(message)):
        parsed({**COMPLETE[family], **change})


def test_derived_keys_are_told_with_their_source() -> None:
    without = {k: v for k, v in LLAMA.items() if k != "num_key_value_heads"}
    config = parsed(without)
    assert config.derived["num_key_value_heads"].value == 4
    assert config.derived["head_dim"].value == 16
    assert "LlamaConfig" in config.derived["num_key_value_heads"].source
    assert "hidden_size" not in config.derived
    assert shipped("llama-3.2-1b").derived == {}


def test_tying_follows_the_family() -> None:
    assert not parsed(LLAMA).spec.tie_word_embeddings
    assert parsed(GPT2).spec.tie_word_embeddings
    assert parsed(LLAMA | {"tie_word_embeddings": True}).spec.tie_word_embeddings


def test_an_auto_map_beside_a_known_model_type_is_ignored() -> None:
    mapped = parsed(LLAMA | {"auto_map": {"AutoConfig": "configuration_evil.EvilConfig"}})
    assert mapped.spec == parsed(LLAMA).spec


def test_windows_follow_the_layers() -> None:
    def windows(raw: dict[str, Any]) -> list[int | None]:
        return [layer.attention.sliding_window for layer in parsed(raw).spec.layers]

    qwen2 = DENSE | {"model_type": "qwen2", "num_hidden_layers": 4, "sliding_window": 8}
    assert windows(qwen2) == [None] * 4
    assert windows(qwen2 | {"use_sliding_window": True, "max_window_layers": 3}) == [None, None, None, 8]
    kinds = ["sliding_attention", "full_attention"] * 2
    assert windows(qwen2 | {"use_sliding_window": True, "layer_types": kinds}) == [8, None, 8, None]
    assert windows(DENSE | {"model_type": "mistral"}) == [4096] * 2  # MistralConfig's own default
    assert windows(DENSE | {"model_type": "mistral", "sliding_window": None}) == [None] * 2


def test_rope_is_read_from_either_spelling() -> None:
    old = parsed(LLAMA | {"rope_theta": 5e5, "rope_scaling": {"type": "yarn", "factor": 4.0}}).numerics
    new = parsed(LLAMA | {"rope_parameters": {"rope_theta": 5e5, "rope_type": "yarn", "factor": 4.0}}).numerics
    assert (old.rope_theta, old.rope_type) == (new.rope_theta, new.rope_type) == (5e5, "yarn")
    factors = {"short_factor": [1.0] * 8, "long_factor": [2.0] * 8}
    earlier = parsed(PHI3 | {"rope_scaling": {"type": "su", **factors}})
    assert earlier.numerics.rope_type == "longrope"  # as Microsoft's first files of 128,000 tokens spell it


@pytest.mark.parametrize("number", [float("inf"), float("-inf"), float("nan")])
@pytest.mark.parametrize("key", ["hidden_size", "rms_norm_eps", "rope_theta", "attention_dropout", "initializer_range"])
def test_a_key_that_is_read_is_a_finite_number(key: str, number: float) -> None:
    with pytest.raises(PlannerError, match=f"^{key} = .*: expected "):
        parsed(LLAMA | {key: number})


def test_what_nothing_reads_may_be_any_number() -> None:
    assert parsed(LLAMA | {"time_step_limit": float("inf")}).spec == parsed(LLAMA).spec


def test_the_default_sequence_length_says_where_it_is_from() -> None:
    def default(raw: dict[str, Any]) -> tuple[int, str]:
        config = parsed(raw)
        return config.default_seq_len, config.seq_len_source

    assert default(LLAMA) == (64, "max_position_embeddings, at most 4096")
    assert default(LLAMA | {"max_position_embeddings": 131072})[0] == 4096
    assert default(LLAMA | {"max_sequence_length": 8192}) == (8192, "max_sequence_length")
    without = {k: v for k, v in LLAMA.items() if k != "max_position_embeddings"}
    assert default(without) == (4096, "assumed: the config states no maximum")
    assert default(GPT2)[0] == 32
    assert default({**GPT2, "model_type": "gptj", "rotary_dim": 4}) == (32, "n_positions, at most 4096")
    assert default({**COMPLETE["mpt"], "max_seq_len": 2048}) == (2048, "max_seq_len, at most 4096")
    assert default({**COMPLETE["bloom"], "seq_length": 2048}) == (2048, "seq_length, at most 4096")
