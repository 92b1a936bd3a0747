"""What a published run implies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction

from analytic.planning.published_run import Implied, Run, headline, implied_mfus
from analytic.report.document import Cell, Column, Document, Figure, Item, Line, Note, Section, Table, fact
from analytic.report.units import compact, percent, usd_text


def published_run_document(run: Run, published: Sequence[Run]) -> Document:
    """The MFU that a run's figures imply, next to that of other published runs."""
    ranked = sorted(((o.name, headline(o).mfu) for o in {o.name: o for o in (*published, run)}.values()), key=_by_mfu)
    return Document(
        verb="check-run",
        answer=_answer(run, ranked),
        sections=(
            Section("", list(_figures(run))),
            Section("", [_implied(run)]),
            Section("", list(_compared(run, ranked, published))),
        ),
        warnings=_warnings(run),
    )


def _by_mfu(entry: tuple[str, Fraction]) -> Fraction:
    return -entry[1]


def _answer(run: Run, ranked: Sequence[tuple[str, Fraction]]) -> list[Line]:
    first = headline(run)
    causal = next(i for i in implied_mfus(run) if i.convention == "causal")
    place = [name for name, _ in ranked].index(run.name) + 1
    lines = [
        Line(
            run.name, f"{compact(run.tokens)} tokens, {float(first.hours.gpu_hours):,.0f} GPU-hours on {run.gpu.name}"
        ),
        Line("implied MFU", f"{percent(first.mfu)} with full attention, {percent(causal.mfu)} with causal; bf16 peak"),
        Line("rank", f"{place} of {len(ranked)} published runs: {', '.join(f'{n} {percent(m)}' for n, m in ranked)}"),
    ]
    if run.usd_per_gpu_hour is not None:
        usd = first.hours.gpu_hours * run.usd_per_gpu_hour
        lines.append(Line("cost", f"{usd_text(usd)} at {float(run.usd_per_gpu_hour):.2f} USD per GPU-hour, as stated"))
    return [*lines, Line("source", run.source)]


def _warnings(run: Run) -> tuple[str, ...]:
    if any(i.mfu > 1 for i in implied_mfus(run)):
        return ("an MFU above 100% is impossible: tokens, hours, GPU or architecture cannot all be right",)
    return ()


def _figures(run: Run) -> Iterator[Item]:
    yield Note(f"{run.name}: {run.tokens:,} tokens at sequence length {run.seq_len:,} on {run.gpu.name}")
    yield fact("run", run.name)
    yield fact("gpu", run.gpu.key)
    yield fact("tokens", run.tokens)
    yield Figure("source", "published figures", run.source)
    for hours in run.hours:
        priced = ""
        if run.usd_per_gpu_hour is not None:
            usd = float(hours.gpu_hours * run.usd_per_gpu_hour)
            priced = f" = {usd:,.0f} USD at {float(run.usd_per_gpu_hour):.2f}"
        yield Figure("", hours.label, None, f"{float(hours.gpu_hours):,.0f} GPU-hours{priced}")
        if hours.stated_usd is not None:
            yield Figure("", "  stated by the source", None, f"{float(hours.stated_usd):,.0f} USD")


def _implied(run: Run) -> Table:
    columns = (
        Column("hours", "implied MFU of", is_left=True),
        Column("gpu_hours", ""),
        Column("usd", ""),
        Column("stated_usd", ""),
        Column("peak_dtype", "dense peak", is_left=True),
        Column("attention", "attention", is_left=True),
        Column("multi_token_prediction", "extra layers", is_left=True),
        Column("flops_per_token", "FLOPs a token"),
        Column("mfu", "MFU"),
    )
    return Table("implied_mfu", columns, [_row(run, implied) for implied in implied_mfus(run)])


def _row(run: Run, i: Implied) -> list[Cell]:
    usd = None if run.usd_per_gpu_hour is None else float(i.hours.gpu_hours * run.usd_per_gpu_hour)
    stated = None if i.hours.stated_usd is None else float(i.hours.stated_usd)
    return [
        Cell(i.hours.label, i.hours.label),
        Cell(float(i.hours.gpu_hours), ""),
        Cell(usd, ""),
        Cell(stated, ""),
        Cell(i.dtype, i.dtype),
        Cell(i.convention, i.convention),
        Cell(i.mtp, "with MTP" if i.mtp else "-"),
        Cell(i.flops_per_token, f"{i.flops_per_token:,}"),
        Cell(float(i.mfu), percent(i.mfu)),
    ]


def _compared(run: Run, ranked: Sequence[tuple[str, Fraction]], published: Sequence[Run]) -> Iterator[Item]:
    yield fact("published_runs", [{"run": other.name, "mfu": float(headline(other).mfu)} for other in published])
    among = ", ".join(f"{name} {percent(mfu)}" for name, mfu in ranked)
    yield Figure("", "among published runs", None, f"{among}; bf16 peak, full attention")
    if run.stated_mfu:
        yield Figure("stated_mfu", "MFU stated by the source", run.stated_mfu)
    if run.excludes:
        yield Figure("excludes", "what the hours leave out", run.excludes)
