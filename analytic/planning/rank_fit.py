"""Does a training step fit many GPUs: every layout that a stack runs, by the memory of its fullest rank."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from analytic.errors import UsageError
from analytic.huggingface.config import ModelConfig
from analytic.memory.allowance import AllowanceLine, allowance
from analytic.memory.by_stack import check_layout, collectives, executed_flops, rank_peak
from analytic.memory.implementation import NotPredicted
from analytic.memory.rank_peak import RankPeak
from analytic.model.checkpointing import Checkpointing
from analytic.model.training import TrainingSetup
from analytic.parallelism.communication import Collective, wire_bytes
from analytic.parallelism.layout import MOST_RANKS, Layout
from analytic.parallelism.pipeline import Pipeline
from analytic.parallelism.stacks import Stack
from analytic.planning.layouts import PIPELINE_ROUNDS, Space, layouts

MOST_MICRO_BATCH = 1024
MOST_GROWTH = 10  # doublings of the GPUs, in search of a number that suffices


def rank_setup(setup: TrainingSetup) -> TrainingSetup:
    """A planned setup as a rank has it: what is stored, layout and stack say, in bytes requested from the allocator."""
    return replace(setup, has_master_weights=False, is_accumulating=False, rounding_bytes=1)


@dataclass(frozen=True, kw_only=True)
class RankFit:
    """One layout on one stack.

    Attributes:
        setup: micro-batch and what is recomputed among it. peak: of the rank that has the highest.
        memory_bytes: of the GPU. reserve_bytes: what is kept free of it; None is the allowance of stack and layout.
        beyond_bytes: what was measured in excess of the prediction, likewise kept free.
    """

    config: ModelConfig
    stack: Stack
    layout: Layout
    setup: TrainingSetup
    peak: RankPeak
    memory_bytes: int
    reserve_bytes: int | None
    beyond_bytes: int = 0

    @cached_property
    def allowance(self) -> tuple[AllowanceLine, ...]:
        """What the peak does not contain."""
        if self.reserve_bytes is not None:
            return (AllowanceLine("kept free", self.reserve_bytes, "given"),)
        has_experts = self.config.spec.has_experts
        return allowance(self.stack, self.layout, self.peak.peak_bytes, has_experts=has_experts)

    @property
    def allowance_bytes(self) -> int:
        return sum(line.size_bytes for line in self.allowance) + self.beyond_bytes

    @property
    def available_bytes(self) -> int:
        """Of the GPU, for tensors."""
        return self.memory_bytes - self.allowance_bytes

    @property
    def fits(self) -> bool:
        return self.peak.peak_bytes <= self.available_bytes

    @property
    def global_batch(self) -> int:
        """Sequences of one step."""
        return self.setup.micro_batch * self.layout.micro_batches * self.layout.data_ranks

    @cached_property
    def collectives(self) -> tuple[Collective, ...]:
        """Of one step of that rank."""
        return collectives(self.config, self.setup, self.layout, self.stack, self.peak.rank)

    @property
    def executed_flops(self) -> int:
        """Of one step, recomputation included: of that rank, or by formula of the busiest."""
        return executed_flops(self.config, self.setup, self.layout, self.stack, self.peak.rank)

    @property
    def sent_bytes(self) -> float:
        """What that rank sends in a step, by ring algorithms."""
        return sum(wire_bytes(one) for one in self.collectives)

    @cached_property
    def bytes_per_token(self) -> float:
        """What all ranks send for a token, in a step of four micro-batches a GPU, so that layouts can be compared."""
        layout = replace(self.layout, micro_batches=PIPELINE_ROUNDS * self.layout.num_gpus // self.layout.data_ranks)
        sent = sum(wire_bytes(one) for one in collectives(self.config, self.setup, layout, self.stack, self.peak.rank))
        return sent / (PIPELINE_ROUNDS * self.setup.micro_batch * self.setup.seq_len)

    @property
    def idle_share(self) -> float | None:
        """Of a step that a pipeline rank is idle, stages being equal and sending free; None where torch has none."""
        if self.layout.pp == 1:
            return 0.0
        try:
            idle = Pipeline.of(self.layout).idle_units
        except UsageError:
            return None
        return idle / (idle + 3 * self.layout.micro_batches * self.layout.virtual_stages)

    def takes(self, micro_batch: int) -> bool:
        """Whether another micro-batch fits, at as many of them."""
        setup = replace(self.setup, micro_batch=micro_batch)
        found = rank_peak(self.config, setup, self.layout, self.stack)
        return isinstance(found, RankPeak) and replace(self, setup=setup, peak=found).fits

    @cached_property
    def most_micro_batch(self) -> int:
        """The largest micro-batch that fits, at as many micro-batches; 0 where none does. None above 1,024 is tried."""
        most = max(MOST_MICRO_BATCH, self.setup.micro_batch)
        low, high = 0, 1
        while high <= most and self.takes(high):
            low, high = high, min(2 * high, most + 1)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.takes(middle) else (low, middle)
        return low


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is to be fitted.

    Attributes:
        recompute: what was asked for; None tries none, then full.
        memory_bytes, reserve_bytes, beyond_bytes: as those of `RankFit`.
    """

    config: ModelConfig
    setup: TrainingSetup
    recompute: Checkpointing | None
    memory_bytes: int
    reserve_bytes: int | None = None
    beyond_bytes: int = 0

    @cached_property
    def _choices(self) -> Sequence[TrainingSetup]:
        """The setup with each amount of recomputation that is tried."""
        choices: tuple[Checkpointing, ...] = ("none", "full") if self.recompute is None else (self.recompute,)
        return [replace(self.setup, checkpointing=checkpointing) for checkpointing in choices]

    def fit(self, layout: Layout, stack: Stack) -> RankFit | NotPredicted:
        """A layout with the least recomputation that fits, or with all of it.

        Raises:
            UsageError: a layout that model or stack refuse.
        """
        check_layout(self.config, self.setup, layout, stack)
        found: RankFit | NotPredicted = NotPredicted("")
        for setup in self._choices:
            peak = rank_peak(self.config, setup, layout, stack)
            if isinstance(peak, NotPredicted):
                return peak
            found = RankFit(
                config=self.config,
                stack=stack,
                layout=layout,
                setup=setup,
                peak=peak,
                memory_bytes=self.memory_bytes,
                reserve_bytes=self.reserve_bytes,
                beyond_bytes=self.beyond_bytes,
            )
            if found.fits:
                break
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Enumerated:
    """What came of the layouts of one or more stacks.

    Attributes:
        fitting: those that fit, the best first: without recomputation before with it, then by bytes sent a token.
        closest: the one that comes nearest where none fits; None where none is predicted.
        tried: layouts that model and stack take. refused, not_predicted: the reasons for the others, each once.
    """

    fitting: Sequence[RankFit]
    closest: RankFit | None
    tried: int
    refused: Sequence[str]
    not_predicted: Sequence[str]


