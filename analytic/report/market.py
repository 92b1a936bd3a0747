"""The GPUs that were compared for a plan: the best first, those passed over, those not compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from analytic.planning.forward import Skipped
from analytic.planning.market import Market, Option
from analytic.report.document import Cell, Column, Item, Note, Table, fact
from analytic.report.units import percent


def market_items(market: Market) -> Iterator[Item]:
    """Every GPU that was compared, the best first, and those that were not."""
    columns = (
        Column("gpu", "GPU", is_left=True),
        Column("name", ""),
        Column("price_source", "price, from", is_left=True),
        Column("mfu", ""),
        Column("", "MFU, from", is_left=True),
        Column("usd_per_gpu_hour", "USD/h"),
        Column("dtype", ""),
        Column("peak_flops_per_s", "dense TFLOP/s"),
        Column("peak_source", ""),
        Column("", "MFU"),
        Column("flops_per_usd", "EFLOP per USD"),
    )
    yield Table("options", columns, [_option(option) for option in market.options])
    yield fact(
        "not_compared",
        [{"gpu": r.gpu.key, "name": r.gpu.name, "rejected": r.reason} for r in market.rejected],
    )
    for o in market.options:
        if o.mfu.brief != o.mfu.origin:
            yield Note(f"MFU of {o.gpu.key}: {o.mfu.origin}")
    if market.rejected:
        yield Note(f"not compared: {', '.join(f'{r.gpu.key} ({r.reason})' for r in market.rejected)}")


def _option(o: Option) -> list[Cell]:
    per_usd = o.flops_per_usd
    return [
        Cell(o.gpu.key, o.gpu.key),
        Cell(o.gpu.name, ""),
        Cell(*((None, "-") if o.price is None else (o.price.origin, o.price.origin))),
        Cell({"value": o.mfu.value, "source": o.mfu.origin}, ""),
        Cell(None, o.mfu.brief),
        Cell(*((None, "-") if o.price is None else (o.price.usd_per_gpu_hour, f"{o.price.usd_per_gpu_hour:.2f}"))),
        Cell(o.dtype, ""),
        Cell(o.gpu.peak(o.dtype), f"{o.gpu.peak(o.dtype) / 1e12:,.1f} {o.dtype}"),
        Cell(o.gpu.source, ""),
        Cell(None, percent(o.mfu.value)),
        Cell(*((None, "-") if per_usd is None else (float(per_usd), f"{float(per_usd) / 1e18:.4f}"))),
    ]


def skipped_items(skipped: Sequence[Skipped]) -> Iterator[Item]:
    """GPUs that give more for a dollar and cannot run the plan."""
    yield fact("skipped", [{"gpu": each.option.gpu.key, "reason": each.reason} for each in skipped])


def doubt(option: Option, *path: str) -> str:
    """A mark on a figure for which no datasheet was read."""
    return ", unverified" if ".".join(path) in option.gpu.unverified else ""
