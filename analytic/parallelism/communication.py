"""What a rank sends and receives in a training step: one `Collective` a kind, axis and module."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, assert_never

from analytic.model.breakdown import Breakdown
from analytic.parallelism.layout import Axis

Kind = Literal["all_gather", "reduce_scatter", "all_reduce", "all_to_all", "broadcast", "send", "recv"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Collective:
    """Equal collectives of one rank in one step.

    Attributes:
        axis: of the mesh; `efsdp` is FSDP among the ranks that share the same experts.
        module: that they belong to, as a dotted path such as `layers.3`; equal layers may be one, `layers.1-30`.
        group_size: ranks of the group. count: how often in a step.
        size_bytes: in all: the full gathered output, the full input of a reduction or exchange, what is sent or
            received; by shape, padding included.
    """

    axis: Axis | Literal["efsdp"]
    kind: Kind
    module: str
    group_size: int
    count: int
    size_bytes: int


def wire_bytes(one: Collective) -> float:
    """What a rank sends: by the ring algorithms, which are assumed, as NCCL has others, too.

    >>> gathered = Collective(axis="tp", kind="all_gather", module="m", group_size=4, count=1, size_bytes=100)
    >>> wire_bytes(gathered)
    75.0
    """
    others = (one.group_size - 1) / one.group_size
    match one.kind:
        case "all_gather" | "reduce_scatter" | "all_to_all":
            return one.size_bytes * others
        case "all_reduce":
            return 2 * one.size_bytes * others
        case "send" | "broadcast":
            return float(one.size_bytes)
        case "recv":
            return 0.0
        case _:
            assert_never(one.kind)


def volume(collectives: Iterable[Collective]) -> Breakdown:
    """Bytes of a step by `axis.kind.module`."""
    total = Breakdown("bytes", {})
    for one in collectives:
        total += Breakdown("bytes", {f"{one.axis}.{one.kind}.{one.module}": one.size_bytes})
    return total
