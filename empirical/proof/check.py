"""A check: one figure of the formulas compared with one witness's. Imports no torch, so that it starts at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One figure of the formulas compared with one witness's.

    Attributes:
        terms: each term that disagrees, as (formula, witness): sums that agree by cancellation fail.
        error: why the witness has no figure (`measured` is then None): that is a failure, too.
    """

    model: str
    quantity: str
    witness: str
    analytic: int
    measured: int | None
    terms: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    error: str = ""

    @property
    def difference(self) -> int | None:
        return None if self.measured is None else self.measured - self.analytic

    @property
    def status(self) -> Literal["pass", "fail"]:
        return "fail" if self.difference != 0 or self.terms else "pass"

    def as_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "quantity": self.quantity,
            "witness": self.witness,
            "analytic": self.analytic,
            "measured": self.measured,
            "difference": self.difference,
            "status": self.status,
            "terms": {key: list(pair) for key, pair in self.terms.items()},
            "error": self.error,
        }
