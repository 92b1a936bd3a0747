"""What fits: the largest micro-batch, and the longest sequence, in a given memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import get_args

from analytic.errors import UsageError
from analytic.limits import MAX_DIMENSION
from analytic.memory.schedule import MemorySchedule
from analytic.model.checkpointing import Checkpointing


@dataclass(frozen=True, slots=True)
class Fit:
    """The most that fits with one choice of checkpointing; 0 where not even one does.

    Attributes:
        micro_batch: sequences of the setup's length. seq_len: tokens in each sequence of the setup's micro-batch.
    """

    checkpointing: Checkpointing
    micro_batch: int
    seq_len: int


def check_reserve(reserve_bytes: int | None, memory_bytes: int) -> None:
    """Raise a UsageError for a reserve that leaves nothing."""
    if reserve_bytes is not None and not 0 <= reserve_bytes < memory_bytes:
        raise UsageError(f"reserve of {reserve_bytes} bytes: expected less than the {memory_bytes} bytes of memory")


def fits(schedule: MemorySchedule, *, memory_bytes: int, reserve_bytes: int) -> tuple[Fit, ...]:
    """Under each choice of checkpointing: what a step may grow to before its peak leaves the memory.

    Args:
        memory_bytes: what the GPU has. reserve_bytes: what is kept free of it, for the context, workspaces,
            fragmentation and whatever else the schedule does not contain.

    Raises:
        UsageError: a reserve that leaves nothing.
    """
    check_reserve(reserve_bytes, memory_bytes)
    available = memory_bytes - reserve_bytes

    def fit(checkpointing: Checkpointing) -> Fit:
        base = replace(schedule.setup, checkpointing=checkpointing)

        def with_batch(n: int) -> bool:
            return schedule.under(replace(base, micro_batch=n)).peak_bytes() <= available

        def with_length(n: int) -> bool:
            return schedule.under(replace(base, seq_len=n)).peak_bytes() <= available

        return Fit(checkpointing, _largest(with_batch), _largest(with_length))

    return tuple(fit(checkpointing) for checkpointing in get_args(Checkpointing))


def _largest(is_possible: Callable[[int], bool]) -> int:
    """The largest n for which a condition that only ever turns false holds; 0 if it never does.

    >>> _largest(lambda n: n * n <= 50), _largest(lambda n: False)
    (7, 0)
    """
    low, high = 0, 1
    while high <= MAX_DIMENSION and is_possible(high):
        low, high = high, 2 * high
    high = min(high, MAX_DIMENSION + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if is_possible(middle) else (low, middle)
    return low
