"""Hugging Face `config.json` -> `ModelSpec`: reads the file and hands its keys to the family's parser.

What was derived for an absent key travels with the result, with its source.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from analytic.errors import SpecError, UnsupportedModelError, listed
from analytic.huggingface.checks import check_unread_keys
from analytic.huggingface.families import FAMILIES, SAME_WEIGHTS_AS, Family
from analytic.huggingface.write import to_config
from analytic.io.files import read_json_object
from analytic.io.keys import Derived, Keys
from analytic.io.located import located
from analytic.limits import MAX_LAYERS, MAX_PARAMETERS
from analytic.model.params import model_params
from analytic.model.spec import ModelSpec, Numerics

ASSUMED_SEQ_LEN = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """A configuration as read: the description, and how it came about.

    Attributes:
        name: for print; the file's name, or its folder's for a file called config.json.
        model_type: as the file states it; `read_as` is the family whose parser read it.
        transformers_class: the `transformers` class that the counts are for.
        notes: what a reader must know of how the file was read.
        default_seq_len, seq_len_source: the sequence length where none is given, and why that one.
        derived: what each absent key was taken to be, with its source.
        raw: the keys that were read, for building the same model in `transformers`.
    """

    name: str
    path: Path
    model_type: str
    read_as: str
    transformers_class: str
    notes: tuple[str, ...]
    spec: ModelSpec
    numerics: Numerics
    default_seq_len: int
    seq_len_source: str
    derived: Mapping[str, Derived]
    raw: Mapping[str, Any]

    @classmethod
    def designed(cls, spec: ModelSpec, seq_len: int) -> Self:
        """The configuration of a designed model, as if `to_config` had written it and `parse` had read it.

        Raises:
            UnsupportedModelError: a model that `to_config` does not write.
            SpecError: a model too large, or a width that its heads do not divide.
        """
        raw = to_config(spec, seq_len)
        if spec.hidden_size % raw["num_attention_heads"]:
            raise SpecError(f"hidden_size = {spec.hidden_size}: expected a multiple of num_attention_heads")
        _refuse_too_large(spec)
        return cls(
            name="plan",
            path=Path("plan"),
            model_type=raw["model_type"],
            read_as=raw["model_type"],
            transformers_class=FAMILIES[raw["model_type"]].transformers_class,
            notes=(),
            spec=spec,
            numerics=Numerics(norm_eps=raw["rms_norm_eps"], rope_theta=raw["rope_theta"], activation=raw["hidden_act"]),
            default_seq_len=seq_len,
            seq_len_source="max_sequence_length",
            derived={},
            raw=raw,
        )


def load(path: Path) -> ModelConfig:
    """Read a `config.json`.

    Raises:
        FileError: the file or one of its keys; the message names path, key, value and what was expected.
        SpecError: keys that contradict each other.
        UnsupportedModelError: a `model_type` that is not supported.
    """
    raw = read_json_object(path, is_finite=False)
    with located(path):
        return parse(path, Keys(raw))


def parse(path: Path, keys: Keys) -> ModelConfig:
    """Describe the model that the keys of a configuration state; errors name the key but not the path."""
    keys.require(("model_type",), "Hugging Face")
    model_type, notes = keys.text("model_type"), []
    stated, keys = model_type, _text_part(keys, model_type)
    if keys.config.get("model_type") != model_type:
        stated = keys.text("model_type")
        notes.append(
            f"text_config of {model_type}, a {stated} model: what else there is (vision, audio) is not counted"
        )
    read_as = SAME_WEIGHTS_AS.get(stated, stated)
    if read_as not in FAMILIES:
        raise UnsupportedModelError(
            f"model_type = {model_type!r}: expected one of {_SUPPORTED_LISTED}", key="model_type"
        )
    if stated != read_as:
        notes.append(f"model_type {stated} read as {read_as}, whose class holds the same weights")
    family = FAMILIES[read_as]
    keys = _spelled(keys, family)
    raw = keys.config
    if stated != model_type:
        keys = _with_nested_defaults(keys, family)
    keys.require(family.required, read_as)
    spec, numerics = family.parse(keys)
    check_unread_keys(keys, spec.vocab_size)
    _refuse_too_large(spec)
    notes += [
        f"{key} = {keys.config[key]}: multi-token-prediction layers of {read_as} are not counted"
        for key in _MTP_KEYS
        if keys.config.get(key) is not None and keys.integer(key, least=0, most=MAX_LAYERS) and not spec.mtp_layers
    ]
    seq_len, source = _default_seq_len(keys, spec)
    return ModelConfig(
        name=path.parent.name if path.name == "config.json" else path.stem.removesuffix("_config"),
        path=path,
        model_type=model_type,
        read_as=read_as,
        transformers_class=family.transformers_class,
        notes=tuple(notes),
        spec=spec,
        numerics=numerics,
        default_seq_len=seq_len,
        seq_len_source=source,
        derived=keys.derived,
        raw=raw,
    )


def _refuse_too_large(spec: ModelSpec) -> None:
    total = model_params(spec).total
    if total > MAX_PARAMETERS:
        raise SpecError(f"{total} parameters: expected at most {MAX_PARAMETERS}")


_SUPPORTED = sorted((*FAMILIES, *SAME_WEIGHTS_AS))
_SUPPORTED_LISTED = listed(_SUPPORTED, shown_by="foretrain list families")
_MAXIMUM_KEYS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")
_MTP_KEYS = ("num_nextn_predict_layers", "num_mtp_modules", "mtp_num_hidden_layers")


def _text_part(keys: Keys, model_type: str) -> Keys:
    """The keys of the language model inside a model of several kinds of input, or these keys themselves."""
    nested = keys.section("text_config")
    if model_type in _SUPPORTED or nested is None:
        return keys
    if nested.config.get("model_type") not in _SUPPORTED:
        inner = nested.config.get("model_type")
        raise UnsupportedModelError(
            f"model_type = {model_type!r}, its text_config {inner!r}: expected one of {_SUPPORTED_LISTED}"
        )
    return nested


def _spelled(keys: Keys, family: Family) -> Keys:
    """The keys under the names that the parser asks for."""
    config = keys.config
    for spelling, name in family.aliases.items():
        if config.get(spelling) is None:
            continue
        if config.get(name) not in (None, config[spelling]):
            keys.reject(spelling, config[spelling], f"{config[name]}, as {name} says")
        config = {**config, name: config[spelling]}
    return Keys(config, keys.derived) if config is not keys.config else keys


def _with_nested_defaults(keys: Keys, family: Family) -> Keys:
    """A `text_config` with what it leaves to the class: `transformers` used to write differences only."""
    absent = {key: value for key, value in family.nested_defaults.items() if keys.config.get(key) is None}
    source = f"the default of the class: a text_config of {family.transformers_class} states what differs"
    keys.derived.update({key: Derived(value, source) for key, value in absent.items()})
    return Keys({**keys.config, **absent}, keys.derived)


def _default_seq_len(keys: Keys, spec: ModelSpec) -> tuple[int, str]:
    """`max_sequence_length` if stated, else the smaller of the maximum position, under any name, and 4,096."""
    if spec.num_positions:
        return min(spec.num_positions, ASSUMED_SEQ_LEN), "learned positions, at most 4096"
    if keys.config.get("max_sequence_length") is not None:
        return keys.integer("max_sequence_length"), "max_sequence_length"
    for key in _MAXIMUM_KEYS:
        if key in keys.config:
            return min(keys.integer(key), ASSUMED_SEQ_LEN), f"{key}, at most 4096"
    return ASSUMED_SEQ_LEN, "assumed: the config states no maximum"
