"""Dollars, hours, GPUs and MFU -> compute; compute -> tokens. Exact rational arithmetic throughout.

A figure typed as 0.45 means 45/100, not the nearest double: so that a plan and its reversal give
the same tokens, to the last one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from analytic.errors import UsageError
from analytic.hardware.prices import Price
from analytic.units import SECONDS_PER_HOUR, exact


@dataclass(frozen=True, slots=True, kw_only=True)
class DataLimit:
    """The unique tokens there are, and how often they may be seen; None is unlimited.

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
        if self.dataset_tokens is None or self.max_epochs is None:
            return None
        return int(self.dataset_tokens * exact(self.max_epochs))

    @property
    def unique(self) -> float:
        """Distinct tokens; infinite where no dataset was named."""
        return math.inf if self.dataset_tokens is None else self.dataset_tokens

    @property
    def most(self) -> float:
        """Dataset times epochs; infinite where either is open."""
        return math.inf if self.most_tokens is None else self.most_tokens

    def clip(self, tokens: int) -> int:
        """`tokens`, or as many as there are."""
        return tokens if self.most_tokens is None else min(tokens, self.most_tokens)

    def epochs(self, tokens: int) -> float | None:
        """How often the dataset is seen; None where none was named."""
        return None if self.dataset_tokens is None else tokens / self.dataset_tokens


def gpu_hours_from_usd(budget_usd: float, price: Price) -> Fraction:
    return exact(budget_usd) / exact(price.usd_per_gpu_hour)


def compute_from_hours(peak_flops_per_s: int, mfu: float, num_gpus: int, hours: float) -> Fraction:
    """Training FLOPs of a machine: dense peak x GPUs x MFU x hours x 3600."""
    return peak_flops_per_s * num_gpus * exact(mfu) * exact(hours) * SECONDS_PER_HOUR


def tokens_from_compute(compute_flops: Fraction, flops_per_token: int) -> int:
    """Tokens that the compute trains on, to the nearest one: D = C / f."""
    return round(compute_flops / flops_per_token)
