"""The table of families that can be read, each beside the published shape of it that is shipped."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from analytic.huggingface import config as hf
from analytic.huggingface.families import FAMILIES, SAME_WEIGHTS_AS
from analytic.io.files import model_config_paths
from analytic.memory.implementation import NotPredicted, implementation_of
from analytic.model.params import parameter_counts
from analytic.report.text import table

SHORT = 512  # tokens: within every shipped sliding window


@dataclass(frozen=True, slots=True)
class FamilyRow:
    """One `model_type`.

    Attributes:
        read_as: the family whose parser reads it; its own name, but for remote-code types.
        shape: a shipped configuration of it, or None; params and active are that one's.
        kinds: of its layers. has_memory: whether there is a memory schedule of it.
    """

    model_type: str
    read_as: str
    transformers_class: str
    shape: str | None
    params: int | None
    active: int | None
    kinds: tuple[str, ...]
    has_memory: bool


def family_rows() -> list[FamilyRow]:
    """Every `model_type` in alphabetical order, with the smallest shipped configuration of it."""
    shipped = sorted(map(hf.load, model_config_paths()), key=lambda config: -parameter_counts(config.spec).total)
    by_type = {config.model_type: config for config in shipped}
    rows = []
    for model_type in sorted((*FAMILIES, *SAME_WEIGHTS_AS)):
        read_as, config = SAME_WEIGHTS_AS.get(model_type, model_type), by_type.get(model_type)
        counts = parameter_counts(config.spec) if config else None
        rows.append(
            FamilyRow(
                model_type=model_type,
                read_as=read_as,
                transformers_class=FAMILIES[read_as].transformers_class,
                shape=config.name if config else None,
                params=counts.total if counts else None,
                active=counts.active if counts else None,
                kinds=tuple(dict.fromkeys(run.layer.kind for run in config.spec.runs)) if config else (),
                has_memory=config is not None and not isinstance(implementation_of(config, SHORT), NotPredicted),
            )
        )
    return rows


def families_text() -> str:
    header = ("model_type", "counted as", "layers", "memory", "shipped shape", "parameters", "active")
    cells = [
        (
            row.model_type,
            row.transformers_class,
            ", ".join(row.kinds),
            "yes" if row.has_memory else "no",
            row.shape or "none",
            f"{row.params:,}" if row.params else "",
            f"{row.active:,}" if row.active else "",
        )
        for row in family_rows()
    ]
    return "\n".join((*table([header, *cells], left=5), ""))


def families_json() -> str:
    return json.dumps({"families": [asdict(row) for row in family_rows()]}, indent=2) + "\n"
