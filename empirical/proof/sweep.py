"""Every causal language model class of `transformers`: its default configuration is read, built and compared.

A parser can be right on the files it was written for and wrong on others. `perturbed` therefore changes each key
of a class's configuration, one at a time: a key that shapes the model and that the parser overlooks is found by name.
"""

from __future__ import annotations

import inspect
import json
import logging
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from analytic.errors import PlannerError
from analytic.huggingface import config as hf
from analytic.huggingface.families import FAMILIES
from analytic.io.keys import Keys
from empirical.models import build
from empirical.proof import crosscheck
from empirical.proof.check import Check
from empirical.proof.crosscheck import FLOP_COUNTER, INSTRUMENTS, Instrument

transformers.logging.set_verbosity(logging.CRITICAL)  # what it refuses is an outcome here, and reported as one

Raw = dict[str, Any]
Verdict = Literal["exact", "parameters only", "refused", "cannot be built", "wrong"]
SEQ_LEN = 13
NUM_PERTURBED_LAYERS = 4
_ONE_COUNTER = {FLOP_COUNTER: INSTRUMENTS[FLOP_COUNTER]}

# What some classes' defaults leave out, without which there is no model to change.
_COMPLETED: Mapping[str, Raw] = {
    "deepseek_v2": {"num_experts_per_tok": 6},
    "dots1": {"n_routed_experts": 8, "num_experts_per_tok": 3, "n_shared_experts": 2, "head_dim": 144},
    "glm4_moe": {"head_dim": 128},
    "hunyuan_v1_dense": {"head_dim": 128},
    "hunyuan_v1_moe": {"head_dim": 128},
    "ministral": {"head_dim": 128},
    "nemotron": {"num_key_value_heads": 8},
}

