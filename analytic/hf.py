"""Hugging Face `config.json` -> `ModelSpec`: reads the file and hands its keys to the family's parser.

What was derived for an absent key travels with the result, with its source.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analytic.errors import PlannerError, SpecError, UnsupportedModelError
from analytic.families import FAMILIES, SAME_WEIGHTS_AS
from analytic.files import read_json_object
from analytic.keys import Derived, Keys
from analytic.params import model_params
from analytic.spec import ModelSpec, Numerics

MAX_PARAMETERS = 10**15  # a thousand times the largest model published
ASSUMED_SEQ_LEN = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """A configuration as read: the description, and how it came about.

    Attributes:
        name: for print; the file's name, or its folder's for a file called config.json.
        model_type: as the file states it; `read_as` is the family whose parser read it.
        transformers_class: the `transformers` class that the counts are for.
        default_seq_len, seq_len_source: the sequence length where none is given, and why that one.
        derived: what each absent key was taken to be, with its source.
        raw: the file's own keys, for building the same model in `transformers`.
    """

    name: str
    path: Path
    model_type: str
    read_as: str
    transformers_class: str
    spec: ModelSpec
    numerics: Numerics
    default_seq_len: int
    seq_len_source: str
    derived: Mapping[str, Derived]
    raw: Mapping[str, Any]


def load(path: Path) -> ModelConfig:
    """Read a `config.json`.

    Raises:
        FileError: the file or one of its keys; the message names path, key, value and what was expected.
        SpecError: keys that contradict each other.
        UnsupportedModelError: a `model_type` that is not supported.
    """
    raw = read_json_object(path)
    try:
        return parse(path, Keys(raw))
    except PlannerError as error:
        raise type(error)(f"{path}: {error}") from None


def parse(path: Path, keys: Keys) -> ModelConfig:
    """Describe the model that the keys of a configuration state; errors name the key but not the path."""
    keys.require(("model_type",), "Hugging Face")
    model_type = keys.text("model_type")
    read_as = SAME_WEIGHTS_AS.get(model_type, model_type)
    if read_as not in FAMILIES:
        supported = ", ".join(sorted((*FAMILIES, *SAME_WEIGHTS_AS)))
        raise UnsupportedModelError(f"model_type = {model_type!r}: expected one of {supported}")
    family = FAMILIES[read_as]
    keys.require(family.required, read_as)
    spec, numerics = family.parse(keys)
    total = model_params(spec).total
    if total > MAX_PARAMETERS:
        raise SpecError(f"{total} parameters: expected at most {MAX_PARAMETERS}")
    seq_len, source = _default_seq_len(keys, spec)
    return ModelConfig(
        name=path.parent.name if path.name == "config.json" else path.stem.removesuffix("_config"),
        path=path,
        model_type=model_type,
        read_as=read_as,
        transformers_class=family.transformers_class,
        spec=spec,
        numerics=numerics,
        default_seq_len=seq_len,
        seq_len_source=source,
        derived=keys.derived,
        raw=keys.config,
    )


def _default_seq_len(keys: Keys, spec: ModelSpec) -> tuple[int, str]:
    """`max_sequence_length` if stated, else the smaller of the maximum position and 4,096."""
    if spec.num_positions:
        return min(spec.num_positions, ASSUMED_SEQ_LEN), "learned positions, at most 4096"
    if keys.config.get("max_sequence_length") is not None:
        return keys.integer("max_sequence_length"), "max_sequence_length"
    if keys.config.get("max_position_embeddings") is not None:
        stated = keys.integer("max_position_embeddings")
        return min(stated, ASSUMED_SEQ_LEN), "max_position_embeddings, at most 4096"
    return ASSUMED_SEQ_LEN, "assumed: the config states no maximum"
