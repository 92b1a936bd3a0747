"""Dollars, hours, GPUs and MFU -> compute; compute -> tokens. Exact rational arithmetic throughout.

A figure typed as 0.45 means 45/100, not the nearest double: so that a plan and its reversal give
the same tokens, to the last one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from analytic.errors import UsageError
from analytic.hardware.gpus import MOST_USD_PER_GPU_HOUR, Gpu, Hardware, Price
from analytic.performance.mfu import Mfu

LEAST_USD_PER_GPU_HOUR = 1e-6
MOST_USD = 1e15  # ten times what the world earns in a year
SECONDS_PER_HOUR = 3600
DEFAULT_DTYPE = "bf16"


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One GPU that a budget could rent."""

    gpu: Gpu
    dtype: str
    mfu: Mfu
    price: Price

    @property
    def effective_flops_per_s(self) -> Fraction:
        """Dense peak times MFU."""
        return self.gpu.peak(self.dtype) * exact(self.mfu.value)

    @property
    def flops_per_usd(self) -> Fraction:
        return self.effective_flops_per_s * SECONDS_PER_HOUR / exact(self.price.usd_per_gpu_hour)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A GPU that cannot be compared, and why."""

    gpu: Gpu
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """Every GPU asked about: those that can be compared, best first, and the others."""

    options: tuple[Option, ...]
    rejected: tuple[Rejected, ...]

    @property
    def best(self) -> Option:
        """The most effective FLOPs per dollar."""
        return self.options[0]


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
            raise UsageError(f"max_epochs = {self.max_epochs:g}: expected dataset_tokens, too")
        if self.most_tokens == 0:
            least = f"1 / {self.dataset_tokens:,}, one token of the dataset"
            raise UsageError(f"max_epochs = {self.max_epochs:g}: expected at least {least}")

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


def exact(value: float) -> Fraction:
    """The rational number that a figure was written as.

    >>> exact(0.45)
    Fraction(9, 20)
    """
    return Fraction(str(value))


def compare(
    hardware: Hardware,
    *,
    mfu: Mfu,
    mfu_by_gpu: Mapping[str, Mfu],
    price_by_gpu: Mapping[str, float | None],
    dtype: str = DEFAULT_DTYPE,
) -> Market:
    """Rank GPUs by effective FLOPs per dollar.

    Args:
        mfu: for every GPU that `mfu_by_gpu`, by key, does not name.
        price_by_gpu: the GPUs asked about, by key, with a price where one was given; empty: all.

    Raises:
        UsageError: a GPU asked about that has no price or lacks the dtype; or none is left.
    """
    options, rejected = [], []
    for key in price_by_gpu or hardware.gpus:
        gpu = hardware.gpus[key]
        given = price_by_gpu.get(key)
        price = hardware.prices.get(key) if given is None else given_price(given)
        if dtype not in gpu.peak_flops_per_s and not price_by_gpu:
            rejected.append(Rejected(gpu=gpu, reason=f"no {dtype}"))
        elif price is None and not price_by_gpu:
            rejected.append(Rejected(gpu=gpu, reason="no price known"))
        elif price is None:
            raise UsageError(f"no price is known for {key}: expected one, as in --gpu {key}=USD")
        else:
            gpu.peak(dtype)
            options.append(Option(gpu=gpu, dtype=dtype, mfu=mfu_by_gpu.get(key, mfu), price=price))
    if not options:
        raise UsageError(f"no GPU has both a price and a {dtype} peak")
    options.sort(key=lambda option: option.flops_per_usd, reverse=True)
    return Market(options=tuple(options), rejected=tuple(rejected))


def given_price(usd_per_gpu_hour: float) -> Price:
    """A price from the command line or a file.

    Raises:
        UsageError: no price that an hour of a GPU could have.
    """
    if not LEAST_USD_PER_GPU_HOUR <= usd_per_gpu_hour <= MOST_USD_PER_GPU_HOUR:
        raise UsageError(
            f"price = {usd_per_gpu_hour:g} USD per GPU-hour: expected a number from {LEAST_USD_PER_GPU_HOUR:g} to "
            f"{MOST_USD_PER_GPU_HOUR:g}"
        )
    return Price(usd_per_gpu_hour=usd_per_gpu_hour, vendor="given", date=None, source="given")


def compute_from_usd(budget_usd: float, option: Option) -> Fraction:
    """Training FLOPs that a budget buys: dollars / price x 3600 x dense peak x MFU."""
    return exact(budget_usd) * option.flops_per_usd


def gpu_hours_from_usd(budget_usd: float, price: Price) -> Fraction:
    return exact(budget_usd) / exact(price.usd_per_gpu_hour)


def compute_from_hours(peak_flops_per_s: int, mfu: float, num_gpus: int, hours: float) -> Fraction:
    """Training FLOPs of a machine: dense peak x GPUs x MFU x hours x 3600."""
    return peak_flops_per_s * num_gpus * exact(mfu) * exact(hours) * SECONDS_PER_HOUR


def tokens_from_compute(compute_flops: Fraction, flops_per_token: int) -> int:
    """Tokens that the compute trains on, to the nearest one: D = C / f."""
    return round(compute_flops / flops_per_token)
