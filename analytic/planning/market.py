"""The GPUs that a budget could rent, ranked by effective FLOPs per dollar."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

from analytic.errors import UsageError
from analytic.hardware.gpus import Gpu
from analytic.hardware.prices import Price, given_price
from analytic.hardware.table import Hardware
from analytic.performance.mfu import Assumed, Mfu
from analytic.performance.predict import Calibrated
from analytic.performance.published import load_published
from analytic.performance.throughput import Flat, Stated, Throughput, Timed
from analytic.planning.budget import Budget, gpu_hours_of
from analytic.units import SECONDS_PER_HOUR, exact

DEFAULT_DTYPE = "bf16"


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One GPU that a budget could rent.

    Attributes:
        mfu: what it is ranked by; where `throughput` depends on the architecture, that of the plan's own once known.
        price: None where none is known, which a budget in machine time can do without.
    """

    gpu: Gpu
    dtype: str
    mfu: Mfu
    price: Price | None
    throughput: Throughput

    @property
    def effective_flops_per_s(self) -> Fraction:
        """Dense peak times MFU."""
        return self.gpu.peak(self.dtype) * exact(self.mfu.value)

    @property
    def flops_per_usd(self) -> Fraction | None:
        """None where no price is known."""
        if self.price is None:
            return None
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
            options.append(flat_option(gpu, dtype, mfu_by_gpu.get(key, mfu), price))
    if not options:
        raise UsageError(f"no GPU has both a price and a {dtype} peak")
    return ranked(options, rejected)


def flat_option(gpu: Gpu, dtype: str, mfu: Mfu, price: Price | None) -> Option:
    """A GPU whose MFU is the same for every architecture."""
    return Option(gpu=gpu, dtype=dtype, mfu=mfu, price=price, throughput=Flat(mfu))


def single(gpu: Gpu, dtype: str, mfu: Mfu, price: Price | None) -> Market:
    """The market of a machine that is there already.

    Raises:
        UsageError: a dtype that the GPU lacks.
    """
    gpu.peak(dtype)
    return Market(options=(flat_option(gpu, dtype, mfu, price),), rejected=())


def ranked(options: Iterable[Option], rejected: Iterable[Rejected]) -> Market:
    """The most FLOPs per dollar first; a GPU without a price last."""
    by_usd = sorted(options, key=lambda option: option.flops_per_usd or 0, reverse=True)
    return Market(options=tuple(by_usd), rejected=tuple(rejected))


def with_calibration(market: Market, calibrated: Calibrated, hardware: Hardware) -> Market:
    """The market with MFUs that depend on the architecture: of the calibrated GPU as timed, of others as published.

    An MFU that was given stays.

    Raises:
        UsageError: the calibrated GPU is not compared, or its MFU was given, too.
    """
    name, device = calibrated.calibration.name, calibrated.calibration.machine.device
    gpu = hardware.of_device(device)
    own = next((option for option in market.options if option.gpu == gpu), None)
    if own is None:
        compared = ", ".join(option.gpu.key for option in market.options)
        raise UsageError(f"{name} was measured on {device}: compared are {compared}")
    if _is_given(own):
        raise UsageError(f"{name} has the MFU of {own.gpu.key}, and --mfu gives one, too")
    stated = Stated(load_published(hardware))
    options = []
    for option in market.options:
        throughput = Timed(calibrated) if option is own else option.throughput if _is_given(option) else stated
        options.append(replace(option, throughput=throughput))
    return Market(options=tuple(options), rejected=market.rejected)


def _is_given(option: Option) -> bool:
    return isinstance(option.mfu, Assumed) and option.mfu.by == "given"


def compute_of(budget: Budget, option: Option) -> Fraction:
    """Training FLOPs that a budget buys: GPU-hours x 3600 x dense peak x MFU."""
    return gpu_hours_of(budget, option.price) * SECONDS_PER_HOUR * option.effective_flops_per_s
