"""A request with the MFU of each GPU as it is known: measured or predicted by shape, published, or assumed.

With an MFU that depends on the shape, the best architecture is no longer the one that a constant would
choose: the best few hundred by a constant are each given their own, and the least loss wins.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import NamedTuple, cast, get_args

from analytic.errors import UsageError
from analytic.hardware.table import Hardware
from analytic.huggingface.config import ModelConfig
from analytic.model.params import parameter_counts
from analytic.model.spec import ModelSpec
from analytic.model.training import Precision
from analytic.performance.measured_memory import MeasuredMemory
from analytic.performance.mfu import Assumed, Measured, Mfu, Predicted
from analytic.performance.predict import Calibrated, Shape
from analytic.performance.published import load_published, nearest
from analytic.planning.architectures import TOLERANCE, Candidate, Family, Near, build, candidates, line, near
from analytic.planning.forward import Request, allocate, family_for, losses_of
from analytic.planning.market import Market, Option, compute_from_usd
from analytic.scaling.optimum import Allocation

MOST_CANDIDATES = 300
MOST_ROUNDS = 4


class _Found(NamedTuple):
    loss: float
    family: Family
    candidate: Candidate
    mfu: Measured | Predicted


def tuned(request: Request, calibrated: Calibrated, hardware: Hardware, micro_batch: int) -> Request:
    """The request with MFUs by GPU, and, should the calibrated GPU be the best, the architecture to take.

    Raises:
        UsageError: a GPU that is not compared or whose MFU was given as well, or no shape near enough to a timed one.
    """
    own = _own(request, calibrated, hardware)
    search = _Search(request, own, calibrated, micro_batch)
    found = search.best()
    active = parameter_counts(_spec(found.candidate, found.family)).active
    published = load_published(hardware)
    options = []
    for option in request.market.options:
        stands_in: Mfu = option.mfu
        if option is own:
            stands_in = found.mfu
        elif not _is_given(option) and (run := nearest(published, option.gpu, option.dtype, active)) is not None:
            stands_in = run.mfu(request.family.convention)
        options.append(replace(option, mfu=stands_in))
    options.sort(key=lambda option: option.flops_per_usd, reverse=True)
    market = Market(options=tuple(options), rejected=request.market.rejected)
    if market.best.gpu != own.gpu:
        return replace(request, market=market)
    memory = MeasuredMemory(calibrated.calibration, calibrated.stack(search.shape(found.candidate, found.family)))
    return replace(request, market=market, chosen=search.near(found), memory=memory, micro_batch=micro_batch)


def _is_given(option: Option) -> bool:
    return isinstance(option.mfu, Assumed) and option.mfu.by == "given"


def _own(request: Request, calibrated: Calibrated, hardware: Hardware) -> Option:
    """The option that was measured."""
    name, device = calibrated.calibration.name, calibrated.calibration.machine.device
    gpu = hardware.of_device(device)
    own = next((option for option in request.market.options if option.gpu == gpu), None)
    if own is None:
        compared = ", ".join(option.gpu.key for option in request.market.options)
        raise UsageError(f"{name} was measured on {device}: compared are {compared}")
    if _is_given(own):
        raise UsageError(f"{name} has the MFU of {own.gpu.key}, and --mfu gives one, too")
    return own


@dataclass(frozen=True)
class _Search:
    """For the architecture of the least loss on one GPU, each at its own MFU, which `known` keeps for every round."""

    request: Request
    option: Option
    calibrated: Calibrated
    micro_batch: int
    known: dict[tuple[Candidate, Family], Measured | Predicted | UsageError] = field(default_factory=dict)

    def best(self) -> _Found:
        """Of those that are best at a constant MFU; then at the one that was found, until it leads to the same."""
        option, found = self.option, list[_Found]()
        for _ in range(MOST_ROUNDS):
            found.append(self._best_near(option))
            if found[-1] in found[:-1]:
                break
            option = replace(option, mfu=found[-1].mfu)
        return min(found, key=lambda each: (each.loss, each.candidate.params))

    def near(self, found: _Found) -> Near:
        """The find as what a plan builds, and whether it is near the optimum of its MFU as a constant."""
        optimum = self._optimum(replace(self.option, mfu=found.mfu)).params
        is_within = abs(found.candidate.params - optimum) <= TOLERANCE * optimum
        return Near(family=found.family, candidates=[found.candidate], within_tolerance=is_within)

    def _optimum(self, option: Option) -> Allocation:
        request = self.request
        return allocate(request.law, self._compute(option), line(self._family), request.data)

    def _compute(self, option: Option) -> Fraction:
        return compute_from_usd(self.request.budget_usd, option)

    @property
    def _family(self) -> Family:
        return family_for(self.request.family, self.request.law)

    def _best_near(self, option: Option) -> _Found:
        """Of the best few hundred at a constant MFU."""
        law, data = self.request.law, self.request.data
        family = near(self._optimum(option).params, self._family).family
        every = list(candidates(family))
        losses = losses_of(every, law, self._compute(option), data)
        ranked = sorted(range(len(every)), key=losses.__getitem__)[:MOST_CANDIDATES]
        found, refused = list[_Found](), list[UsageError]()
        for i in ranked:
            mfu = self._mfu(every[i], family)
            if isinstance(mfu, UsageError):
                refused.append(mfu)
            else:
                found.append(self._own(every[i], family, mfu))
        if not found:
            raise refused[0]
        return min(found, key=lambda each: (each.loss, each.candidate.params))

    def _own(self, candidate: Candidate, family: Family, mfu: Measured | Predicted) -> _Found:
        """One architecture at its own MFU."""
        compute = self._compute(replace(self.option, mfu=mfu))
        (loss,) = losses_of([candidate], self.request.law, compute, self.request.data)
        return _Found(loss, family, candidate, mfu)

    def _mfu(self, candidate: Candidate, family: Family) -> Measured | Predicted | UsageError:
        """Of one architecture, or why it cannot be told."""
        key = (candidate, family)
        if key not in self.known:
            peak = self.option.gpu.peak(self.option.dtype)
            try:
                self.known[key] = self.calibrated.mfu(self.shape(candidate, family), peak, family.convention)
            except UsageError as error:
                self.known[key] = error
        return self.known[key]

    def shape(self, candidate: Candidate, family: Family) -> Shape:
        """What one GPU trains. Where no number is asked for, it does all of the optimizer's step, each micro-batch."""
        dtype = self.option.dtype
        if dtype not in get_args(Precision):
            raise UsageError(f"no calibration of {dtype}: expected one of {', '.join(get_args(Precision))}")
        config = ModelConfig.designed(_spec(candidate, family), family.seq_len)
        share = 1 / (self.request.num_gpus or 1)
        return Shape(config, family.seq_len, self.micro_batch, cast(Precision, dtype), share)


def _spec(candidate: Candidate, family: Family) -> ModelSpec:
    return build(family, candidate.hidden_size, candidate.layer, candidate.depth)
