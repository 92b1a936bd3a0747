"""What `law fit` says of a law fitted to runs: predictions with intervals first, then the terms."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from analytic.report.document import Cell, Column, Document, Figure, Item, Line, Section, Table, fact, facts
from analytic.report.law import formula
from analytic.report.law_result import LawFit, prior_origin
from analytic.report.law_warnings import law_fit_warnings
from analytic.report.units import compact, percent
from analytic.scaling.backtest import HoldOut
from analytic.scaling.fitted_plan import NEAR_OPTIMAL_NATS, Interval
from analytic.scaling.forms import NAMES
from analytic.scaling.intervals import FittedLaw, Prediction
from analytic.scaling.runs import MOST_LOSS

SHOWN_PREDICTIONS = 2  # an answer has eight lines
HALF_WIDTHS = (("low_80", "80% from"), ("high_80", "to"), ("low_95", "95% from"), ("high_95", "to"))


def law_fit_document(result: LawFit, written: Path | None = None) -> Document:
    """Predictions first; `-v` the coefficients, the scatter, the backtests.

    Args:
        written: the file that the law was written to.
    """
    answer = list(_answer(result))
    if written is not None:
        answer.append(Line("written", f"{written}, for foretrain plan --law"))
    return Document(
        verb="law",
        answer=answer,
        sections=(
            Section("runs", list(_runs(result))),
            Section("coefficients (one standard error, kappa included)", list(_coefficients(result.law))),
            Section("fit", list(_fit(result.law))),
            Section("backtests by which kappa widens the intervals", [_backtests(result.law)]),
            Section("hold-out", list(_hold_out(result.hold_out))),
            Section("predictions, nats per token", [_predictions(result)]),
            Section("optimum of C = 6 N D", list(_optimum(result))),
            Section("other laws of the same runs, nats per token", [_comparisons(result)]),
        ),
        warnings=list(law_fit_warnings(result)),
    )


def _answer(result: LawFit) -> Iterator[Line]:
    fit, best = result.law.fit, result.optimum
    shown = result.predictions if len(result.predictions) <= SHOWN_PREDICTIONS else result.predictions[:1]
    for p in shown:
        yield Line("predicted", f"{_loss(p)} at N {compact(p.params)}, D {compact(p.tokens)}")
    if len(shown) < len(result.predictions):
        yield Line("", f"and {len(result.predictions) - 1} more: -v")
    near = " to ".join(map(compact, best.near_optimal))
    beyond = f"{best.decades_beyond:.1f} decades beyond the largest run"
    yield Line("budget", f"{result.flops:.4g} FLOP, C = 6 N D, {beyond}")
    yield Line("model", f"{near} parameters come within {NEAR_OPTIMAL_NATS} nats; best {_range(best.params)}")
    yield Line("tokens", _range(best.tokens))
    yield Line("loss", _loss(best.loss))
    yield Line("backtest", result.backtest)
    c = fit.coefficients
    count = f"{len(fit.runs)} runs of {result.shown_source}, {fit.dropped + result.repeated} left out"
    yield Line("law", f"{formula(c.e, c.a, c.alpha, c.b, c.beta, c.k)}; {count}")


def _loss(p: Prediction | Interval) -> str:
    value = p.loss if isinstance(p, Prediction) else p.value
    low_80, high_80, low_95, high_95 = map(_bound, (p.low_80, p.high_80, p.low_95, p.high_95))
    return f"{value:.3f} nats per token; {low_80} to {high_80} (80%), {low_95} to {high_95} (95%)"


def _bound(loss: float) -> str:
    """Few runs can leave a law open, and its interval then has no upper bound worth a figure."""
    return f"{loss:.3f}" if loss <= MOST_LOSS else f"over {MOST_LOSS:g}"


def _range(one: Interval) -> str:
    low_80, high_80, low_95, high_95 = map(compact, (one.low_80, one.high_80, one.low_95, one.high_95))
    return f"{compact(one.value)}; {low_80} to {high_80} (80%), {low_95} to {high_95} (95%)"


def _runs(result: LawFit) -> Iterator[Item]:
    fit = result.law.fit
    yield Figure("source", "file", result.source, result.shown_source)
    yield Figure("runs", "fitted", len(fit.runs))
    yield fact("dropped", fit.dropped + result.repeated)
    few = f"{fit.dropped} of fewer than {fit.options.least_ratio:g} tokens per parameter"
    yield Figure("dropped_by.tokens_per_parameter", "left out", fit.dropped, few)
    yield Figure("dropped_by.repeated_data", "left out", result.repeated, f"{result.repeated} of more than one epoch")
    yield Figure("n_means", "N means", result.n_means, f"{result.n_means} parameters")
    yield Figure("largest_run_flops", "compute of the largest", fit.most_flops, f"{fit.most_flops:.4g} FLOP")


def _coefficients(law: FittedLaw) -> Iterator[Item]:
    c, covariance = law.fit.coefficients, law.coefficient_covariance
    values = {"E": c.e, "A": c.a, "alpha": c.alpha, "B": c.b, "beta": c.beta, "k": c.k}
    for i, (name, value) in enumerate(values.items()):
        deviation = math.sqrt(covariance[i][i])
        error = deviation if name in ("alpha", "beta") else value * deviation  # the others are fitted as logarithms
        at_rest = "fixed by the form" if law.fit.form.source[i] is None else "at the bound of the fit"
        said = f"{value:.6g} +- {error:.2g}" if deviation else f"{value:.6g}, {at_rest}"
        yield Figure(f"coefficients.{name}", name, value, said)
        yield fact(f"standard_errors.{name}", error)
    yield fact("covariance", [list(row) for row in covariance])
    yield fact("covariance_of", list(NAMES))


def _fit(law: FittedLaw) -> Iterator[Item]:
    fit = law.fit
    options, prior = fit.options, fit.options.prior
    yield Figure("form", "form", options.form)
    yield Figure("objective.name", "objective", options.objective, f"{options.objective}: {fit.objective:.12g}")
    yield fact("objective.value", fit.objective)
    yield Figure("sigma", "scatter of ln L, sigma", fit.sigma, percent(fit.sigma), "fitted")
    origin = f"rms error of the {len(law.backtests)} backtests below over their sigma, at least 1"
    yield Figure("kappa", "intervals widened by kappa", law.kappa, f"{law.kappa:.3f}", origin)
    yield Figure("agreement", "starts that end here", fit.agreement, percent(fit.agreement))
    yield Figure("", "prior", None, prior_origin(prior))
    moments = {} if prior is None else {NAMES[i]: list(pair) for i, pair in prior.moments.items()}
    for name, (mean, deviation) in moments.items():
        yield Figure("", f"  {name}", None, f"{mean:.4f} +- {deviation:.4f}")
    yield fact("prior", None if prior is None else {"families": list(prior.families), "moments": moments})


def _backtests(law: FittedLaw) -> Table:
    columns = (
        Column("decades", "decades below the largest"),
        Column("fitted", "fitted"),
        Column("held_out", "predicted"),
        Column("rms_z", "rms error / sd"),
    )
    rows = [
        [
            Cell(one.decades, f"{one.decades:g}"),
            Cell(one.fitted, str(one.fitted)),
            Cell(one.held_out, str(one.held_out)),
            Cell(one.rms_z, f"{one.rms_z:.2f}"),
        ]
        for one in law.backtests
    ]
    return Table("backtests", columns, rows)


def _hold_out(held_out: HoldOut | None) -> Iterator[Item]:
    if held_out is None:
        yield Figure("hold_out", "none", None, "too few runs below or above the cut")
        return
    yield Figure("hold_out.decades", "decades below the largest", held_out.decades, f"{held_out.decades:g}")
    yield Figure("hold_out.fitted", "fitted", held_out.fitted)
    yield Figure("hold_out.runs", "predicted", held_out.runs)
    shares = {
        "median_abs_error": "median error of loss",
        "largest_abs_error": "mean error at the largest budget",
        "coverage_80": "inside the 80% interval",
        "coverage_95": "inside the 95% interval",
        "width_95": "width of the 95% interval",
    }
    for key, label in shares.items():
        value = getattr(held_out, key)
        yield Figure(f"hold_out.{key}", label, value, percent(value))
    yield fact("hold_out.failed", held_out.failed)


def _predictions(result: LawFit) -> Table:
    columns = (
        Column("params", "N"),
        Column("tokens", "D"),
        Column("decades_beyond", "decades beyond"),
        Column("loss", "loss"),
        *(Column(key, heading) for key, heading in HALF_WIDTHS),
    )
    rows = []
    for run, p in zip(result.predicted, result.predictions, strict=True):
        beyond = result.decades_beyond(run)
        losses = (p.loss, p.low_80, p.high_80, p.low_95, p.high_95)
        rows.append(
            [
                Cell(p.params, compact(p.params)),
                Cell(p.tokens, compact(p.tokens)),
                Cell(beyond, f"{beyond:.2f}"),
                *(Cell(value, f"{value:.4f}") for value in losses),
            ]
        )
    return Table("predictions", columns, rows)


def _optimum(result: LawFit) -> Iterator[Item]:
    best = result.optimum
    yield Figure("optimum.flops", "C", result.flops, f"{result.flops:.6g} FLOP")
    yield Figure(
        "optimum.decades_beyond", "decades beyond the largest run", best.decades_beyond, f"{best.decades_beyond:.2f}"
    )
    near = " to ".join(map(compact, best.near_optimal))
    yield Figure("optimum.near_optimal", f"N within {NEAR_OPTIMAL_NATS} nats", list(best.near_optimal), near)
    for name, label, one in (("params", "N", best.params), ("tokens", "D", best.tokens), ("loss", "loss", best.loss)):
        yield Figure("", label, None, _loss(one) if name == "loss" else _range(one))
        bounds = {key: getattr(one, key) for key, _ in HALF_WIDTHS}
        yield from facts({"value": one.value, **bounds}, f"optimum.{name}.")


def _comparisons(result: LawFit) -> Table:
    columns = (
        Column("law", "law"),
        Column("params", "N"),
        Column("tokens", "D"),
        Column("loss", "loss"),
        Column("disagrees", "in the 80% interval"),
    )
    rows = [
        [
            Cell(one.name, one.name),
            Cell(one.predicted.params, compact(one.predicted.params)),
            Cell(one.predicted.tokens, compact(one.predicted.tokens)),
            Cell(one.loss, f"{one.loss:.4f}"),
            Cell(one.disagrees, "no" if one.disagrees else "yes"),
        ]
        for one in result.comparisons
    ]
    return Table("comparisons", columns, rows)
