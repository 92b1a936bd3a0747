"""The schedule of a rank against the rank of a simulated world: at every turn of live bytes, and at the peak."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from analytic.memory.implementation import NotPredicted, implementation_of
from analytic.memory.rank import RankSchedule, rank_schedule
from empirical.models.distributed import RankCase
from empirical.models.meta_world import checked
from empirical.proof.check import Check
from empirical.proof.memory import Divergence, first_divergence, scheduled_changes, tracked_changes
from empirical.witnesses.memory import MemoryMeasurement
from empirical.witnesses.rank import RankObservation, observe

WITNESS = "rank of a simulated world on meta"
# since this is a function, no local variable keeps the previous group's all-gather output until the next is unsharded
_AS_SCHEDULED = (
    "torch.distributed.fsdp._fully_shard._fsdp_param_group:FSDPCommContext.release_all_gather_state_for_comm_reuse",
    "(self)",
)


def rank_memory_checks(case: RankCase) -> list[Check]:
    """Base, profile and peak of the first step and of the second; nothing where there is no schedule.

    To be run in a process of its own (`in_own_process`), as torch caches a world's groups.
    """
    if isinstance(rank_schedule_of(case), NotPredicted):
        return []
    return list(observed_memory_checks(case, observe(case)))


def observed_memory_checks(case: RankCase, seen: RankObservation) -> Iterator[Check]:
    """The same of a rank that has been observed.

    Raises:
        UnsupportedVersionError: torch 2.11, where FSDP2 frees what it has gathered at another moment.
    """
    if not isinstance(rank_schedule_of(case), NotPredicted):
        checked(*_AS_SCHEDULED)
        first, second = seen.steps
        yield from _step_checks(case, "first step", rank_schedule_of(case, is_first_step=True), first)
        yield from _step_checks(case, "later step", rank_schedule_of(case), second)


def rank_schedule_of(case: RankCase, *, is_first_step: bool = False) -> RankSchedule | NotPredicted:
    """The schedule that a case is compared with."""
    implementation = implementation_of(case.config, case.setup.seq_len)
    if isinstance(implementation, NotPredicted):
        return implementation
    return rank_schedule(
        case.config.spec, implementation, case.setup, case.layout, case.rank, is_first_step=is_first_step
    )


def step_divergence(schedule: RankSchedule, tracked: MemoryMeasurement) -> Divergence | None:
    """Where the schedule of a step and its tracked profile part."""
    events = chain.from_iterable(phase.events for phase in tracked.phases)
    return first_divergence(scheduled_changes(schedule.events()), tracked_changes(events))


def _step_checks(
    case: RankCase, step: str, schedule: RankSchedule | NotPredicted, tracked: MemoryMeasurement
) -> Iterator[Check]:
    assert isinstance(schedule, RankSchedule)
    where = f"{step}, {case.layout.describe()}, rank {case.rank}"
    base = tracked.base_bytes or 0
    figures = {
        "base": (sum(schedule.base.values()), base),
        "peak": (schedule.top().total_bytes, base + tracked.peak_bytes),
    }
    for name, (ours, theirs) in figures.items():
        yield _check(case, f"{name} bytes, {where}", ours, theirs)
    ours, theirs, terms = *figures["peak"], {}
    if (divergence := step_divergence(schedule, tracked)) is not None:
        ours, theirs = divergence.scheduled_bytes, divergence.tracked_bytes
        terms = {str(divergence): (ours, theirs)}
    yield _check(case, f"every rise and fall of live bytes, {where}", ours, theirs, terms)


def _check(
    case: RankCase, quantity: str, analytic: int, measured: int, terms: dict[str, tuple[int, int]] | None = None
) -> Check:
    return Check(
        model=case.config.name,
        quantity=quantity,
        witness=WITNESS,
        analytic=analytic,
        measured=measured,
        terms=terms or {},
    )
