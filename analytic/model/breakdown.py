"""An integer total that remembers its named terms and its unit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Unit = Literal["params", "flops", "bytes"]


@dataclass(frozen=True, slots=True, eq=True)
class Breakdown(Mapping[str, int]):
    """Named integer terms of one unit. Keys are dotted paths, as torch names parameters and modules.

    Terms of zero are kept: that a model has *no* parameters for positions is a statement, too.

    Raises:
        TypeError: a term that is not an int, or `+` of two units.

    >>> attention = Breakdown("params", {"q_proj": 16, "o_proj": 16})
    >>> layer = attention.under("self_attn") + Breakdown("params", {"norm": 4})
    >>> layer.total, list(layer)
    (36, ['self_attn.q_proj', 'self_attn.o_proj', 'norm'])
    >>> layer.differences(Breakdown("params", {"self_attn.q_proj": 15, "norm": 4}))
    {'self_attn.q_proj': (16, 15), 'self_attn.o_proj': (16, 0)}
    """

    unit: Unit
    terms: Mapping[str, int]

    def __post_init__(self) -> None:
        for key, value in self.terms.items():
            if type(value) is not int:
                raise TypeError(f"{key}: {value!r} is not an int")
        object.__setattr__(self, "terms", MappingProxyType(dict(self.terms)))

    def __getitem__(self, key: str) -> int:
        return self.terms[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.terms)

    def __len__(self) -> int:
        return len(self.terms)

    def __hash__(self) -> int:
        return hash((self.unit, frozenset(self.terms.items())))

    @property
    def total(self) -> int:
        """Sum of all terms."""
        return sum(self.terms.values())

    def under(self, prefix: str) -> Breakdown:
        """The same terms, each key below `prefix`; the empty key becomes `prefix` itself."""
        return Breakdown(self.unit, {f"{prefix}.{k}" if k else prefix: v for k, v in self.terms.items()})

    def times(self, n: int) -> Breakdown:
        """Every term n times."""
        return Breakdown(self.unit, {k: v * n for k, v in self.terms.items()})

    def __add__(self, other: Breakdown) -> Breakdown:
        if self.unit != other.unit:
            raise TypeError(f"cannot add {other.unit} to {self.unit}")
        merged = dict(self.terms)
        for key, value in other.terms.items():
            merged[key] = merged.get(key, 0) + value
        return Breakdown(self.unit, merged)

    def differences(self, other: Breakdown) -> dict[str, tuple[int, int]]:
        """The terms on which two breakdowns of one unit disagree, as (self, other); an absent term is zero."""
        if self.unit != other.unit:
            raise TypeError(f"cannot compare {other.unit} with {self.unit}")
        keys = dict.fromkeys((*self.terms, *other.terms))
        pairs = {k: (self.terms.get(k, 0), other.terms.get(k, 0)) for k in keys}
        return {k: pair for k, pair in pairs.items() if pair[0] != pair[1]}

    def over_layers(self) -> Breakdown:
        """Terms summed over all layers: `layers.0-2.mlp.up_proj` and the like become `layers.mlp.up_proj`.

        For print only: in a sum over unlike layers two errors could cancel.
        """
        total = Breakdown(self.unit, {})
        for key, value in self.terms.items():
            head, *rest = key.split(".", 2)
            term = f"{head}.{rest[-1]}" if head in ("layers", "mtp") else key
            total += Breakdown(self.unit, {term: value})
        return total
