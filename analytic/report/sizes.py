"""What a budget comes to at other sizes, and what serving costs, as a plan says it."""

from __future__ import annotations

from collections.abc import Iterator

from analytic.planning.budget import Dollars
from analytic.planning.forward import Plan
from analytic.planning.sizes import Served
from analytic.report.document import Cell, Column, Item, Line, Note, Table, fact, facts
from analytic.report.units import compact, params_text, percent, usd_text


def size_items(plan: Plan) -> Iterator[Item]:
    """The loss of the same money at sizes around the best."""
    columns = [
        Column("params", "the same money at N"),
        Column("tokens", "D"),
        Column("", "D/N"),
        Column("loss", "loss"),
        Column("", "above the best"),
        Column("served_share", "" if plan.served is None else "serving"),
    ]
    best = min((size.loss for size in plan.sizes), default=0.0)
    rows = [
        [
            Cell(size.params, params_text(round(size.params))),
            Cell(size.tokens, params_text(round(size.tokens))),
            Cell(None, f"{size.tokens / size.params:.1f}"),
            Cell(size.loss, f"{size.loss:.4f}"),
            Cell(None, f"{size.loss - best:.4f}"),
            Cell(size.served_share, percent(size.served_share)),
        ]
        for size in plan.sizes
    ]
    yield Table("sizes", columns, rows)


def served_line(plan: Plan, served: Served) -> Line:
    """What serving takes of the budget, on what assumption, and what a model chosen without it would take."""
    serving, budget, alone = served.serving, plan.request.budget, served.trained_alone
    share = f" of {usd_text(budget.usd)}" if isinstance(budget, Dollars) else ""
    on = "" if serving.gpu is None else f" on {serving.gpu.name}"
    return Line(
        "serving",
        f"{usd_text(served.usd)}{share} for {compact(serving.tokens)} tokens at {percent(serving.mfu.value)} MFU"
        f"{on}, {serving.mfu.origin}; N {compact(alone.params)}, best to train alone, costs "
        f"{served.more_usd:.0%} more for this loss",
    )


def served_items(plan: Plan) -> Iterator[Item]:
    served = plan.served
    if served is None:
        yield fact("serving", None)
        return
    serving, alone = served.serving, served.trained_alone
    gpu, price = serving.gpu or plan.option.gpu, serving.price or plan.option.price
    assert price is not None
    yield from facts(
        {
            "tokens": serving.tokens,
            "gpu": gpu.key,
            "usd_per_gpu_hour": price.usd_per_gpu_hour,
            "price_source": price.origin,
            "mfu": {"value": serving.mfu.value, "source": serving.mfu.origin},
            "usd": float(served.usd),
            "share": served.share,
            "trained_alone": {"params": alone.params, "tokens": alone.tokens, "loss": alone.loss},
            "more_usd": served.more_usd,
        },
        "serving.",
    )
    yield Note(
        f"serving {serving.tokens:,} tokens: {float(served.usd):,.2f} USD on {gpu.name} at "
        f"{price.usd_per_gpu_hour:.2f} USD/h ({price.origin}), a third of a training token's FLOPs each"
    )
    yield Note(
        f"the model that reaches this loss with the least training has N {params_text(round(alone.params))} and "
        f"D {params_text(round(alone.tokens))}: with serving it costs {percent(served.more_usd)} more"
    )
