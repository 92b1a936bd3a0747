"""What `time` and `compare` say: days, dollars, energy, and the MFU that they rest on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from analytic.memory.implementation import NotPredicted
from analytic.planning.guards import link_warnings
from analytic.planning.timing import Timing
from analytic.report.document import Cell, Column, Document, Figure, Item, Json, Line, Section, Table, fact
from analytic.report.many_gpus import communication_table, layout_json, memory_items
from analytic.report.placement import placement_items, verdict
from analytic.report.units import compact, days_text, flops_text, gpus_text, percent, si, usd_text


def time_document(timing: Timing) -> Document:
    """One kind of GPU, so many of them."""
    return Document(
        verb="time",
        answer=_answer(timing),
        sections=(
            Section("", list(_workload(timing))),
            Section("", list(_machine(timing))),
            Section("will it fit", list(placement_items(timing.placement, "fit"))),
            Section("", list(_layout(timing))),
        ),
        warnings=_warnings(timing),
    )


def compare_document(timings: Sequence[Timing]) -> Document:
    """Several kinds of GPUs, the cheapest first; those without a price last."""
    ranked = sorted(timings, key=lambda t: (t.usd is None, t.usd or 0, t.gpu_hours))
    best, run = ranked[0], ranked[0].run
    cost = "no price known" if best.usd is None else usd_text(best.usd)
    return Document(
        verb="compare",
        answer=[
            Line(run.config.name, f"{compact(run.tokens)} tokens, {si(run.compute_flops)}, {run.convention} attention"),
            Line("cheapest", f"{best.gpu.key}: {cost}, {float(best.gpu_hours):,.0f} GPU-hours, MFU {mfu_line(best)}"),
        ],
        sections=[Section("", [*_run_facts(best), _offers(ranked)])],
        warnings=[w for t in ranked for w in _warnings(t)],
    )


def mfu_line(timing: Timing) -> str:
    """The MFU, its range and its origin; and what a published run on the same GPU reached."""
    found, run = timing.published, timing.run
    known = ""
    if found is not None:
        mfu = percent(found.mfu(run.convention).value)
        known = f"; published nearest in size: {mfu} ({found.config.name}, {gpus_text(found.num_gpus)})"
    between = "" if timing.mfu_range is None else f", range {' to '.join(map(percent, timing.mfu_range))}"
    return f"{percent(timing.mfu.value)} {timing.mfu.brief}{between}{known}"


def _answer(t: Timing) -> list[Line]:
    assert t.num_gpus is not None
    days = "" if t.days is None else days_text(t.days)
    lines = [
        Line("time", f"{days} on {t.num_gpus:,} x {t.gpu.name}{_between(t)}"),
        Line("cost", _cost(t)),
        Line("MFU", mfu_line(t)),
        Line("training", f"{t.run.config.name} on {compact(t.run.tokens)} tokens: {si(t.run.compute_flops)}"),
        Line("fit", verdict(t.placement)),
    ]
    return [*lines, Line("next", f"foretrain fits {t.run.config.name} --gpus {t.num_gpus}x{t.gpu.key}")]


def _between(t: Timing) -> str:
    if t.mfu_range is None or t.num_gpus is None:
        return ""
    least, most = (float(t.gpu_hours_at(mfu)) / 24 / t.num_gpus for mfu in reversed(t.mfu_range))
    return f"; {days_text(least)} to {days_text(most)} over the range of the MFU"


def _cost(t: Timing) -> str:
    energy = "" if t.energy_kwh is None else f"; {compact(t.energy_kwh)} kWh, assumed: every board at its TDP"
    if t.usd is None or t.price is None:
        return f"no price known: give one, as in {t.num_gpus or 1}x{t.gpu.key}=2.5{energy}"
    return f"{usd_text(t.usd)} at {t.price.usd_per_gpu_hour:.2f} USD per GPU-hour ({t.price.origin}){energy}"


def _warnings(t: Timing) -> list[str]:
    tokens_per_param = t.run.tokens / t.run.params.active
    warnings = []
    if tokens_per_param < 5:
        warnings.append(f"{tokens_per_param:.1f} tokens per parameter: fewer than 5, outside of any scaling law")
    if t.run.dtype == "fp8" and t.mfu.brief != "published":
        warnings.append("fp8: an MFU of bf16 runs does not hold for the fp8 peak (DeepSeek-V3 reached 21.92%)")
    if not isinstance(t.placement, NotPredicted) and not t.placement.fits:
        warnings.append(f"{t.gpu.key}: {verdict(t.placement)}")
    warnings += link_warnings(t.gpu, t.mfu, t.placement)
    return warnings


def _run_facts(t: Timing) -> Iterator[Item]:
    yield fact("model", t.run.config.name)
    yield fact("tokens", t.run.tokens)
    yield fact("seq_len", t.run.seq_len)
    yield fact("attention", t.run.convention)
    yield fact("compute_flops", t.run.compute_flops)
    yield fact("flops_per_token", t.run.flops_per_token)


def _workload(t: Timing) -> Iterator[Item]:
    run, params = t.run, t.run.params
    yield Figure("model", "model", run.config.name, f"{run.config.name}, {params.total:,} parameters")
    yield fact("params", params.total)
    yield fact("params_active", params.active)
    yield Figure("tokens", "tokens", run.tokens, f"{run.tokens:,}, {run.tokens / params.active:.1f} a parameter")
    yield fact("seq_len", run.seq_len)
    yield fact("attention", run.convention)
    yield Figure(
        "flops_per_token",
        "FLOPs per token, training",
        run.flops_per_token,
        f"{run.flops_per_token:,}",
        f"counted: {run.convention} attention, {run.seq_len:,} tokens a sequence",
    )
    yield Figure("compute_flops", "compute", run.compute_flops, f"{si(run.compute_flops)}")


def _machine(t: Timing) -> Iterator[Item]:
    assert t.num_gpus is not None
    peak = t.gpu.peak(t.run.dtype)
    yield Figure("gpu", "GPU", t.gpu.key, t.gpu.name)
    yield Figure("num_gpus", "GPUs", t.num_gpus, gpus_text(t.num_gpus))
    yield Figure(
        "peak_flops_per_s",
        "peak of one",
        peak,
        f"{flops_text(peak)}/s {t.run.dtype}, dense",
        f"published: {t.gpu.source}",
    )
    yield Figure("mfu", "MFU", mfu_object(t), f"{percent(t.mfu.value)} {t.mfu.origin}")
    yield Figure(
        "tokens_per_second_per_gpu", "tokens a second and GPU", t.tokens_per_s_per_gpu, f"{t.tokens_per_s_per_gpu:,.0f}"
    )
    yield Figure("gpu_hours", "GPU-hours", float(t.gpu_hours), f"{float(t.gpu_hours):,.1f}")
    yield Figure("days", "time", _float(t.days), "" if t.days is None else f"{float(t.days):,.2f} days")
    yield Figure("usd", "cost", _float(t.usd), _cost(t))
    yield Figure("energy_kwh", "energy of the boards", _float(t.energy_kwh), _energy(t))


def _energy(t: Timing) -> str:
    if t.energy_kwh is None:
        return "unknown: no TDP"
    return f"{float(t.energy_kwh):,.0f} kWh, assumed: every board at its TDP"


def _layout(t: Timing) -> Iterator[Item]:
    """The keys of `fits`: the layout, the memory of its fullest rank, what that rank sends."""
    placed = None if isinstance(t.placement, NotPredicted) else t.placement
    fit = None if placed is None else placed.fit
    yield fact("fits", None if placed is None else placed.fits)
    yield fact("stack", None if placed is None else placed.implementation)
    yield fact("layout", None if fit is None else layout_json(fit.layout, fit.setup))
    yield from memory_items(fit)
    yield communication_table(fit)
    yield fact("flops_per_gpu", None if fit is None else fit.executed_flops)
    yield fact("step", None)
    yield fact("alternatives", [])


def mfu_object(t: Timing) -> dict[str, Json]:
    low, high = t.mfu_range or (None, None)
    return {"value": t.mfu.value, "low": low, "high": high, "source": t.mfu.origin}


def _float(value: object) -> float | None:
    return None if value is None else float(value)  # type: ignore[arg-type]  # a Fraction


def _offers(ranked: Sequence[Timing]) -> Table:
    columns = (
        Column("gpu", "GPU", is_left=True),
        Column("usd_per_gpu_hour", "USD/h"),
        Column("price_source", "price from", is_left=True),
        Column("mfu", "MFU"),
        Column("", "MFU from", is_left=True),
        Column("gpu_hours", "GPU-hours"),
        Column("num_gpus", "GPUs"),
        Column("days", "days"),
        Column("usd", "USD"),
        Column("energy_kwh", "kWh"),
        Column("least_gpus", "fewest GPUs"),
        Column("fits", "fit", is_left=True),
    )
    return Table("offers", columns, [_offer(t) for t in ranked])


def _offer(t: Timing) -> list[Cell]:
    placed = None if isinstance(t.placement, NotPredicted) else t.placement
    least = None if placed is None else placed.least_gpus
    price = t.price
    return [
        Cell(t.gpu.key, t.gpu.key),
        Cell(price.usd_per_gpu_hour if price else None, f"{price.usd_per_gpu_hour:.2f}" if price else "-"),
        Cell(price.origin if price else None, price.origin if price else "no price known"),
        Cell(mfu_object(t), percent(t.mfu.value)),
        Cell(None, t.mfu.brief),
        Cell(float(t.gpu_hours), f"{float(t.gpu_hours):,.0f}"),
        Cell(t.num_gpus, "-" if t.num_gpus is None else f"{t.num_gpus:,}"),
        Cell(_float(t.days), "-" if t.days is None else f"{float(t.days):,.1f}"),
        Cell(_float(t.usd), "-" if t.usd is None else f"{float(t.usd):,.0f}"),
        Cell(_float(t.energy_kwh), "-" if t.energy_kwh is None else f"{float(t.energy_kwh):,.0f}"),
        Cell(least, "-" if least is None else f"{least:,}"),
        Cell(None if placed is None else placed.fits, verdict(t.placement)),
    ]
