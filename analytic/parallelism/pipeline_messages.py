"""When a rank of interleaved 1F1B or looped BFS makes ready to receive: torch does so long before it needs to.

torch 2.15 (`schedules.py`, `_prepare_schedule_with_comms`) goes through the ranks in turns, one action each. Whoever
computes what another rank waits for puts the receive into that rank's list, behind what it has so far. Actions that
only FSDP uses take a turn, too: gathering and freeing the weights of stages, of which three may be gathered at once,
and the reduction of a stage's gradients with the wait for it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from analytic.parallelism.pipeline import Pipeline
from analytic.parallelism.pipeline_order import Action, order

MOST_ACTIVE_STAGES = 3
_TURNS_OF_A_REDUCTION = 2


class Step(NamedTuple):
    """A rank computes an action, or makes ready to receive what that action needs."""

    action: Action
    is_receive: bool


def steps(pipeline: Pipeline) -> dict[int, list[Step]]:
    """What each rank does, in order. For schedules of several stages that do not split backward.

    >>> found = steps(Pipeline(schedule="looped-bfs", ranks=2, micro_batches=1, virtual_stages=1))
    >>> [f"{'receive for ' if is_receive else ''}{action}" for action, is_receive in found[0]]
    ['0F0', 'receive for 0B0', '0B0']
    """
    ranks = range(pipeline.ranks)
    waiting = {rank: deque(_turns(order(pipeline, rank), pipeline.micro_batches)) for rank in ranks}
    done: dict[int, list[Step]] = {rank: [] for rank in ranks}
    known: set[Action] = {Action(0, "F", i) for i in range(pipeline.micro_batches)}  # actions whose input is there
    known |= {Action(pipeline.num_stages - 1, "B", i) for i in range(pipeline.micro_batches)}
    while any(waiting.values()):
        for rank in ranks:
            if not waiting[rank] or ((action := waiting[rank][0]) is not None and action not in known):
                continue
            waiting[rank].popleft()
            if action is None:
                continue
            done[rank].append(Step(action, False))
            following = _following(action)
            if not 0 <= following.stage < pipeline.num_stages:
                continue
            known.add(following)
            if (target := pipeline.rank_of(following.stage)) != rank:
                done[target].append(Step(following, True))
    return done


def _following(action: Action) -> Action:
    """What needs the result of an action."""
    return action._replace(stage=action.stage + (1 if action.computation == "F" else -1))


def _turns(actions: Sequence[Action], micro_batches: int) -> Iterator[Action | None]:
    """The actions of a rank, and None for each turn that only FSDP uses."""
    active: set[int] = set()
    backward: Counter[int] = Counter()
    for action, soon in zip(actions, _next_stages(actions), strict=True):
        yield from [None] * (len(active - soon) + len(soon - active))
        active = soon
        yield action
        backward[action.stage] += action.computation == "B"
        if action.computation == "B" and backward[action.stage] == micro_batches:
            yield from [None] * _TURNS_OF_A_REDUCTION


def _next_stages(actions: Sequence[Action]) -> list[set[int]]:
    """The stages that come next, from each action on: its own, and two others."""
    upcoming: list[int] = []
    found = []
    for action in reversed(actions):
        upcoming = [action.stage, *(stage for stage in upcoming if stage != action.stage)]
        found.append(set(upcoming[:MOST_ACTIVE_STAGES]))
    return found[::-1]
