"""What the reader of a fitted law has to be warned of."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from analytic.report.law_result import LawFit, plain
from analytic.report.units import compact
from analytic.scaling.backtest import LEAST_TO_JUDGE_BY
from analytic.scaling.fitted_plan import FARTHEST_USEFUL_DECADES
from analytic.scaling.forms import LOG_K
from analytic.scaling.intervals import FittedLaw
from analytic.scaling.runs import Run

FEW_RUNS = 8  # fewer were not tried on published families
SHARE_OF_PRIOR = 0.8  # of the prior's standard deviation: above it the runs have said nothing
CHECKED_DECADES = 1.0  # at which coverage was measured on families left out
SHOWN_SCHEDULES, SHOWN_CHARACTERS = 4, 20


def law_fit_warnings(result: LawFit) -> Iterator[str]:
    """One line each."""
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
    far = [beyond for beyond in map(result.decades_beyond, result.predicted) if beyond > CHECKED_DECADES]
    if far:
        yield (
            f"{len(far)} of the runs predicted are beyond {CHECKED_DECADES:g} decade, at most {max(far):.1f}: "
            f"intervals were checked at {CHECKED_DECADES:g}"
        )
    if fit.options.form == "coupled":
        yield from _of_k(result.law)
    yield from _of_schedules(fit.runs)
    yield from _of_other_laws(result)


def _of_k(law: FittedLaw) -> Iterator[str]:
    prior, deviation = law.fit.options.prior, math.sqrt(law.fit.covariance[LOG_K][LOG_K])
    if prior is None:
        yield "coupled form without a prior: small runs alone predicted published larger ones 8 to 15% too low"
    elif LOG_K in prior.moments and deviation >= SHARE_OF_PRIOR * prior.moments[LOG_K][1]:
        yield (
            f"k is not identified: the runs leave ln k a standard deviation of {deviation:.3f}, not below "
            f"{SHARE_OF_PRIOR} of the prior's {prior.moments[LOG_K][1]:.3f}"
        )


def _of_schedules(runs: Sequence[Run]) -> Iterator[str]:
    by_schedule: dict[str, list[Run]] = {}
    for run in runs:
        by_schedule.setdefault(run.schedule, []).append(run)
    if len(by_schedule) == 1:
        return
    shown = [
        f"{plain(name)[:SHOWN_CHARACTERS] or 'not stated'} ({len(those)}, up to {max(r.flops for r in those):.2g} FLOP)"
        for name, those in list(by_schedule.items())[:SHOWN_SCHEDULES]
    ]
    yield (
        f"{len(by_schedule)} schedules: {', '.join(shown)}: where small and large runs differ in their schedule, "
        "no law holds, and only kappa notices"
    )


def _of_other_laws(result: LawFit) -> Iterator[str]:
    """One warning a law that disagrees, at the prediction where it does so most."""
    for name in dict.fromkeys(one.name for one in result.comparisons):
        apart = [one for one in result.comparisons if one.name == name and one.disagrees]
        if apart:
            worst = max(apart, key=lambda one: abs(math.log(one.loss / one.predicted.loss)))
            p = worst.predicted
            yield (
                f"{name} of the same runs says {worst.loss:.3f} at N {compact(p.params)}, D {compact(p.tokens)}, "
                f"outside the 80% interval {p.low_80:.3f} to {p.high_80:.3f}"
            )
