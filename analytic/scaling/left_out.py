"""What a law of small runs is worth where the large ones are there to check it, on families that its prior never saw.

python -m analytic.scaling.left_out --few-runs 8   errors from so few random runs
python -m analytic.scaling.left_out --regret 1     what the N chosen costs against measured isoFLOP curves
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from analytic.scaling.backtest import abs_error
from analytic.scaling.comparison import EPOCH
from analytic.scaling.fit import FitOptions, fit_law, kept_runs
from analytic.scaling.fitted_plan import near_optimal
from analytic.scaling.intervals import SAME_BUDGET, can_fit, fit_with_intervals, split
from analytic.scaling.prior import Theta, family, fitted_alone, mean_over_families, prior_of, shipped_runs
from analytic.scaling.runs import Run

DECADES = 1.0  # between the runs that few are drawn from and the largest
DRAWS = 24
LEAST_SIZES = 5  # of a budget whose best N can be read off
NEAR = math.log(4.0)  # runs whose ln N is this close to that of the best one decide the parabola
TOKENS_PER_PARAM = 20.0


@dataclass(frozen=True, slots=True)
class FewRuns:
    """Errors of the larger runs by laws of a few smaller ones: the median over draws of the median over runs.

    Attributes:
        coverage_80, coverage_95: the part of all losses inside the intervals.
    """

    ours: float
    additive: float
    coverage_80: float
    coverage_95: float


@dataclass(frozen=True, slots=True)
class Regret:
    """What choices of N cost at one budget, in mnat above the least of the measured curve; by name of the choice.

    Attributes:
        in_band: whether the measured best N is within the band that costs 5 mnat by the law.
    """

    costs: Mapping[str, float]
    in_band: bool


@dataclass(frozen=True, slots=True)
class Parabola:
    """Loss over ln N at one budget: level + bend (ln N - center)^2."""

    center: float
    level: float
    bend: float

    def mnat_above(self, params: float) -> float:
        return 1000 * self.bend * (math.log(params) - self.center) ** 2


def few_runs(runs: Sequence[Run], options: FitOptions, count: int, seed: int = 0) -> FewRuns:
    """Laws of `count` random runs a decade below the largest."""
    smaller, larger = split(kept_runs(runs, options), DECADES)
    generator, ours, additive, inside = random.Random(seed), [], [], []
    for _ in range(DRAWS):
        drawn = generator.sample(smaller, min(count, len(smaller)))
        if not can_fit(drawn, options):
            continue
        predictions = fit_with_intervals(drawn, options).predict_runs(larger)
        ours.append(statistics.median(map(abs_error, predictions, larger)))
        inside += [
            (p.low_80 <= run.loss <= p.high_80, p.low_95 <= run.loss <= p.high_95)
            for p, run in zip(predictions, larger, strict=True)
        ]
        loss = fit_law(drawn, EPOCH).coefficients.loss
        additive.append(statistics.median(abs(loss(run.params, run.tokens) / run.loss - 1) for run in larger))
    in_80, in_95 = (statistics.fmean(column) for column in zip(*inside, strict=True))
    return FewRuns(statistics.median(ours), statistics.median(additive), in_80, in_95)


def regrets(runs: Sequence[Run], options: FitOptions, decades: float) -> Iterator[Regret]:
    """At each budget above the cut whose best N was measured, what the choices of the runs below it cost."""
    smaller, larger = split(kept_runs(runs, options), decades)
    ours, additive = fit_law(smaller, options), fit_law(smaller, EPOCH)
    frontier = _parabolas_frontier(smaller)
    for flops, measured in isoflops(larger):
        best = ours.coefficients.best_params(flops)
        chosen = {
            "ours": best,
            "additive": additive.coefficients.best_params(flops),
            "parabolas": math.exp(frontier[0] + frontier[1] * math.log(flops)) if frontier else math.nan,
            "D = 20 N": math.sqrt(flops / 6 / TOKENS_PER_PARAM),
        }
        low, high = near_optimal(ours, flops, best)
        costs = {name: measured.mnat_above(params) for name, params in chosen.items()}
        yield Regret(costs, low <= math.exp(measured.center) <= high)


def isoflops(runs: Sequence[Run]) -> Iterator[tuple[float, Parabola]]:
    """Each budget with enough sizes whose best one is between others, and its loss over ln N."""
    budgets: list[list[Run]] = []
    for run in sorted(runs, key=lambda run: run.flops):
        if budgets and run.flops <= SAME_BUDGET * budgets[-1][0].flops:
            budgets[-1].append(run)
        else:
            budgets.append([run])
    for budget in budgets:
        parabola = _parabola(budget)
        if parabola is not None:
            yield statistics.fmean(run.flops for run in budget), parabola


def _parabola(budget: Sequence[Run]) -> Parabola | None:
    import numpy as np

    best = min(budget, key=lambda run: run.loss)
    near = [run for run in budget if abs(math.log(run.params / best.params)) <= NEAR]
    if len({run.params for run in near}) < LEAST_SIZES:
        return None
    bend, slope, level = np.polyfit([math.log(run.params / best.params) for run in near], [r.loss for r in near], 2)
    middle = -slope / (2 * bend)
    if bend <= 0 or abs(middle) > NEAR:
        return None
    return Parabola(math.log(best.params) + float(middle), float(level - bend * middle**2), float(bend))


def _parabolas_frontier(runs: Sequence[Run]) -> tuple[float, float] | None:
    """ln of the best N as a straight line in ln C (approach 2 of Hoffmann et al.); None of fewer than two budgets."""
    found = [(math.log(flops), parabola.center) for flops, parabola in isoflops(runs)]
    if len(found) < 2:
        return None
    slope, intercept = statistics.linear_regression(*zip(*found, strict=True))
    return intercept, slope


def options_without(name: str, thetas: Mapping[str, Theta]) -> FitOptions:
    """The coupled form with the prior of every other family."""
    return FitOptions(prior=prior_of({other: t for other, t in thetas.items() if family(other) != family(name)}))


def few_runs_table(count: int) -> str:
    """A row a set, and the mean over families."""
    sets = shipped_runs()
    thetas = {name: fitted_alone(runs) for name, runs in sets.items()}
    found = {name: few_runs(runs, options_without(name, thetas), count) for name, runs in sets.items()}
    rows = {name: (one.ours, one.additive, one.coverage_80, one.coverage_95) for name, one in found.items()}
    head = f"{f'from {count} runs':28}{'ours':>8}{'additive':>10}{'in 80%':>8}{'in 95%':>8}"
    means = {**rows, "mean over families": mean_over_families(rows)}
    return "\n".join([head, *(f"{name:28}{a:8.2%}{b:10.2%}{c:8.0%}{d:8.0%}" for name, (a, b, c, d) in means.items())])


def regret_table(decades: float) -> str:
    sets = shipped_runs()
    thetas = {name: fitted_alone(runs) for name, runs in sets.items()}
    found = [one for name, runs in sets.items() for one in regrets(runs, options_without(name, thetas), decades)]
    rows = [f"{len(found)} budgets, mnat{'mean':>11}{'worst':>8}"]
    for name in found[0].costs if found else ():
        costs = [one.costs[name] for one in found]
        rows.append(f"{name:20}{statistics.fmean(costs):8.1f}{max(costs):8.1f}")
    share = statistics.fmean(one.in_band for one in found) if found else math.nan
    return "\n".join([*rows, f"best N within the band of 5 mnat: {share:.0%}"])


def main(arguments: Sequence[str] | None = None) -> None:
    """The command of this module."""
    parser = argparse.ArgumentParser(prog="python -m analytic.scaling.left_out", description=__doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--few-runs", type=int, metavar="RUNS", help="errors from so few random runs")
    which.add_argument("--regret", type=float, metavar="DECADES", help="what the N chosen costs so far away")
    options = parser.parse_args(arguments)
    print(few_runs_table(options.few_runs) if options.few_runs is not None else regret_table(options.regret))


if __name__ == "__main__":
    main()
