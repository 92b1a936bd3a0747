"""What a published run implies, as text."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from analytic.planning.published_run import Run, headline, implied_mfus
from analytic.report.plan_lines import percent, row
from analytic.report.text import table


def claim_text(run: Run, published: Sequence[Run]) -> str:
    """What `plan.py --check-run` prints."""
    lines = [
        f"{run.name}: {run.tokens:,} tokens at sequence length {run.seq_len:,} on {run.gpu.name}",
        row("published figures", run.source),
    ]
    for hours in run.hours:
        lines.append(row(hours.label, f"{float(hours.gpu_hours):,.0f} GPU-hours{_priced(run, hours.gpu_hours)}"))
        if hours.stated_usd is not None:
            lines.append(row("  stated by the source", f"{float(hours.stated_usd):,.0f} USD"))
    header = ("implied MFU of", "dense peak", "attention", "extra layers", "FLOPs a token", "MFU")
    rows = [
        (i.hours.label, i.dtype, i.convention, "with MTP" if i.mtp else "-", f"{i.flops_per_token:,}", percent(i.mfu))
        for i in implied_mfus(run)
    ]
    ranked = sorted({other.name: headline(other).mfu for other in (*published, run)}.items(), key=lambda x: -x[1])
    own = headline(run).mfu
    among = ", ".join(f"{name} {percent(mfu)}" for name, mfu in ranked)
    lines += ["", *table([header, *rows], left=4), "", row("among published runs", among)]
    lines.append(row("", f"{sum(mfu > own for _, mfu in ranked) + 1} of {len(ranked)}; bf16 peak, full attention"))
    if any(i.mfu > 1 for i in implied_mfus(run)):
        lines.append(row("above 100%", "impossible: tokens, hours, GPU or architecture cannot all be right"))
    if run.stated_mfu:
        lines.append(row("MFU stated by the source", run.stated_mfu))
    if run.excludes:
        lines.append(row("what the hours leave out", run.excludes))
    return "\n".join(lines) + "\n"


def _priced(run: Run, gpu_hours: Fraction) -> str:
    if run.usd_per_gpu_hour is None:
        return ""
    return f" = {float(gpu_hours * run.usd_per_gpu_hour):,.0f} USD at {float(run.usd_per_gpu_hour):.2f}"
