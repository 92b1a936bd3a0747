"""What `law fit` says of a law fitted to runs: predictions with intervals first, then the terms."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from analytic.report.document import Cell, Column, Document, Figure, Item, Line, Section, Table, fact, facts
from analytic.report.law import formula
from analytic.report.units import compact, percent
from analytic.scaling.backtest import LEAST_TO_JUDGE_BY, HoldOut
from analytic.scaling.fit import Prior
from analytic.scaling.fitted_plan import FARTHEST_USEFUL_DECADES, NEAR_OPTIMAL_NATS, FittedPlan, Interval
from analytic.scaling.forms import LOG_K, NAMES
from analytic.scaling.intervals import FittedLaw, Prediction
from analytic.scaling.laws import ParamsConvention
from analytic.scaling.runs import Run

FEW_RUNS = 8  # fewer were not tried on published families
SHARE_OF_PRIOR = 0.8  # of the prior's standard deviation: above it the runs have said nothing
CHECKED_DECADES = 1.0  # at which coverage was measured on families left out
SHOWN_PREDICTIONS = 2  # an answer has eight lines
HALF_WIDTHS = (("low_80", "80% from"), ("high_80", "to"), ("low_95", "95% from"), ("high_95", "to"))


@dataclass(frozen=True, slots=True, kw_only=True)
class LawFit:
    """A law fitted to the runs of a file, and what it was asked.

    Attributes:
        repeated: runs left out because they repeat data.
        hold_out: None where the runs are too few for one.
        flops: the budget of `optimum`.
        predicted: the runs asked for, whose losses are `predictions`.
        written: the file that the law was written to.
    """

    source: str
    law: FittedLaw
    n_means: ParamsConvention
    repeated: int
    hold_out: HoldOut | None
    flops: float
    optimum: FittedPlan
    predicted: Sequence[Run]
    predictions: Sequence[Prediction]
    written: Path | None

    @property
    def shown_source(self) -> str:
        """The name of the file in printable ASCII."""
        return _plain(self.source)

    @property
    def method(self) -> str:
        """How it was fitted, in printable ASCII."""
        options = self.law.fit.options
        return f"{options.form} form, {options.objective} objective, prior: {_plain(_origin(options.prior))}"

    @property
    def left_out(self) -> str:
        ratio = self.law.fit.options.least_ratio
        return (
            f"left out: {self.law.fit.dropped} of fewer than {ratio:g} tokens per parameter, "
            f"{self.repeated} that repeat data"
        )

    @property
    def backtest(self) -> str:
        held_out = self.hold_out
        if held_out is None:
            return "no backtest: too few runs below or above the cut"
        return (
            f"{held_out.fitted} runs fitted, the {held_out.runs} within {10**held_out.decades:.3g}x of the largest "
            f"predicted: {percent(held_out.largest_abs_error)} off at the largest budget, "
            f"{held_out.coverage_80:.0%} inside 80%, {held_out.coverage_95:.0%} inside 95%"
        )


def _plain(text: str) -> str:
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in text)


def _origin(prior: Prior | None) -> str:
    return "none" if prior is None else ", ".join(prior.families) or "of a file that names no families"


def law_fit_document(result: LawFit) -> Document:
    """Predictions first; `-v` the coefficients, the scatter, the backtests."""
    return Document(
        verb="law",
        answer=list(_answer(result)),
        sections=(
            Section("runs", list(_runs(result))),
            Section("coefficients (one standard error, kappa included)", list(_coefficients(result.law))),
            Section("fit", list(_fit(result.law))),
            Section("backtests by which kappa widens the intervals", [_backtests(result.law)]),
            Section("hold-out", list(_hold_out(result.hold_out))),
            Section("predictions, nats per token", [_predictions(result)]),
            Section("optimum of C = 6 N D", list(_optimum(result))),
        ),
        warnings=list(_warnings(result)),
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
    if result.written is not None:
        yield Line("written", f"{result.written}, for foretrain plan --law")


def _loss(p: Prediction | Interval) -> str:
    value = p.loss if isinstance(p, Prediction) else p.value
    return (
        f"{value:.3f} nats per token; {p.low_80:.3f} to {p.high_80:.3f} (80%), {p.low_95:.3f} to {p.high_95:.3f} (95%)"
    )


def _range(one: Interval) -> str:
    low_80, high_80, low_95, high_95 = map(compact, (one.low_80, one.high_80, one.low_95, one.high_95))
    return f"{compact(one.value)}; {low_80} to {high_80} (80%), {low_95} to {high_95} (95%)"


def _warnings(result: LawFit) -> Iterator[str]:
    fit, best, held_out = result.law.fit, result.optimum, result.hold_out
    if len(fit.runs) < FEW_RUNS:
        yield f"{len(fit.runs)} runs: intervals were checked on published families from {FEW_RUNS} runs on"
    if held_out is None:
        yield "no backtest: too few runs to hold some out, and the intervals lean on the prior and on the scatter"
    elif held_out.failed:
        rule = f"more than a third of {held_out.runs} runs outside the 95% interval"
        if held_out.runs < LEAST_TO_JUDGE_BY:
            rule = f"{held_out.runs} runs to judge by, expected at least {LEAST_TO_JUDGE_BY}"
        yield f"the law fails its own backtest: {rule}"
    if best.too_far:
        params = math.sqrt(result.flops / 120)
        yield (
            f"the budget is {best.decades_beyond:.1f} decades beyond the largest run: on published runs D = 20 N chose "
            f"better beyond {FARTHEST_USEFUL_DECADES}; here N {compact(params)}, D {compact(20 * params)}"
        )
    far = [_decades(result, run) for run in result.predicted if _decades(result, run) > CHECKED_DECADES]
    if far:
        yield (
            f"{len(far)} of the runs predicted are beyond {CHECKED_DECADES:g} decade, at most {max(far):.1f}: "
            f"intervals were checked at {CHECKED_DECADES:g}"
        )
    if fit.options.form == "coupled":
        yield from _of_k(result.law)


def _of_k(law: FittedLaw) -> Iterator[str]:
    prior, deviation = law.fit.options.prior, math.sqrt(law.fit.covariance[LOG_K][LOG_K])
    if prior is None:
        yield "coupled form without a prior: small runs alone predicted published larger ones 8 to 15% too low"
    elif LOG_K in prior.moments and deviation >= SHARE_OF_PRIOR * prior.moments[LOG_K][1]:
        yield (
            f"k is not identified: the runs leave ln k a standard deviation of {deviation:.3f}, not below "
            f"{SHARE_OF_PRIOR} of the prior's {prior.moments[LOG_K][1]:.3f}"
        )


def _decades(result: LawFit, run: Run) -> float:
    """Of compute beyond the largest run fitted."""
    return max(math.log10(run.flops / result.law.fit.most_flops), 0.0)


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
    yield Figure("", "prior", None, _origin(prior))
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
        beyond = _decades(result, run)
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
