"""What a pipeline rank computes, and in which order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Literal, NamedTuple, assert_never

from analytic.parallelism.pipeline import Pipeline

# Forward; backward; backward in two parts: gradients of the stage's input, then those of its weights.
Computation = Literal["F", "B", "I", "W"]


class Action(NamedTuple):
    """One stage computes one micro-batch."""

    stage: int
    computation: Computation
    micro_batch: int

    def __str__(self) -> str:
        """As torch prints it: `3F0`."""
        return f"{self.stage}{self.computation}{self.micro_batch}"


def order(pipeline: Pipeline, rank: int) -> tuple[Action, ...]:
    """The actions of a rank; what DualPipeV overlaps, forward and backward, one after the other.

    >>> pipeline = Pipeline(schedule="1f1b", ranks=2, micro_batches=3)
    >>> " ".join(map(str, order(pipeline, 0)))
    '0F0 0F1 0B0 0F2 0B1 0B2'
    """
    stages, p, m, v = pipeline.stages_of(rank), pipeline.ranks, pipeline.micro_batches, pipeline.virtual_stages
    actions = _Actions()
    match pipeline.schedule:
        case "gpipe" | "looped-bfs":
            in_order = range(m) if pipeline.schedule == "gpipe" else range(m - 1, -1, -1)
            forward = (Action(stage, "F", i) for stage in stages for i in range(m))
            backward = (Action(stage, "B", i) for stage in reversed(stages) for i in in_order)
            return *forward, *backward
        case "1f1b":
            _one_forward_one_backward(actions, pipeline, stages, p - 1 - rank, None)
        case "interleaved-1f1b":
            warm_up = (v - 1) * pipeline.round_size + 2 * (p - 1 - rank)
            _one_forward_one_backward(actions, pipeline, stages, warm_up, None)
        case "interleaved-zb":
            warm_up = (v - 1) * pipeline.round_size + p - 1 - rank
            _one_forward_one_backward(actions, pipeline, stages, warm_up, rank)
        case "zbv":
            _zero_bubble_v(actions, p, rank, max(m, 2 * p - 1), stages)
            return tuple(action for action in actions.done if action.micro_batch < m)
        case "dualpipev":
            _dual_pipe_v(actions, p, rank, m, stages)
        case _:
            assert_never(pipeline.schedule)
    return tuple(actions.done)


def most_in_flight(actions: Iterable[Action]) -> int:
    """The most pairs of stage and micro-batch between forward and the end of backward, counted.

    >>> most_in_flight([Action(0, "F", 0), Action(0, "F", 1), Action(0, "B", 0), Action(0, "F", 2)])
    2
    """
    live = most = 0
    for action in actions:
        live += {"F": 1, "B": -1, "I": 0, "W": -1}[action.computation]
        most = max(most, live)
    return most


class _Actions:
    """Each stage takes its micro-batches in order, in forward and in backward. Gradients of weights may wait."""

    def __init__(self) -> None:
        self.done: list[Action] = []
        self._next: Counter[tuple[int, bool]] = Counter()
        self._waiting: list[tuple[int, int]] = []

    def run(self, stage: int, computation: Literal["F", "B", "I"]) -> None:
        """The stage's next micro-batch."""
        key = stage, computation == "F"
        micro_batch = self._next[key]
        self.done.append(Action(stage, computation, micro_batch))
        self._next[key] += 1
        if computation == "I":
            self._waiting.append((stage, micro_batch))

    def weights(self, stage: int | None = None) -> None:
        """The gradients of the weights that have waited longest, of that stage or of any; if there are any."""
        one = next((one for one in self._waiting if stage in (None, one[0])), None)
        if one is not None:
            self._waiting.remove(one)
            self.done.append(Action(one[0], "W", one[1]))

    def repeat(self, times: int, *steps: tuple[int, Computation]) -> None:
        for _ in range(times):
            for stage, computation in steps:
                if computation == "W":
                    self.weights(stage)
                else:
                    self.run(stage, computation)


def _one_forward_one_backward(
    actions: _Actions, pipeline: Pipeline, stages: tuple[int, ...], warm_up: int, weights_wait: int | None
) -> None:
    """`warm_up` forward passes, one forward and one backward in turn, the rest of backward.

    `weights_wait`: by how many backward passes gradients of weights lag; None where backward is not split.
    """
    total, v, size = pipeline.micro_batches * len(stages), len(stages), pipeline.round_size
    warm_up = min(warm_up, total)
    for k in range(total + warm_up):
        if k < total:
            actions.run(stages[k // size % v], "F")
        if (back := k - warm_up) >= 0:
            actions.run(stages[v - 1 - back // size % v], "B" if weights_wait is None else "I")
            if weights_wait is not None and back >= weights_wait:
                actions.weights()
    for _ in range(min(weights_wait or 0, total)):
        actions.weights()


def _zero_bubble_v(actions: _Actions, p: int, rank: int, n: int, stages: tuple[int, ...]) -> None:
    """n micro-batches, at least as many as fill the pipeline."""
    down, up = stages
    down_backward: tuple[tuple[int, Computation], ...] = ((down, "I"), (down, "W"))
    up_both: tuple[tuple[int, Computation], ...] = ((up, "F"), (up, "I"), (up, "W"))
    actions.repeat(2 * (p - rank) - 1, (down, "F"))
    actions.repeat(rank, (up, "F"), (down, "F"))
    actions.repeat(p - rank, *up_both)
    actions.repeat(n - 2 * p + 1 + rank, (down, "F"), *down_backward, *up_both)
    actions.repeat(p - 1 - rank, *down_backward, *up_both)
    actions.repeat(rank, (down, "I"), (up, "I"))
    actions.repeat(p - rank, *down_backward)
    actions.repeat(rank, (up, "W"))
    actions.repeat(rank, (down, "W"))


def _dual_pipe_v(actions: _Actions, p: int, rank: int, m: int, stages: tuple[int, ...]) -> None:
    """The eight steps of DualPipeV."""
    down, up = stages
    actions.repeat(2 * (p - rank - 1), (down, "F"))
    actions.repeat(rank + 1, (down, "F"), (up, "F"))
    actions.repeat(p - rank - 1, (up, "I"), (up, "W"), (up, "F"))
    actions.repeat(m - 2 * p + rank + 1, (down, "F"), (up, "B"), (up, "F"), (down, "B"))
    actions.repeat(p - rank - 1, (up, "B"), (up, "F"), (down, "B"))
    for i, stage in enumerate([up, down] * (rank + 1)):
        actions.run(stage, "B" if i <= rank else "I")  # from the middle on, weights wait
    for _ in range(p - rank - 1):
        actions.weights()
        actions.run(down, "I")
    for _ in range(rank + 1):
        actions.weights()
