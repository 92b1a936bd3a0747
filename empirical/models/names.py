"""Which canonical terms a torch path stands for, and what a witness counted of each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from analytic.huggingface.config import ModelConfig
from analytic.huggingface.families import FAMILIES
from analytic.huggingface.weight_names import Names, Terms
from analytic.model.breakdown import Breakdown, Unit
from analytic.model.spec import POST_NORM, ModelSpec

_INDEX = re.compile(r"\.\d+(?=\.|$)")


def names_of(config: ModelConfig) -> Names:
    """How the `transformers` class of a configuration calls its modules."""
    family = FAMILIES[config.read_as]
    if family.post_norm_names is not None and config.spec.layers[0].norm_slots == POST_NORM:
        return family.post_norm_names
    return family.names


@dataclass(frozen=True, slots=True)
class Term:
    """A canonical term, or several in one tensor; `layer` is None outside the layers."""

    layer: int | None
    names: Terms

    def under(self, layers: str) -> Terms:
        return self.names if self.layer is None else tuple(f"{layers}.{name}" for name in self.names)


def term_of(path: str, names: Names) -> Term:
    """The term of a parameter, buffer or module path. One that the table lacks keeps its own path, and says so.

    >>> from analytic.huggingface.weight_names import LLAMA
    >>> term_of("model.layers.3.self_attn.o_proj.bias", LLAMA)
    Term(layer=3, names=('self_attn.o_proj.bias',))
    >>> term_of("model.layers.0.self_attn.gate", LLAMA).names
    ('model.layers.0.self_attn.gate (no such term)',)
    """
    below = path.removeprefix(f"{names.base}.").removesuffix(".weight")
    suffix = ".bias" if below.endswith(".bias") else ""
    stem = below.removesuffix(suffix)
    layer, table = None, names.around
    if stem.startswith(f"{names.layers}."):
        _, index, stem = stem.split(".", 2) if stem.count(".") > 1 else (*stem.split("."), "")
        layer, table = int(index), names.layer
        stem = _INDEX.sub(".*", stem)
    terms = table.get(stem)
    if terms is None:
        return Term(None, (f"{path} (no such term)",))
    return Term(layer, tuple(term + suffix for term in terms))


@dataclass(frozen=True, slots=True)
class Counted:
    """What a witness counted. Each key is the terms that one value stands for: several where they are one tensor."""

    unit: Unit
    values: Mapping[Terms, int]

    @property
    def total(self) -> int:
        return sum(self.values.values())

    def differences(self, formula: Breakdown) -> dict[str, tuple[int, int]]:
        """The terms on which they disagree, as (formula, witness); those of one tensor are compared as their sum."""
        rest, shared = dict(formula.terms), dict[str, int]()
        for terms in self.values:
            if len(terms) > 1:
                shared[_label(terms)] = sum(rest.pop(term, 0) for term in terms)
        counted = {_label(terms): value for terms, value in self.values.items()}
        return Breakdown(formula.unit, rest | shared).differences(Breakdown(self.unit, counted))


def _label(terms: Terms) -> str:
    return " + ".join(terms)


def summed(unit: Unit, counted: Iterable[tuple[Terms, int]]) -> Counted:
    """Counts of equal terms, added up."""
    values: dict[Terms, int] = {}
    for terms, value in counted:
        values[terms] = values.get(terms, 0) + value
    return Counted(unit, values)


def by_run(unit: Unit, spec: ModelSpec, counted: Iterable[tuple[Term, int]]) -> Counted:
    """Counts of single layers, summed over each run of the spec's equal layers.

    A term that is not the same in every layer of a run stays under each layer's own index: it will
    match nothing, and so cannot hide in a sum.
    """
    runs = {i: run for run in spec.runs for i in run.indices}
    values: dict[Term, int] = {}
    for term, value in counted:
        values[term] = values.get(term, 0) + value

    def terms_of(term: Term, value: int) -> Terms:
        run = runs.get(term.layer) if term.layer is not None else None
        if run is None or any(values.get(Term(i, term.names)) != value for i in run.indices):
            return term.under(f"layers.{term.layer}")
        return term.under(f"layers.{run.label}")

    return summed(unit, ((terms_of(term, value), value) for term, value in values.items()))
