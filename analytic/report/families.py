"""The table of families that can be read, each with the published shape of it that is shipped."""

from __future__ import annotations

from dataclasses import dataclass

from analytic.huggingface.config import load
from analytic.huggingface.families import FAMILIES, SAME_WEIGHTS_AS
from analytic.io.files import model_config_paths
from analytic.memory.implementation import NotPredicted, implementation_of
from analytic.model.params import parameter_counts
from analytic.report.document import Cell, Column, Table

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
    shipped = sorted(map(load, model_config_paths()), key=lambda config: -parameter_counts(config.spec).total)
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


def families_table() -> Table:
    """One row a family."""
    columns = (
        Column("model_type", "model_type", is_left=True),
        Column("read_as", ""),
        Column("transformers_class", "counted as", is_left=True),
        Column("kinds", "layers", is_left=True),
        Column("has_memory", "memory", is_left=True),
        Column("shape", "shipped shape", is_left=True),
        Column("params", "parameters"),
        Column("active", "active"),
    )
    return Table("families", columns, [_row(row) for row in family_rows()])


def _row(row: FamilyRow) -> list[Cell]:
    return [
        Cell(row.model_type, row.model_type),
        Cell(row.read_as, ""),
        Cell(row.transformers_class, row.transformers_class),
        Cell(list(row.kinds), ", ".join(row.kinds)),
        Cell(row.has_memory, "yes" if row.has_memory else "no"),
        Cell(row.shape, row.shape or "none"),
        Cell(row.params, f"{row.params:,}" if row.params else ""),
        Cell(row.active, f"{row.active:,}" if row.active else ""),
    ]