# Keys of every class that say nothing of the model's shape.
_OF_EVERY_CLASS = frozenset(
    (
        *("transformers_version", "architectures", "dtype", "id2label", "label2id", "problem_type", "model_type"),
        *("_name_or_path", "return_dict", "output_hidden_states", "output_attentions", "output_router_logits"),
        *("use_cache", "is_encoder_decoder", "initializer_range", "bos_token_id", "eos_token_id", "pad_token_id"),
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The result for one configuration.

    Attributes:
        change: its difference from the default, empty for the default itself.
        verdict: `parameters only` are exact where a witness could not count the FLOPs.
        reason: our refusal, the error of `transformers`, why a witness has no figure, or what is left out
            of a model that is exact as far as it is counted (a vision tower).
        terms: those that disagree, as (formula, witness), each named after its quantity.
    """

    model_type: str
    verdict: Verdict
    change: str = ""
    reason: str = ""
    parameters: int | None = None
    terms: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {
            "model_type": self.model_type,
            "change": self.change,
            "verdict": self.verdict,
            "reason": self.reason,
            "parameters": self.parameters,
            "terms": {key: list(pair) for key, pair in self.terms.items()},
        }


def registry() -> list[str]:
    """Every `model_type` for which `transformers` has a causal language model class."""
    return sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def default_outcomes(model_type: str) -> list[Outcome]:
    """The default configuration of one class, by both counters; also built where we refuse it."""
    try:
        raw = default_keys(model_type)
    except Exception as error:
        return [Outcome(model_type=model_type, verdict="cannot be built", reason=_shown(error))]
    outcome = _outcome(model_type, raw, instruments=INSTRUMENTS)
    if outcome.verdict == "refused":
        try:
            with torch.device("meta"):
                AutoModelForCausalLM.from_config(CONFIG_MAPPING[model_type]())
        except Exception as error:
            return [Outcome(model_type=model_type, verdict="cannot be built", reason=_shown(error))]
    return [outcome]


def perturbed_outcomes(model_type: str) -> list[Outcome]:
    """Every change of one key of a supported class, at a few layers; forward FLOPs by `FlopCounterMode` alone.

    Once from the complete defaults, and once without their lists, which the class then derives from other keys.
    """
    try:
        raw = complete_keys(model_type, num_layers=NUM_PERTURBED_LAYERS)
    except Exception as error:
        return [Outcome(model_type=model_type, verdict="cannot be built", reason=_shown(error))]
    without_lists = {key: value for key, value in raw.items() if not isinstance(value, list)}
    cases = dict(_cases(model_type, raw))
    if without_lists != raw:
        cases |= {f"without lists, {change}": keys for change, keys in _cases(model_type, without_lists)}
    return [_outcome(model_type, keys, change=change, instruments=_ONE_COUNTER) for change, keys in cases.items()]


def is_supported(model_type: str) -> bool:
    """Whether a parser of ours is for this class and no other."""
    return model_type in FAMILIES


def default_keys(model_type: str, num_layers: int | None = None) -> Raw:
    """What a file of the class's defaults would hold."""
    config_class: Any = CONFIG_MAPPING[model_type]
    depth = config_class.attribute_map.get("num_hidden_layers", "num_hidden_layers")
    try:
        config = config_class(**({} if num_layers is None else {depth: num_layers}))
    except Exception:  # GPTNeoConfig states its layers one by one, and takes no other number of them
        config = config_class()
    raw: Raw = json.loads(config.to_json_string(use_diff=False))
    return raw | {"model_type": model_type}


def complete_keys(model_type: str, num_layers: int | None = None) -> Raw:
    """The same, with what some classes' defaults leave out."""
    return default_keys(model_type, num_layers) | _COMPLETED.get(model_type, {})


def _cases(model_type: str, raw: Raw) -> Iterator[tuple[str, Raw]]:
    """A configuration as it is, and each of its keys with each other value worth trying, or left out."""
    yield "as it is", raw
    config_class: Any = CONFIG_MAPPING[model_type]
    annotations = {key: str(field.type) for key, field in getattr(config_class, "__dataclass_fields__", {}).items()}
    for key in [key for key in raw if key not in _OF_EVERY_CLASS]:
        choices = re.findall(r"'(\w+)'", annotations.get(key, "")) if "Literal" in annotations.get(key, "") else []
        for other in (*_other_values(raw[key]), *choices):
            yield f"{key} = {json.dumps(other)}", raw | {key: other}
        yield f"no {key}", {other: value for other, value in raw.items() if other != key}
    for key in _keys_read_if_there(model_type) - raw.keys() - _OF_EVERY_CLASS:
        for value in _other_values(None):
            yield f"{key} = {json.dumps(value)}", raw | {key: value}
    for spelling, key in config_class.attribute_map.items():
        if key in raw:
            yield f"{spelling} beside {key}", raw | {spelling: _other_values(raw[key])[0]}
            rest = {other: value for other, value in raw.items() if other != key}
            yield f"{spelling} for {key}", rest | {spelling: raw[key]}


def _keys_read_if_there(model_type: str) -> set[str]:
    """Keys that no default states and that the class's source asks for nevertheless."""
    config_class = CONFIG_MAPPING[model_type]
    model_class = getattr(transformers, MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[model_type])
    sources = "".join(inspect.getsource(sys.modules[part.__module__]) for part in (config_class, model_class))
    return set(re.findall(r"""(?:getattr\((?:self\.)?config, |kwargs\.\w+\()["'](\w+)["']""", sources))


def _other_values(value: Any) -> list[Any]:
    """Other values of a key: odd, even, least and absurd integers, the opposite flag, other lists; and null."""
    match value:
        case bool():
            return [not value, None]
        case int():
            return [other for other in (value + 1, 2 * value, value // 2, 1, 0) if other != value] + [None]
        case float():
            return [0.0 if value else 0.5, None]
        case None:
            return [1, 4, 16, True, False, 0.5]
        case [first, *_]:
            return [value[::-1], value[1:] + value[:1], [first] * len(value), [], None]
        case dict():
            inner = [{**value, key: other} for key, old in value.items() for other in _other_values(old)]
            return [*inner, None]
        case _:
            return [None]


def _outcome(model_type: str, raw: Raw, *, change: str = "", instruments: Mapping[str, Instrument]) -> Outcome:
    def outcome(verdict: Verdict, **facts: Any) -> Outcome:
        return Outcome(model_type=model_type, change=change, verdict=verdict, **facts)

    try:
        config = hf.parse(Path(model_type, "config.json"), Keys(raw))
    except PlannerError as error:
        return outcome("refused", reason=_shown(error))
    except Exception as error:
        return outcome("wrong", reason=f"our parser failed with {type(error).__name__}: {_shown(error)}")
    real = build.sources(config)[0]
    try:
        real.model()
    except Exception as error:
        return outcome("cannot be built", reason=_shown(error))
    checks = list(crosscheck.verify_counts(config, real, SEQ_LEN, instruments))
    reason = "; ".join((*config.notes, *_errors(checks)))
    return outcome(_verdict(checks), reason=reason, parameters=checks[0].analytic, terms=_terms(checks))


def _verdict(checks: list[Check]) -> Verdict:
    if any(check.status == "fail" and check.measured is not None for check in checks):
        return "wrong"
    return "parameters only" if any(check.error for check in checks) else "exact"


def _errors(checks: list[Check]) -> list[str]:
    return [f"{check.quantity}, {check.witness}: {check.error}" for check in checks if check.error]


def _terms(checks: list[Check]) -> dict[str, tuple[int, int]]:
    return {f"{check.quantity}, {term}": pair for check in checks for term, pair in check.terms.items()}


def _shown(error: Exception) -> str:
    """The error on one line."""
    return " ".join(str(error).split()) or type(error).__name__
