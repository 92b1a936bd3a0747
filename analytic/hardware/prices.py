"""What an hour of a GPU costs, with vendor and date."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from analytic.errors import UsageError
from analytic.io.keys import Keys
from analytic.limits import LEAST_USD_PER_GPU_HOUR, MOST_USD_PER_GPU_HOUR

_PRICE_REQUIRED = ("usd_per_gpu_hour", "vendor", "source")


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What an hour of a GPU costs. `date` is None where the source is not an offer of a day."""

    usd_per_gpu_hour: float
    vendor: str
    date: date | None
    source: str

    @property
    def origin(self) -> str:
        """Vendor and date, for print."""
        return self.vendor if self.date is None else f"{self.vendor}, {self.date.isoformat()}"


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


def read_price(_: str, entry: Keys) -> Price:
    entry.require(_PRICE_REQUIRED, "price")
    entry.allow((*_PRICE_REQUIRED, "date"))
    day = entry.config.get("date")
    if day is not None and not isinstance(day, date):
        entry.reject("date", day, "a date such as 2025-03-03")
    return Price(
        usd_per_gpu_hour=entry.number("usd_per_gpu_hour", most=MOST_USD_PER_GPU_HOUR),
        vendor=entry.text("vendor"),
        date=day,
        source=entry.text("source"),
    )
