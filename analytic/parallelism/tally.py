"""Collectives that are counted term by term: equal ones of a module become one `Collective`."""

from __future__ import annotations

from typing import Literal

from analytic.parallelism.communication import Collective, Kind
from analytic.parallelism.layout import Axis


class Tally:
    """Counts and bytes of collectives by axis, kind, module and size of the group. A group of one sends nothing."""

    def __init__(self) -> None:
        self._sums: dict[tuple[Axis | Literal["efsdp"], Kind, str, int], tuple[int, int]] = {}

    def add(
        self, axis: Axis | Literal["efsdp"], kind: Kind, module: str, group_size: int, count: int, one_bytes: int
    ) -> None:
        """Count collectives of `one_bytes` each."""
        if group_size > 1 and count and one_bytes:
            key = (axis, kind, module, group_size)
            before, size = self._sums.get(key, (0, 0))
            self._sums[key] = (before + count, size + count * one_bytes)

    def collectives(self) -> tuple[Collective, ...]:
        """All of them, in the order in which they were first counted."""
        return tuple(
            Collective(axis=axis, kind=kind, module=module, group_size=group, count=count, size_bytes=size)
            for (axis, kind, module, group), (count, size) in self._sums.items()
        )
