"""What there is to spend: dollars or machine time, and data; compute -> tokens. Exact rational arithmetic throughout.

A figure typed as 0.45 means 45/100, not the nearest double: so that a plan and its reversal give
the same tokens, to the last one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, assert_never

from analytic.errors import UsageError
from analytic.hardware.prices import Price
from analytic.limits import MOST_GPUS, MOST_HOURS, MOST_USD
from analytic.scaling.laws import MANY_EPOCHS
from analytic.units import SECONDS_PER_HOUR, exact


@dataclass(frozen=True, slots=True, kw_only=True)
class DataLimit:
    """The unique tokens there are, and how often they may be seen; without a dataset there is no limit.

    Where only the dataset is given, it may be seen 16 times: beyond that repeated data did worse than any law says.

    Raises:
        UsageError: epochs without a dataset, or of less than one token.
    """

    dataset_tokens: int | None = None
    max_epochs: float | None = None

    def __post_init__(self) -> None:
        if self.max_epochs is not None and self.dataset_tokens is None:
            raise UsageError(f"max_epochs = {self.max_epochs:g}: expected dataset_tokens, too", key="max_epochs")
        if self.most_tokens == 0:
            least = f"1 / {self.dataset_tokens:,}, one token of the dataset"
            raise UsageError(f"max_epochs = {self.max_epochs:g}: expected at least {least}", key="max_epochs")

    @property
    def most_tokens(self) -> int | None:
        """Dataset times epochs, in whole tokens."""
        if self.dataset_tokens is None:
            return None
        return int(self.dataset_tokens * exact(MANY_EPOCHS if self.max_epochs is None else self.max_epochs))

    @property
    def unique(self) -> float:
        """Distinct tokens; infinite where no dataset was named."""
        return math.inf if self.dataset_tokens is None else self.dataset_tokens

    @property
    def most(self) -> float:
        """Dataset times epochs; infinite where no dataset was named."""
        return math.inf if self.most_tokens is None else self.most_tokens

    def clip(self, tokens: int) -> int:
        """`tokens`, or as many as there are."""
        return tokens if self.most_tokens is None else min(tokens, self.most_tokens)

    def epochs(self, tokens: int) -> float | None:
        """How often the dataset is seen; None where none was named."""
        return None if self.dataset_tokens is None else tokens / self.dataset_tokens


@dataclass(frozen=True, slots=True)
class Dollars:
    """Money for GPUs at their price.

    Raises:
        UsageError: an amount that no plan could have.
    """

    usd: float
    too_little: ClassVar[str] = "the budget does not pay for training on one token"

    def __post_init__(self) -> None:
        if not 0 < self.usd <= MOST_USD:
            raise UsageError(f"budget = {self.usd:g} USD: expected a number above 0 and at most {MOST_USD:g}")


@dataclass(frozen=True, slots=True)
class MachineTime:
    """Hours of a machine of so many GPUs.

    Raises:
        UsageError: GPUs or hours that no plan could have.
    """

    num_gpus: int
    hours: float
    too_little: ClassVar[str] = "the hours are too few to train on one token"

    def __post_init__(self) -> None:
        if not 1 <= self.num_gpus <= MOST_GPUS:
            raise UsageError(f"{self.num_gpus} GPUs: expected an integer from 1 to {MOST_GPUS}")
        if not 0 < self.hours <= MOST_HOURS:
            raise UsageError(f"{self.hours:g} hours: expected a number above 0 and at most {MOST_HOURS:g}")


Budget = Dollars | MachineTime


def gpu_hours_of(budget: Budget, price: Price | None) -> Fraction:
    """GPU-hours: dollars over the price of one, or GPUs x hours.

    Raises:
        UsageError: dollars for a GPU whose price is not known.
    """
    match budget:
        case Dollars(usd=usd):
            if price is None:
                raise UsageError("no price is known: a budget in dollars needs one")
            return exact(usd) / exact(price.usd_per_gpu_hour)
        case MachineTime(num_gpus=num_gpus, hours=hours):
            return num_gpus * exact(hours)
        case _:
            assert_never(budget)


def compute_from_hours(peak_flops_per_s: int, mfu: float, num_gpus: int, hours: float) -> Fraction:
    """Training FLOPs of a machine: dense peak x GPUs x MFU x hours x 3600."""
    return peak_flops_per_s * num_gpus * exact(mfu) * exact(hours) * SECONDS_PER_HOUR


def tokens_from_compute(compute_flops: Fraction, flops_per_token: int) -> int:
    """Tokens that the compute trains on, to the nearest one: D = C / f."""
    return round(compute_flops / flops_per_token)
