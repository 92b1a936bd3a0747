"""Pipelines: which stages a rank holds, how many micro-batches it keeps in flight, how long it is idle.

The schedules are those of `torch.distributed.pipelining` (torch 2.15, `schedules.py`). With p ranks, v stages on each
and m micro-batches, one stage holds consecutive layers. GPipe: arXiv:1811.06965; 1F1B and its interleaved form:
arXiv:2104.04473; looped BFS: arXiv:2211.05953; zero bubble, interleaved and V-shaped: arXiv:2401.10241; DualPipeV:
github.com/deepseek-ai/DualPipe.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from analytic.errors import UsageError
from analytic.parallelism.layout import Layout, PipelineSchedule

# Stages on each rank where the schedule fixes them; the others take any number.
_VIRTUAL_STAGES: dict[PipelineSchedule, int] = {"gpipe": 1, "1f1b": 1, "zbv": 2, "dualpipev": 2}
_IN_ROUNDS: tuple[PipelineSchedule, ...] = ("interleaved-1f1b", "interleaved-zb")
_V_SHAPED: tuple[PipelineSchedule, ...] = ("zbv", "dualpipev")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """The pipeline of a layout: as torch's schedule takes it, or refused.

    Attributes:
        ranks: p. micro_batches: m. virtual_stages: v, the stages on each rank.

    Raises:
        UsageError: virtual stages that the schedule does not have, or micro-batches that it does not take.

    >>> pipeline = Pipeline(schedule="1f1b", ranks=4, micro_batches=8)
    >>> [pipeline.in_flight(rank) for rank in range(4)], pipeline.idle_units
    ([4, 3, 2, 1], 9)
    """

    schedule: PipelineSchedule
    ranks: int
    micro_batches: int
    virtual_stages: int = 1

    def __post_init__(self) -> None:
        p, m, v = self.ranks, self.micro_batches, self.virtual_stages
        wanted = _VIRTUAL_STAGES.get(self.schedule, v)
        if v != wanted:
            raise UsageError(f"virtual_stages = {v}: expected {wanted} with pipeline_schedule = {self.schedule}")
        if self.schedule == "1f1b" and m < p:
            raise UsageError(f"micro_batches = {m}: expected at least pp = {p} with pipeline_schedule = 1f1b")
        if self.schedule == "dualpipev" and m < 2 * p:
            raise UsageError(f"micro_batches = {m}: expected at least 2 x pp = {2 * p} with dualpipev")
        if self.schedule in _IN_ROUNDS and m % self._rounds:
            raise UsageError(
                f"micro_batches = {m}: expected a multiple of {self._rounds}, the rounds of pp = {p} micro-batches "
                f"that {self.schedule} makes of them"
            )

    @classmethod
    def of(cls, layout: Layout) -> Pipeline:
        """The pipeline of a layout."""
        return cls(
            schedule=layout.pipeline_schedule,
            ranks=layout.pp,
            micro_batches=layout.micro_batches,
            virtual_stages=layout.virtual_stages,
        )

    @property
    def num_stages(self) -> int:
        """Stages of the whole pipeline."""
        return self.ranks * self.virtual_stages

    @property
    def _rounds(self) -> int:
        return max(1, self.micro_batches // self.ranks)

    @property
    def round_size(self) -> int:
        """Micro-batches that an interleaved schedule runs through one stage before it turns to the next one."""
        return self.micro_batches // self._rounds

    def stages_of(self, rank: int) -> tuple[int, ...]:
        """The stages on a rank: every p-th, or, V-shaped, one on the way down and one on the way back up.

        >>> Pipeline(schedule="looped-bfs", ranks=4, micro_batches=4, virtual_stages=2).stages_of(1)
        (1, 5)
        >>> Pipeline(schedule="zbv", ranks=4, micro_batches=8, virtual_stages=2).stages_of(1)
        (1, 6)
        """
        if type(rank) is not int or not 0 <= rank < self.ranks:
            raise UsageError(f"pipeline rank = {rank!r}: expected an integer from 0 to {self.ranks - 1}")
        if self.schedule in _V_SHAPED:
            return rank, self.num_stages - 1 - rank
        return tuple(range(rank, self.num_stages, self.ranks))

    def rank_of(self, stage: int) -> int:
        """The rank that holds a stage."""
        if self.schedule in _V_SHAPED:
            return min(stage, self.num_stages - 1 - stage)
        return stage % self.ranks

    def in_flight(self, rank: int) -> int:
        """The most (stage, micro-batch) pairs whose forward has run and whose backward has not ended.

        Where backward is split, it ends with the gradients of the weights.
        """
        p, m, v = self.ranks, self.micro_batches, self.virtual_stages
        match self.schedule:
            case "gpipe" | "looped-bfs":
                return m * v
            case "1f1b":
                return min(m, p - rank)
            case "interleaved-1f1b":
                return min(m * v, 2 * (p - 1 - rank) + (v - 1) * self.round_size + 1)
            case "interleaved-zb":
                return min(m * v, (v - 1) * self.round_size + p)
            case "zbv":
                return min(2 * m, m + 1 + rank, 2 * p)
            case "dualpipev":
                return 2 * p + 1
            case _:
                assert_never(self.schedule)

    @property
    def idle_units(self) -> int:
        """How much longer a step takes than one rank computes, in forward passes of one stage.

        Backward takes two, one for the gradients of its input and one for those of its weights; stages are equal
        and sending is free. A rank computes 3 m v of them. The pairs that DualPipeV overlaps run one after the other,
        as torch runs them without a function of the caller's; were both to wait for each other's inputs, it would be
        2 (p - 1).
        """
        p, m, v = self.ranks, self.micro_batches, self.virtual_stages
        missing = max(0, p - m)  # micro-batches that it would take to fill every rank
        match self.schedule:
            case "gpipe" | "1f1b":
                return 3 * (p - 1)
            case "interleaved-1f1b" | "looped-bfs":
                return 3 * (p - 1) + 3 * (v - 1) * missing
            case "interleaved-zb":
                turns = (v - 1) * max(missing, 2 * p - 3 * m) if missing else 0
                return p - 1 + missing + turns
            case "zbv":
                return max(p - 1, 4 * (p - 1) - 2 * (m - 1))
            case "dualpipev":
                return p - 1
            case _:
                assert_never(self.schedule)