def enumerate_fits(question: Question, space: Space, stacks: Sequence[Stack]) -> Enumerated:
    """Every layout of the stacks, by whether it fits."""
    found: list[RankFit] = []
    refused: dict[str, None] = {}
    unknown: dict[str, None] = {}
    for stack in stacks:
        for layout in layouts(question.config.spec, question.setup, stack, space):
            try:
                fit = question.fit(layout, stack)
            except UsageError as error:
                refused[f"{stack}: {error}"] = None
                continue
            if isinstance(fit, NotPredicted):
                unknown[f"{stack}: {fit.reason}"] = None
            else:
                found.append(fit)
    fitting = sorted((fit for fit in found if fit.fits), key=lambda fit: _order(fit, stacks))
    return Enumerated(
        fitting=fitting,
        closest=min(found, key=lambda fit: fit.peak.peak_bytes, default=None),
        tried=len(found),
        refused=tuple(refused),
        not_predicted=tuple(unknown),
    )


def _order(fit: RankFit, stacks: Sequence[Stack]) -> tuple[bool, int, bool, float]:
    """What recomputes nothing comes first; then the stack named first, no pipeline, and the fewest bytes sent."""
    recomputes = fit.setup.checkpointing != "none"
    return recomputes, stacks.index(fit.stack), fit.layout.pp > 1, fit.bytes_per_token


def fewest_gpus(question: Question, space: Space, stacks: Sequence[Stack]) -> RankFit | None:
    """What fits on the fewest GPUs of those tried: whole nodes, in doublings and between the last two."""

    def first_of(num_gpus: int) -> RankFit | None:
        fitting = enumerate_fits(question, replace(space, num_gpus=num_gpus), stacks).fitting
        return fitting[0] if fitting else None

    low, found = space.num_gpus, None
    for num_gpus in _doublings(space):
        if (found := first_of(num_gpus)) is not None:
            break
        low = num_gpus
    if found is None:
        return None
    step = space.node_gpus
    high = found.layout.num_gpus
    while high - low > step:
        middle = (low + high) // 2 // step * step
        if middle <= low or middle >= high:
            break
        fit = first_of(middle)
        if fit is None:
            low = middle
        else:
            found, high = fit, middle
    return found


def _doublings(space: Space) -> Iterator[int]:
    nodes = -(-space.num_gpus // space.node_gpus)
    doubled = (nodes * 2**power * space.node_gpus for power in range(1, MOST_GROWTH + 1))
    return (num_gpus for num_gpus in doubled if num_gpus <= MOST_RANKS)
