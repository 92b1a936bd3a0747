"""The question that a plan answers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from analytic.errors import UsageError
from analytic.planning.architectures import Family
from analytic.planning.budget import Budget, DataLimit, MachineTime
from analytic.planning.laws import allocated
from analytic.planning.losses import Objective, objective, of_size
from analytic.planning.market import Market, Option, compute_of
from analytic.planning.serving import Serving, served_per_flop
from analytic.scaling.laws import AllocationLaw, ScalingLaw


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a plan is asked for.

    Attributes:
        num_gpus, days: at most one, and neither with a machine, which fixes its GPUs.
        allocation: a law that decides the size in the place of `law`, which then says the loss alone.
        params: of all that the model has, where its size was asked for.
        serving: what the budget pays for next to training.
        assumed: the defaults that nobody chose. micro_batch: sequences that a GPU takes at a time.

    Raises:
        UsageError: figures that contradict each other.
    """

    budget: Budget
    market: Market
    law: ScalingLaw
    family: Family
    data: DataLimit = field(default_factory=DataLimit)
    allocation: AllocationLaw | None = None
    num_gpus: int | None = None
    days: float | None = None
    params: int | None = None
    serving: Serving | None = None
    assumed: tuple[str, ...] = ()
    micro_batch: int = 1

    def __post_init__(self) -> None:
        if self.num_gpus is not None and self.days is not None:
            raise UsageError("a number of GPUs and a number of days: the budget fixes one by the other")
        if self.allocation is not None and (self.params is not None or self.serving is not None):
            name = self.allocation.name
            raise UsageError(f"{name} gives N and D without a loss: expected another law for a size or for serving")
        if isinstance(self.budget, MachineTime):
            if self.num_gpus is not None or self.days is not None:
                raise UsageError("a machine has its GPUs and its hours: expected neither a number of GPUs nor days")
            if self.serving is not None:
                raise UsageError("a machine's time pays for training alone: expected a budget in dollars for serving")
            if len(self.market.options) != 1:
                raise UsageError("a machine has GPUs of one kind: expected one")

    @property
    def fixed_gpus(self) -> int | None:
        """The GPUs of the machine, or as many as were asked for; None where the number is open or follows from days."""
        return self.budget.num_gpus if isinstance(self.budget, MachineTime) else self.num_gpus

    def goal(self, option: Option, law: ScalingLaw | None = None) -> Objective:
        """What the budget is to reach on these GPUs, by the law asked for or by another."""
        served = served_per_flop(self.serving, self.budget, option)
        return objective(law or self.law, self.family, self.data, served)

    def search_goal(self, option: Option) -> Objective:
        """The same with the size that was asked for, or that a law without a loss finds best, if there is one."""
        goal = self.goal(option)
        if self.allocation is not None:
            return replace(goal, fixed=allocated(self.allocation, goal, compute_of(self.budget, option)))
        return goal if self.params is None else of_size(goal, self.params)
