"""A scaling law of one's own runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from analytic.api.models import count
from analytic.api.result import Result
from analytic.errors import FileError, UsageError
from analytic.io.located import located
from analytic.limits import MAX_PARAMETERS, MOST_FLOPS, MOST_TOKENS
from analytic.planning.architectures import count_params
from analytic.planning.assumptions import LAW_MEASURE
from analytic.report.law_fit import law_fit_document
from analytic.report.law_repeats import repeats_document
from analytic.report.law_result import LawFit
from analytic.scaling.backtest import HoldOut
from analytic.scaling.backtest import hold_out as backtest
from analytic.scaling.comparison import compared, other_laws
from analytic.scaling.fit import FitOptions, ObjectiveName, Prior
from analytic.scaling.fitted_plan import plan_with_intervals
from analytic.scaling.forms import FormName
from analytic.scaling.intervals import fit_with_intervals
from analytic.scaling.laws import ParamsConvention
from analytic.scaling.prior import ONE_EPOCH, load_prior
from analytic.scaling.repeats import RepeatsFit, fit_repeats
from analytic.scaling.runs import Columns, CountConfig, Run, columns_named, named_values, read_runs
from analytic.units import parse_number

HOLD_OUT_DECADES = 1.0
BUDGET_OVER_LARGEST = 10.0


def fit_law(
    runs: str | Path,
    *,
    columns: str = "",
    config_column: str | None = None,
    unique_column: str | None = None,
    schedule_column: str | None = None,
    form: FormName | Literal["repeats"] = "coupled",
    prior: str | Path | None = None,
    objective: ObjectiveName | None = None,
    n_means: ParamsConvention = "total",
    min_ratio: float | None = None,
    hold_out: float | None = None,
    predict: Sequence[str] = (),
    flops: float | None = None,
) -> Result[LawFit | RepeatsFit]:
    """The scaling law of the runs of a CSV file, with intervals; with `form="repeats"`, that of repeated data.

    Args:
        runs: the file, a run a line, with columns N, D and loss, or as `columns` names them: `N=size,loss=val`.
        config_column: of models, whose N and FLOPs are counted. unique_column: of distinct tokens.
        schedule_column: of learning-rate schedules, which must not differ; by default `schedule`, if there is one.
        prior: "published" (default), "none" or a TOML file; of the coupled form alone.
        hold_out: predict the runs within so many decades of the largest; by default 1, where the runs allow it.
        predict: runs such as `N=8B,D=2T`, and `U=1T` of them distinct with the form repeats.
        flops: the budget whose optimum is asked for; default: 10 times the largest run.

    >>> found = fit_law("configs/laws/runs/olmo-c4.csv", predict=["N=8B,D=160B"])
    >>> round(found["predictions"][0]["loss"], 2), found["hold_out"]["runs"]
    (2.71, 6)
    """
    _check("form", form, (*get_args(FormName), "repeats"))
    _check("objective", objective, get_args(ObjectiveName))
    _check("n_means", n_means, get_args(ParamsConvention))
    _check_amounts(min_ratio=min_ratio, hold_out=hold_out, flops=flops)
    path, is_repeats = Path(runs), form == "repeats"
    named = columns_named(columns, config=config_column, unique_tokens=unique_column, schedule=schedule_column)
    points = [_point(text, is_repeats) for text in predict]
    if form == "repeats":
        for name, value in (("prior", prior), ("objective", objective), ("hold_out", hold_out), ("flops", flops)):
            if value is not None:
                raise UsageError(f"{name}: not with the form repeats")
        return _repeats(path, named, n_means, min_ratio, points)
    found = _found(path, named, n_means, _options(form, prior, objective, min_ratio), hold_out, points, flops)
    return Result(found, law_fit_document(found))


def _found(
    path: Path,
    columns: Columns,
    n_means: ParamsConvention,
    options: FitOptions,
    hold_out: float | None,
    points: Sequence[Run],
    flops: float | None,
) -> LawFit:
    """The fit, its backtest, its predictions and optimum, and what other laws say there."""
    read = read_runs(path, columns, _counter(n_means))
    once = [run for run in read if run.tokens <= ONE_EPOCH * run.unique_tokens]
    with located(path):
        law = fit_with_intervals(once, options)
        held_out = _hold_out(once, options, hold_out)
    budget = flops or min(BUDGET_OVER_LARGEST * law.fit.most_flops, MOST_FLOPS)
    optimum, predictions = plan_with_intervals(law, budget), law.predict_runs(points)
    best = law.predict([(optimum.params.value, optimum.tokens.value)])
    return LawFit(
        source=path.name,
        law=law,
        n_means=n_means,
        repeated=len(read) - len(once),
        hold_out=held_out,
        flops=budget,
        optimum=optimum,
        predicted=points,
        predictions=predictions,
        comparisons=compared(other_laws(law.fit), [*predictions, *best]),
    )


def _check(name: str, value: str | None, allowed: Sequence[str]) -> None:
    if value is not None and value not in allowed:
        raise UsageError(f"{name} = {value!r}: expected one of {', '.join(allowed)}")


def _check_amounts(**amounts: float | None) -> None:
    """Of options that the command reads likewise; only the least ratio may be 0."""
    for name, value in amounts.items():
        least, most = (0, math.inf) if name == "min_ratio" else (5e-324, MOST_FLOPS)
        if value is not None and not least <= value <= most:
            raise UsageError(f"{name} = {value!r}: expected a number from {least:g} to {most:g}")


def _repeats(
    path: Path, columns: Columns, n_means: ParamsConvention, min_ratio: float | None, points: Sequence[Run]
) -> Result[LawFit | RepeatsFit]:
    if columns.unique_tokens is None:
        raise UsageError("form repeats: expected a unique column, how much of the data is distinct")
    runs = read_runs(path, columns, _counter(n_means))
    with located(path):
        fitted = fit_repeats(runs, min_ratio=1.0 if min_ratio is None else min_ratio)
    return Result(fitted, repeats_document(path.name, fitted, n_means, points))


def _options(
    form: FormName, prior: str | Path | None, objective: ObjectiveName | None, min_ratio: float | None
) -> FitOptions:
    if prior is not None and form != "coupled":
        raise UsageError(f"prior: only with the form coupled, not {form}")
    return FitOptions(
        form=form,
        objective=objective or "mad",
        prior=_prior(prior or "published") if form == "coupled" else None,
        min_ratio=min_ratio,
    )


def _prior(source: str | Path) -> Prior | None:
    return None if source == "none" else load_prior(None if source == "published" else Path(source))


def _hold_out(runs: Sequence[Run], options: FitOptions, decades: float | None) -> HoldOut | None:
    """None where the runs are too few, and nobody asked for so many decades."""
    try:
        return backtest(runs, decades or HOLD_OUT_DECADES, options)
    except FileError as error:
        if decades is None:
            return None
        raise FileError(f"hold out: {error}") from None


def _point(text: str, is_repeats: bool) -> Run:
    """A run that is asked for; its loss is not known and not looked at."""
    with located(f"predict {text!r}"):
        pairs = named_values(text, ("N", "D", "U") if is_repeats else ("N", "D"))
        amounts = {}
        for name, most in (("N", MAX_PARAMETERS), ("D", MOST_TOKENS), ("U", MOST_TOKENS)):
            if name in pairs:
                amounts[name] = float(parse_number(pairs[name]))
                if not 1 <= amounts[name] <= most:
                    raise UsageError(f"{name} = {pairs[name]}: expected from 1 to {most:g}")
            elif name != "U":
                raise UsageError(f"{name} is missing, expected such as N=8B,D=2T")
    return Run(amounts["N"], amounts["D"], loss=1.0, unique_tokens=amounts.get("U", math.inf))


def _counter(n_means: ParamsConvention) -> CountConfig:
    """N of a configuration as a plan by the law counts it, and its exact training FLOPs per token."""

    def counted(model: str) -> tuple[float, float]:
        summary = count(model).value
        return float(count_params(summary.params, LAW_MEASURE[n_means])), float(summary.flops.training_per_token)

    return counted
