"""What `law show` says of a scaling law."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import assert_never

from analytic.planning.intervals import PlanIntervals
from analytic.report.document import Cell, Column, Document, Figure, Item, Json, Line, Section, Table, fact
from analytic.report.units import compact, si
from analytic.scaling.law_file import MOE_COEFFICIENTS, MOE_TESTED
from analytic.scaling.laws import MANY_EPOCHS, AllocationLaw, Law, MoeLaw, OutOfRange, ScalingLaw
from analytic.scaling.optimum import closed_form

BUDGETS_FLOPS = (1e19, 1e20, 1e21, 1e22, 1e23, 1e24, 1e25)
NO_INTERVALS = "none: the law states no intervals"
MOE_FORMULA = "L = a X^delta N^(alpha + gamma ln X) + b X^omega D^(beta + zeta ln X) + c, X of the number of experts"
EXPERTS_SHOWN = (1, *MOE_TESTED)
INTERVALS = "80 and 95%, of its own runs and backtests"


def law_document(law: Law) -> Document:
    """Coefficients, conventions, range, and the optimum of some budgets under C = 6 N D."""
    match law:
        case ScalingLaw():
            best = closed_form(law, 1e22)
            text = f"N {compact(best.params)}, D {compact(best.tokens)}, loss {best.loss:.3f} nats"
            stated = formula(law.e, law.a, law.alpha, law.b, law.beta, law.k)
            optima, error = _optima({"": law}), NO_INTERVALS if law.uncertainty is None else INTERVALS
        case MoeLaw():
            few, most = (closed_form(law.at(experts), 1e22) for experts in EXPERTS_SHOWN[:: len(EXPERTS_SHOWN) - 1])
            text = f"N {compact(few.params)} dense, {compact(most.params)} of {EXPERTS_SHOWN[-1]} experts"
            stated = MOE_FORMULA
            optima, error = _optima({str(experts): law.at(experts) for experts in EXPERTS_SHOWN}), NO_INTERVALS
        case AllocationLaw():
            text = f"{law.quantity} {compact(law.best(1e22))}"
            stated = f"{law.quantity} = {law.coefficient:g} C^{law.exponent:g}: N and D, and no loss"
            optima, error = _allocations(law), NO_INTERVALS
        case _:
            assert_never(law)
    return Document(
        verb="law",
        answer=[
            Line(law.name, stated),
            Line("from", law.citation),
            Line("N, D", counted(law)),
            Line("at 1e22 FLOP", text),
            Line("intervals", error),
        ],
        sections=(
            Section("", list(_coefficients(law))),
            Section("optimum of C = 6 N D", [optima]),
            Section("", list(law_items(law, (), None))),
        ),
    )


def counted(law: Law) -> str:
    """What N and D are to a law."""
    if isinstance(law, AllocationLaw):
        return f"{law.n_means}; {law.d_means}"
    return f"{law.n_means} parameters; {law.d_means}"


def formula(e: float, a: float, alpha: float, b: float, beta: float, k: float) -> str:
    """A law as people write it.

    >>> formula(1.8, 482.0, 0.35, 2085.0, 0.37, 1.0)
    'L = 1.8 + 482 / N^0.35 + 2085 / D^0.37'
    """
    by_params, by_tokens = f"{a:.6g} / N^{alpha:.6g}", f"{b:.6g} / D^{beta:.6g}"
    if k == 1:
        return f"L = {e:.6g} + {by_params} + {by_tokens}"
    return f"L = {e:.6g} + (({by_params})^(1/k) + ({by_tokens})^(1/k))^k, k = {k:.6g}"


def law_items(
    law: Law, outside: Iterable[OutOfRange], epochs: float | None, intervals: PlanIntervals | None = None
) -> Iterator[Item]:
    """Where a law is from and where it holds, for every document that uses one."""
    yield Figure("law", "scaling law", law.name, f"{law.name}: {law.citation}")
    yield fact("law_details.citation", law.citation)
    yield Figure("law_details.n_means", "  its N, its D", law.n_means, counted(law))
    yield fact("law_details.d_means", law.d_means)
    ranges = {quantity: list(bounds) for quantity, bounds in law.fitted.items()}
    said = "" if law.fitted else "not stated: nothing says where it holds"
    yield Figure("law_details.fitted", "" if law.fitted else "  fitted on", ranges, said)
    beyond = list(outside)
    yield fact(
        "law_details.extrapolations",
        [{"quantity": x.quantity, "value": x.value, "least": x.least, "most": x.most} for x in beyond],
    )
    for each in beyond:
        text = f"{each.quantity} = {each.value:.4g}, fitted on {each.least:.4g} to {each.most:.4g}"
        yield Figure("", "  extrapolates", None, text)
    if isinstance(law, ScalingLaw) and law.experts is not None:
        yield Figure("", "  experts", None, f"{law.experts} a layer, whatever the number that a token visits")
    if isinstance(law, ScalingLaw) and epochs is not None and epochs > 1 and not law.data_constrained:
        yield Figure(
            "", "  repeated tokens", None, "fade as in arXiv:2305.16264 (R_D* = 15.39), which this law borrows"
        )
    if epochs is not None and epochs > MANY_EPOCHS:
        yield Figure("", "  warning", None, f"beyond {MANY_EPOCHS} epochs runs did worse than that law says")
    yield from _error(law, intervals)


def _error(law: Law, intervals: PlanIntervals | None) -> Iterator[Item]:
    """What the law says of its own error."""
    u = law.uncertainty if isinstance(law, ScalingLaw) else None
    if u is None:
        yield Figure("law_details.intervals", "  intervals", None, NO_INTERVALS)
        return
    stated: dict[str, Json] = {"sigma": u.sigma, "kappa": u.kappa, "largest_run_flops": u.largest_run_flops}
    text = f"{INTERVALS}: scatter of ln L {u.sigma:.4g}, kappa {u.kappa:.4g}"
    if intervals is not None:
        stated["decades_beyond"] = intervals.decades_beyond
        text += f"; {intervals.decades_beyond:.2f} decades of compute beyond the largest run"
    yield Figure("law_details.intervals", "  intervals", stated, text)


def _coefficients(law: Law) -> Iterator[Item]:
    match law:
        case ScalingLaw():
            named = {"E": law.e, "A": law.a, "B": law.b, "alpha": law.alpha, "beta": law.beta, "k": law.k}
            yield fact("data_constrained", law.data_constrained)
        case MoeLaw():
            named = {key: getattr(law, key) for key in MOE_COEFFICIENTS}
        case AllocationLaw():
            named = {"coefficient": law.coefficient, "exponent": law.exponent}
            yield fact("quantity", law.quantity)
        case _:
            assert_never(law)
    for key, value in named.items():
        yield Figure(f"coefficients.{key}", key, value, f"{value:.12g}")


def _optima(laws: Mapping[str, ScalingLaw]) -> Table:
    """Of a law, or of one at several numbers of experts, which are then a column."""
    columns = [Column("flops", "C"), Column("params", "N"), Column("tokens", "D"), Column("loss", "loss, nats")]
    of_experts = any(law.experts is not None for law in laws.values())
    if of_experts:
        columns.insert(0, Column("experts", "experts"))
    rows = []
    for name, law in laws.items():
        for flops in BUDGETS_FLOPS:
            best = closed_form(law, flops)
            row = [
                Cell(flops, si(flops)),
                Cell(best.params, compact(best.params)),
                Cell(best.tokens, compact(best.tokens)),
                Cell(best.loss, f"{best.loss:.4f}"),
            ]
            rows.append([Cell(law.experts, name), *row] if of_experts else row)
    return Table("optima", columns, rows)


def _allocations(law: AllocationLaw) -> Table:
    columns = (Column("flops", "C"), Column(law.quantity, law.quantity.replace("_", " ")), Column("loss", "loss"))
    rows = []
    for flops in BUDGETS_FLOPS:
        best = law.best(flops)
        rows.append([Cell(flops, si(flops)), Cell(best, compact(best)), Cell(None, "none: N and D alone")])
    return Table("optima", columns, rows)
