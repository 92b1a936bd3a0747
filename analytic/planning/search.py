"""The architecture to train on one kind of GPU, at the throughput that is known of it.

With an MFU that depends on the shape, the best architecture is no longer the one that a constant would
choose: the best few hundred by a constant are each given their own, and the best of these wins.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction

from analytic.errors import UsageError
from analytic.huggingface.config import ModelConfig
from analytic.model.spec import ModelSpec
from analytic.performance.measured_memory import MeasuredMemory
from analytic.performance.mfu import Mfu
from analytic.performance.throughput import Job, Timed, Unknown
from analytic.planning.architectures import Candidate, Family, build, candidates
from analytic.planning.losses import Objective, Outcome
from analytic.planning.market import Market, Option, compute_of, ranked
from analytic.planning.request import Request

MOST_CANDIDATES = 300
MOST_ROUNDS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a search found.

    Attributes:
        option: the GPU, at the MFU of this architecture. memory: what was measured of it, if anything.
        config: of the architecture.
    """

    option: Option
    outcome: Outcome
    spec: ModelSpec
    config: ModelConfig
    memory: MeasuredMemory | None = None


def offers(request: Request) -> tuple[Market, Found | None]:
    """The market with the MFU of each GPU for about the architecture that is trained, and what was found on the way.

    A GPU that was timed sets the size at which published throughput is looked up for the others.

    Raises:
        UsageError: no architecture near enough to what was timed.
    """
    timed = next((option for option in request.market.options if isinstance(option.throughput, Timed)), None)
    if timed is None:
        return request.market, None
    found = search(request, timed)
    options = []
    for option in request.market.options:
        mfu = option.throughput.mfu(_job(request, option, found.config))
        at_size = option if isinstance(mfu, Unknown) else replace(option, mfu=mfu)
        options.append(found.option if option is timed else at_size)
    return ranked(options, request.market.rejected), found


def search(request: Request, option: Option) -> Found:
    """The architecture to train on these GPUs.

    Raises:
        UsageError: a budget for less than one token, or no architecture near enough to what was timed.
    """
    if compute_of(request.budget, option) < 1:
        raise UsageError(request.budget.too_little)
    objective = request.search_goal(option)
    if objective.affordable(objective.front[-1], compute_of(request.budget, option)) < 1 and request.serving:
        raise UsageError(f"the budget does not pay for serving {request.serving.tokens:,} tokens and training on one")
    if isinstance(option.throughput, Timed):
        candidate, option = _ByShape(request, objective, option).best()
    else:
        candidate = objective.choose(compute_of(request.budget, option))
    outcome = objective.outcome(candidate, compute_of(request.budget, option))
    if outcome.tokens < 1:
        raise UsageError(request.budget.too_little)
    spec = spec_of(candidate, objective.family)
    config = ModelConfig.designed(spec, objective.family.seq_len)
    memory = None
    if isinstance(option.throughput, Timed):
        memory = option.throughput.memory(_job(request, option, config))
    return Found(option=option, outcome=outcome, spec=spec, config=config, memory=memory)


@dataclass(frozen=True)
class _ByShape:
    """Each architecture at its own MFU, which `known` keeps for every round."""

    request: Request
    objective: Objective
    option: Option
    known: dict[Candidate, Mfu | Unknown] = field(default_factory=dict)

    def best(self) -> tuple[Candidate, Option]:
        """Of those that are best at a constant MFU; then at the one that was found, until it leads to the same."""
        option, found = self.option, list[tuple[Candidate, Option]]()
        for _ in range(MOST_ROUNDS):
            found.append(self._best_near(option))
            if found[-1] in found[:-1]:
                break
            option = found[-1][1]
        return min(found, key=self._merit)

    def _best_near(self, option: Option) -> tuple[Candidate, Option]:
        """Of the best few hundred at a constant MFU."""
        compute = float(self._compute(option))
        merit = self.objective.merit
        fixed = self.objective.fixed
        among = candidates(self.objective.family) if fixed is None else iter([fixed])
        every = sorted(among, key=lambda c: merit(c, compute))[:MOST_CANDIDATES]
        mfus = [(candidate, self._mfu(candidate)) for candidate in every]
        found = [(c, replace(self.option, mfu=mfu)) for c, mfu in mfus if not isinstance(mfu, Unknown)]
        if not found:
            raise UsageError(next(mfu.reason for _, mfu in mfus if isinstance(mfu, Unknown)))
        return min(found, key=self._merit)

    def _merit(self, found: tuple[Candidate, Option]) -> tuple[float, float, int]:
        return self.objective.merit(found[0], float(self._compute(found[1])))

    def _compute(self, option: Option) -> Fraction:
        return compute_of(self.request.budget, option)

    def _mfu(self, candidate: Candidate) -> Mfu | Unknown:
        """Of one architecture, or why it is not known."""
        if candidate not in self.known:
            family = self.objective.family
            config = ModelConfig.designed(spec_of(candidate, family), family.seq_len)
            self.known[candidate] = self.option.throughput.mfu(_job(self.request, self.option, config))
        return self.known[candidate]


def spec_of(candidate: Candidate, family: Family) -> ModelSpec:
    return build(family, candidate.hidden_size, candidate.layer, candidate.depth)


def _job(request: Request, option: Option, config: ModelConfig) -> Job:
    """What one GPU trains. Where the number of GPUs is open, it does all of the optimizer's step, each micro-batch."""
    return Job(
        config=config,
        seq_len=request.family.seq_len,
        micro_batch=request.micro_batch,
        dtype=option.dtype,
        gpu=option.gpu,
        peak_flops_per_s=option.gpu.peak(option.dtype),
        optimizer_steps_shared_by=request.fixed_gpus or 1,
        convention=request.family.convention,
    )
