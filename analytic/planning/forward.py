"""Forward: a budget or a machine -> the GPU, the compute-optimal architecture, its tokens and its loss."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from typing import assert_never

from analytic.errors import UsageError
from analytic.limits import MOST_GPUS
from analytic.memory.implementation import NotPredicted
from analytic.model.flops import training_flops
from analytic.model.params import ParameterCounts, parameter_counts
from analytic.model.spec import ModelSpec
from analytic.planning.architectures import Family, count_params
from analytic.planning.assumptions import BAND_NATS, LAW_MEASURE, TOLERANCE, WORSE
from analytic.planning.budget import Dollars, gpu_hours_of
from analytic.planning.guards import (
    cannot_run,
    data_warning,
    interval_warnings,
    lacks_link,
    law_warnings,
    link_warnings,
    machine_warnings,
    placement_warnings,
    price_warnings,
    size_warnings,
)
from analytic.planning.intervals import PlanIntervals, plan_intervals
from analytic.planning.laws import allocated
from analytic.planning.losses import Objective, Outcome
from analytic.planning.market import Market, Option, compute_of, flat_option
from analytic.planning.placement import Placement, place
from analytic.planning.request import Request
from analytic.planning.search import Found, offers, search
from analytic.planning.sizes import Served, Size, curve, served
from analytic.scaling.laws import AllocationLaw, OutOfRange, ScalingLaw
from analytic.scaling.optimum import SIX_N, Allocation
from analytic.units import exact


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Machine time and what it costs.

    Attributes:
        gpu_hours, usd, energy_kwh: as used; energy is that of the boards at their TDP.
            Dollars need a known price, energy a known TDP.
        num_gpus, days: None where the request fixed neither.
    """

    gpu_hours: Fraction
    usd: Fraction | None
    energy_kwh: Fraction | None
    num_gpus: int | None
    days: Fraction | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """How the answer moves.

    Attributes:
        laws: the smooth optimum of the same compute under every law.
        allocations: the architecture that laws without a loss find best.
        lower_mfu, higher_price: the smooth optimum with 10% less MFU or a 10% higher price; a machine that is there
            already has no price to move.
        best_of_family: the least loss of all its architectures, however far from the optimum's N.
        band: the least and the most N of architectures within 0.005 nats of the optimum, if any.
    """

    laws: tuple[tuple[ScalingLaw, Allocation], ...]
    allocations: tuple[tuple[AllocationLaw, Outcome], ...]
    lower_mfu: Allocation
    higher_price: Allocation | None
    best_of_family: Outcome
    band: tuple[int, int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A GPU that gives more FLOPs for a dollar than the plan's, and cannot run the plan that it would be, or hardly."""

    option: Option
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A budget spent.

    Attributes:
        market: the GPUs as ranked, each at its MFU for about this architecture. skipped: those passed over.
        found: the GPU and the architecture, as searched for.
        compute_flops: what the whole budget buys on that GPU.
        six_nd: the optimum if training cost 6 N D, for comparison.
        optimum: of C = f(N) D with the family's exact training FLOPs, smooth in N, at the found MFU as a constant.
        params: of the architecture, by every convention; the law sees `outcome.candidate.params`.
        epochs: over the dataset named, else None. dataset_limited: the data ran out before the budget.
        unspent_gpu_hours: what is left of the budget then.
        rest_of_budget: what the whole budget would come to, where the plan leaves some of it for less than 0.005
            nats, or for parameters that the data are too few for.
        sizes: what the budget comes to at other N. served: what it pays for next to training, if anything.
        intervals: of N, D and loss; None where the law states no error.
        warnings: what must not be overlooked, one line each.
    """

    request: Request
    market: Market
    skipped: tuple[Skipped, ...]
    found: Found
    family: Family
    compute_flops: Fraction
    six_nd: Allocation
    optimum: Allocation
    params: ParameterCounts
    schedule: Schedule
    epochs: float | None
    dataset_limited: bool
    unspent_gpu_hours: Fraction
    sensitivity: Sensitivity
    extrapolations: tuple[OutOfRange, ...]
    placement: Placement | NotPredicted
    rest_of_budget: Outcome | None
    intervals: PlanIntervals | None
    sizes: tuple[Size, ...]
    served: Served | None
    warnings: tuple[str, ...]

    @property
    def option(self) -> Option:
        return self.found.option

    @property
    def outcome(self) -> Outcome:
        return self.found.outcome

    @property
    def spec(self) -> ModelSpec:
        return self.found.spec

    @property
    def within_tolerance(self) -> bool:
        """Whether N is within 1% of the optimum."""
        return abs(self.outcome.candidate.params - self.optimum.params) <= TOLERANCE * self.optimum.params

    @property
    def unspent_usd(self) -> Fraction | None:
        """None where no price is known."""
        price = self.option.price
        return None if price is None else self.unspent_gpu_hours * exact(price.usd_per_gpu_hour)

    @property
    def used_flops(self) -> int:
        return self.outcome.tokens * self.outcome.candidate.flops_per_token

    @property
    def losses(self) -> Mapping[str, float]:
        """What each law says of this N and D, counted as that law counts them."""
        tokens, unique = self.outcome.tokens, self.request.data.unique
        return {
            law.name: law.loss(count_params(self.params, LAW_MEASURE[law.n_means]), tokens, unique)
            for law, _ in self.sensitivity.laws
        }

    @property
    def six_nd_flops(self) -> int:
        """6 N D with the active parameters: what the rule of thumb would say of this run."""
        return 6 * self.params.active * self.outcome.tokens


def make_plan(
    request: Request,
    laws: Iterable[ScalingLaw | AllocationLaw],
    *,
    today: date | None = None,
    is_rehearsal: bool = False,
) -> Plan:
    """Spend a budget on the GPU of the market that gives the most for a dollar, of those that can run the plan.

    Where none can, the plan is for the first, and a warning says what is wrong with it.

    Args:
        laws: those to show the spread of.
        today: what the age of a price is judged by; None judges none.
        is_rehearsal: for the speed of its step, so that its loss may be beyond what guessing gives.

    Raises:
        UsageError: a budget that does not pay for one token, days too few for it, or a loss that no law predicts.
    """
    market, timed = offers(request)
    tried = []
    for option in market.options:
        found = timed if timed is not None and option is timed.option else search(request, _flat(option))
        tried.append(_placed(request, found))
        if tried[-1].reason is None:
            break
    chosen = tried[-1] if tried[-1].reason is None else tried[0]
    passed_over = ((each.found.option, each.reason) for each in tried if each is not chosen)
    skipped = [Skipped(option=option, reason=reason) for option, reason in passed_over if reason is not None]
    loss, chance = chosen.found.outcome.loss, math.log(request.family.vocab_size)
    if loss > chance and not is_rehearsal:
        guessing = f"guessing among {request.family.vocab_size} tokens gives {chance:.2f}"
        raise UsageError(f"loss = {loss:.2f} nats by {request.law.name}, and {guessing}: expected a larger budget")
    return _plan(request, market, tuple(skipped), chosen, tuple(laws), today)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tried:
    """What was found for a GPU, on how many of them; `reason` says why another is to be tried, if one is."""

    found: Found
    schedule: Schedule
    placement: Placement | NotPredicted
    reason: str | None


def _placed(request: Request, found: Found) -> _Tried:
    option, outcome, seq_len = found.option, found.outcome, request.family.seq_len
    used = outcome.tokens * outcome.candidate.flops_per_token / compute_of(request.budget, option)
    schedule = _schedule(request, option, used)
    placement = place(
        found.config,
        seq_len=seq_len,
        dtype=option.dtype,
        memory_bytes=option.gpu.memory_bytes,
        num_gpus=schedule.num_gpus,
        node_gpus=option.gpu.link_gpus,
        micro_batch=request.micro_batch,
        most_sequences=max(1, outcome.tokens // seq_len),
        memory=found.memory,
    )
    reason = cannot_run(placement, outcome.tokens, seq_len) or lacks_link(option.gpu, option.mfu, placement)
    return _Tried(found=found, schedule=schedule, placement=placement, reason=reason)


def _plan(
    request: Request,
    market: Market,
    skipped: tuple[Skipped, ...],
    chosen: _Tried,
    laws: tuple[ScalingLaw | AllocationLaw, ...],
    today: date | None,
) -> Plan:
    found, data = chosen.found, request.data
    law = request.allocation or request.law
    outcome, option = found.outcome, found.option
    goal = request.search_goal(option)
    candidate, tokens = outcome.candidate, outcome.tokens
    flops = training_flops(found.spec, seq_len=goal.family.seq_len, convention=goal.family.convention)
    assert flops.training_per_token == candidate.flops_per_token  # arithmetic over depths is the formula itself
    compute, used = compute_of(request.budget, option), tokens * candidate.flops_per_token
    is_limited = tokens < goal.affordable(candidate, compute)
    sensitivity = _sensitivity(request, goal, laws, option)
    whole = sensitivity.best_of_family
    extrapolations = law.outside(candidate.params, tokens, float(used))
    spent = used / compute + goal.served_per_flop * candidate.flops_per_token
    unspent = gpu_hours_of(request.budget, option.price) * (1 - spent) if is_limited else Fraction(0)
    params, optimum, serving = parameter_counts(found.spec), goal.optimum(compute), request.serving
    is_law_free = not is_limited and tokens <= data.unique and goal.fixed is None and serving is None
    intervals = plan_intervals(goal, outcome, params.total, compute, is_law_free=is_law_free)
    warnings = [
        *(() if intervals is None else interval_warnings(law, intervals)),
        *size_warnings(request.params, params.total),
        *law_warnings(law, candidate.params, tokens, data.epochs(tokens), extrapolations),
        *machine_warnings(option.price, option.mfu, option.dtype, today),
        *price_warnings(None if serving is None else serving.price, "the price of serving", today),
        *link_warnings(option.gpu, option.mfu, chosen.placement),
        *placement_warnings(chosen.placement, tokens, goal.family.seq_len),
    ]
    if is_limited:
        warnings.insert(0, data_warning(outcome, whole))
    return Plan(
        request=request,
        market=market,
        skipped=skipped,
        found=found,
        family=goal.family,
        compute_flops=compute,
        six_nd=goal.optimum(compute, SIX_N),
        optimum=optimum,
        params=params,
        schedule=chosen.schedule,
        epochs=data.epochs(tokens),
        dataset_limited=is_limited,
        unspent_gpu_hours=unspent,
        sensitivity=sensitivity,
        extrapolations=extrapolations,
        placement=chosen.placement,
        rest_of_budget=whole if is_limited else None,
        intervals=intervals,
        sizes=curve(goal, optimum.params, compute),
        served=None if serving is None else served(goal, serving, option, candidate.flops_per_token, optimum, compute),
        warnings=tuple(warnings),
    )


def _flat(option: Option) -> Option:
    """At the MFU that it is ranked by, as a constant."""
    return flat_option(option.gpu, option.dtype, option.mfu, option.price)


def _sensitivity(
    request: Request, goal: Objective, laws: Iterable[ScalingLaw | AllocationLaw], option: Option
) -> Sensitivity:
    compute = compute_of(request.budget, option)
    optimum = goal.optimum(compute)
    near = [c.params for c in goal.front if abs(goal.loss(c, float(compute)) - optimum.loss) <= BAND_NATS]
    with_loss, without = list[tuple[ScalingLaw, Allocation]](), list[tuple[AllocationLaw, Outcome]]()
    for law in laws:
        match law:
            case ScalingLaw():
                with_loss.append((law, request.goal(option, law).optimum(compute)))
            case AllocationLaw():
                without.append((law, goal.outcome(allocated(law, goal, compute), compute)))
            case _:
                assert_never(law)
    return Sensitivity(
        laws=tuple(with_loss),
        allocations=tuple(without),
        lower_mfu=goal.optimum(compute * (1 - WORSE)),
        higher_price=goal.optimum(compute / (1 + WORSE)) if isinstance(request.budget, Dollars) else None,
        best_of_family=goal.outcome(goal.best(compute), compute),
        band=(min(near), max(near)) if near else None,
    )


def _schedule(request: Request, option: Option, used: Fraction) -> Schedule:
    """Machine time for the part of the budget that is used."""
    gpu_hours = gpu_hours_of(request.budget, option.price) * used
    num_gpus, days = request.fixed_gpus, None
    if request.days is not None:
        num_gpus = math.ceil(gpu_hours / 24 / exact(request.days))
        if num_gpus > MOST_GPUS:
            raise UsageError(f"days = {request.days:g}: expected no fewer than {MOST_GPUS:,} GPUs take")
    if num_gpus is not None:
        days = gpu_hours / 24 / num_gpus
    watts = option.gpu.tdp_watts
    return Schedule(
        gpu_hours=gpu_hours,
        usd=None if option.price is None else gpu_hours * exact(option.price.usd_per_gpu_hour),
        energy_kwh=None if watts is None else gpu_hours * watts / 1000,
        num_gpus=num_gpus,
        days=days,
    )
