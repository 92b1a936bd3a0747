"""Forward: a budget -> the GPU, the compute-optimal architecture, its tokens and its loss."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

from analytic.errors import UsageError
from analytic.huggingface.config import ModelConfig
from analytic.limits import MOST_GPUS, MOST_USD
from analytic.memory.implementation import NotPredicted
from analytic.model.flops import training_flops
from analytic.model.params import ParameterCounts, parameter_counts
from analytic.model.spec import ModelSpec
from analytic.performance.measured_memory import MeasuredMemory
from analytic.planning.architectures import Candidate, Family, Near, ParamsMeasure, build, frontier, line, near
from analytic.planning.budget import DataLimit, gpu_hours_from_usd, tokens_from_compute
from analytic.planning.market import Market, Option, compute_from_usd
from analytic.planning.placement import Placement, place
from analytic.scaling.laws import OutOfRange, ParamsConvention, ScalingLaw
from analytic.scaling.optimum import SIX_N, Allocation, Cost, optimum
from analytic.units import exact

DEFAULT_LAW = "besiroglu"
DEFAULT_MFU = 0.4  # assumed, where nobody says anything else
BAND_NATS = 0.005
WORSE = Fraction(1, 10)  # what MFU and price are moved by, to show what the answer hangs on
NO_TOKEN = "the budget does not pay for training on one token"
MOE_APPROXIMATION = (
    "a dense law at the active parameters: an MoE does better (arXiv:2202.01169), so the loss is an overestimate"
)

# What a family counts for a law: an MoE stands at the active parameters, in laws of dense models.
LAW_MEASURE: dict[ParamsConvention, ParamsMeasure] = {"total": "active", "non_embedding": "non_embedding"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a plan is asked for. At most one of `num_gpus` and `days`; `assumed` names what nobody chose.

    `chosen` is the architecture to take, where its MFU was part of choosing it; `memory` what was then
    measured of the GPU, and `micro_batch` the sequences that it takes at a time.

    Raises:
        UsageError: a figure that no plan could have.
    """

    budget_usd: float
    market: Market
    law: ScalingLaw
    family: Family
    data: DataLimit = field(default_factory=DataLimit)
    num_gpus: int | None = None
    days: float | None = None
    assumed: tuple[str, ...] = ()
    chosen: Near | None = None
    memory: MeasuredMemory | None = None
    micro_batch: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.budget_usd <= MOST_USD:
            raise UsageError(f"budget = {self.budget_usd:g} USD: expected a number above 0 and at most {MOST_USD:g}")
        if self.num_gpus is not None and self.days is not None:
            raise UsageError("a number of GPUs and a number of days: the budget fixes one by the other")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One architecture, trained for as long as compute and data allow."""

    candidate: Candidate
    tokens: int
    loss: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Machine time and what it costs.

    Attributes:
        gpu_hours, usd, energy_kwh: as used; energy is that of the boards at their TDP.
        num_gpus, days: None where the request fixed neither.
    """

    gpu_hours: Fraction
    usd: Fraction
    energy_kwh: Fraction
    num_gpus: int | None
    days: Fraction | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """What the answer hangs on.

    Attributes:
        laws: the smooth optimum of the same compute under every law.
        lower_mfu, higher_price: the smooth optimum with 10% less MFU or a 10% higher price.
        best_of_family: the least loss of all its architectures, however far from the optimum's N.
        band: the least and the most N of architectures within 0.005 nats of the optimum, if any.
    """

    laws: tuple[tuple[ScalingLaw, Allocation], ...]
    lower_mfu: Allocation
    higher_price: Allocation
    best_of_family: Outcome
    band: tuple[int, int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A budget spent.

    Attributes:
        six_nd: the optimum if training cost 6 N D, for comparison.
        optimum: of C = f(N) D with the family's exact training FLOPs, smooth in N.
        outcome: the architecture within 1% of that N that has the least loss; `family` is what it is of.
        within_tolerance: whether one was that near; if not, it is the nearest there is.
        params: of the architecture, by every convention; the law sees `outcome.candidate.params`.
        epochs: over the dataset named, else None. dataset_limited: the data ran out before the money.
    """

    request: Request
    option: Option
    compute_flops: Fraction
    six_nd: Allocation
    optimum: Allocation
    family: Family
    outcome: Outcome
    within_tolerance: bool
    spec: ModelSpec
    params: ParameterCounts
    schedule: Schedule
    epochs: float | None
    dataset_limited: bool
    sensitivity: Sensitivity
    extrapolations: tuple[OutOfRange, ...]
    placement: Placement | NotPredicted

    @property
    def used_flops(self) -> int:
        return self.outcome.tokens * self.outcome.candidate.flops_per_token

    @property
    def six_nd_flops(self) -> int:
        """6 N D with the active parameters: what the rule of thumb would say of this run."""
        return 6 * self.params.active * self.outcome.tokens


def make_plan(request: Request, laws: Iterable[ScalingLaw]) -> Plan:
    """Spend a budget on the best GPU of the market.

    Args:
        laws: those to show the spread of.

    Raises:
        UsageError: a budget that does not pay for one token, or days too few for it.
    """
    option, law, data = request.market.best, request.law, request.data
    compute = compute_from_usd(request.budget_usd, option)
    if compute < 1:
        raise UsageError(NO_TOKEN)
    family = family_for(request.family, law)
    best = allocate(law, compute, line(family), data)
    found = request.chosen or near(best.params, family)
    outcome = best_of(found.candidates, law, compute, data)
    chosen = outcome.candidate
    spec = build(found.family, chosen.hidden_size, chosen.layer, chosen.depth)
    flops_per_token = training_flops(spec, seq_len=family.seq_len, convention=family.convention).training_per_token
    assert flops_per_token == chosen.flops_per_token  # arithmetic over depths is the formula itself
    used = outcome.tokens * flops_per_token
    schedule = _schedule(request, option, used / compute)
    return Plan(
        request=request,
        option=option,
        compute_flops=compute,
        six_nd=allocate(law, compute, SIX_N, data),
        optimum=best,
        family=found.family,
        outcome=outcome,
        within_tolerance=found.within_tolerance,
        spec=spec,
        params=parameter_counts(spec),
        schedule=schedule,
        epochs=data.epochs(outcome.tokens),
        dataset_limited=outcome.tokens < tokens_from_compute(compute, flops_per_token),
        sensitivity=_sensitivity(request, laws, compute, best),
        extrapolations=law.outside(chosen.params, outcome.tokens, float(used)),
        placement=_place(request, spec, option, schedule.num_gpus),
    )


def family_for(family: Family, law: ScalingLaw) -> Family:
    """The same architectures, counted as the law counts."""
    return replace(family, params=LAW_MEASURE[law.n_means])


def best_of(of: Sequence[Candidate], law: ScalingLaw, compute_flops: Fraction, data: DataLimit) -> Outcome:
    """The least loss that the compute buys; of equals, the smallest model.

    Raises:
        UsageError: compute for less than one token.
    """
    losses = [(loss, c.params, c) for c, loss in zip(of, losses_of(of, law, compute_flops, data), strict=True)]
    candidate = min(losses, key=lambda each: each[:2])[2]
    tokens = data.clip(tokens_from_compute(compute_flops, candidate.flops_per_token))
    if tokens < 1:
        raise UsageError(NO_TOKEN)
    return Outcome(candidate=candidate, tokens=tokens, loss=law.loss(candidate.params, tokens, data.unique))


def losses_of(of: Sequence[Candidate], law: ScalingLaw, compute_flops: Fraction, data: DataLimit) -> list[float]:
    """The loss of each architecture, trained for as long as compute and data allow."""
    compute, unique, most = float(compute_flops), data.unique, data.most
    return [law.loss(c.params, min(compute / c.flops_per_token, most), unique) for c in of]


def allocate(law: ScalingLaw, compute_flops: Fraction, cost: Cost, data: DataLimit) -> Allocation:
    """The smooth optimum, within the data."""
    return optimum(law, float(compute_flops), cost, data.unique, data.most)


def _sensitivity(
    request: Request, laws: Iterable[ScalingLaw], compute_flops: Fraction, best: Allocation
) -> Sensitivity:
    law, data = request.law, request.data
    family = family_for(request.family, law)
    own, front = line(family), frontier(family)
    losses = losses_of(front, law, compute_flops, data)
    near_optimum = [c.params for c, loss in zip(front, losses, strict=True) if loss <= best.loss + BAND_NATS]
    return Sensitivity(
        laws=tuple(
            (each, allocate(each, compute_flops, line(family_for(request.family, each)), data)) for each in laws
        ),
        lower_mfu=allocate(law, compute_flops * (1 - WORSE), own, data),
        higher_price=allocate(law, compute_flops / (1 + WORSE), own, data),
        best_of_family=best_of(front, law, compute_flops, data),
        band=(min(near_optimum), max(near_optimum)) if near_optimum else None,
    )


def _place(request: Request, spec: ModelSpec, option: Option, num_gpus: int | None) -> Placement | NotPredicted:
    """The designed model as `transformers` would build it from its config."""
    seq_len = request.family.seq_len
    return place(
        ModelConfig.designed(spec, seq_len),
        seq_len=seq_len,
        dtype=option.dtype,
        memory_bytes=option.gpu.memory_bytes,
        num_gpus=num_gpus,
        micro_batch=request.micro_batch,
        memory=request.memory,
    )


def _schedule(request: Request, option: Option, used: Fraction) -> Schedule:
    """Machine time for the part of the budget that is used."""
    gpu_hours = gpu_hours_from_usd(request.budget_usd, option.price) * used
    num_gpus, days = request.num_gpus, None
    if request.days is not None:
        num_gpus = math.ceil(gpu_hours / 24 / exact(request.days))
        if num_gpus > MOST_GPUS:
            raise UsageError(f"days = {request.days:g}: expected no fewer than {MOST_GPUS:,} GPUs take")
    if num_gpus is not None:
        days = gpu_hours / 24 / num_gpus
    return Schedule(
        gpu_hours=gpu_hours,
        usd=gpu_hours * exact(option.price.usd_per_gpu_hour),
        energy_kwh=gpu_hours * option.gpu.tdp_watts / 1000,
        num_gpus=num_gpus,
        days=days,
    )
