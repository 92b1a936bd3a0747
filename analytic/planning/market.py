"""The GPUs that a budget could rent, ranked by effective FLOPs per dollar."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from analytic.errors import UsageError
from analytic.hardware.gpus import Gpu
from analytic.hardware.prices import Price, given_price
from analytic.hardware.table import Hardware
from analytic.performance.mfu import Mfu
from analytic.units import SECONDS_PER_HOUR, exact

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


def compute_from_usd(budget_usd: float, option: Option) -> Fraction:
    """Training FLOPs that a budget buys: dollars / price x 3600 x dense peak x MFU."""
    return exact(budget_usd) * option.flops_per_usd
