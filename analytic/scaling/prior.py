"""What published runs say about the law of runs that are not there yet.

Four numbers differ little between families of runs: ln of E over the least loss, alpha, beta and ln k. Their median
over families and 0.6 of their spread are
the prior of the coupled form. Anyone can repeat it from the runs that ship:

    python -m analytic.scaling.prior                    the prior
    python -m analytic.scaling.prior --write            the same, into configs/laws/prior.toml
    python -m analytic.scaling.prior --leave-one-out 1  runs a decade larger, by priors that saw no run of the family
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from analytic.errors import FileError
from analytic.io.files import configs_dir, read_toml, write_files
from analytic.io.keys import Keys
from analytic.scaling.backtest import HoldOut, hold_out
from analytic.scaling.fit import MAD_TO_SIGMA, FitOptions, Prior, fit_law
from analytic.scaling.forms import ALPHA, BETA, LOG_E, LOG_K, NAMES
from analytic.scaling.runs import Columns, Run, read_runs

POSITIONS = (LOG_E, ALPHA, BETA, LOG_K)
LEAST_SPREAD = {LOG_E: 0.1, ALPHA: 0.05, BETA: 0.05, LOG_K: 0.2}  # few families can agree by chance
WIDTH = 0.6  # of the spread: on families left out, all of it predicts worse, and so does a third
ONE_EPOCH = 1.001  # tokens seen over unique ones, rounded

Theta = Mapping[int, float]


def shipped_runs() -> dict[str, tuple[Run, ...]]:
    """The shipped sets of runs by name, those alone that repeat no data."""
    columns = Columns(unique_tokens="unique_tokens")
    paths = sorted((configs_dir() / "laws" / "runs").glob("*.csv"))
    read = {path.stem: read_runs(path, columns) for path in paths}
    return {name: tuple(filter(_of_one_epoch, runs)) for name, runs in read.items()}


def _of_one_epoch(run: Run) -> bool:
    return run.tokens <= ONE_EPOCH * run.unique_tokens


def family(name: str) -> str:
    """The family of a shipped set."""
    return name.split("-", maxsplit=1)[0]


def fitted_alone(runs: Sequence[Run]) -> Theta:
    """The four numbers of one set, by a fit without a prior."""
    fit = fit_law(runs, FitOptions(form="coupled"))
    least = min(run.loss for run in fit.runs)
    return {i: fit.theta[i] - (math.log(least) if i == LOG_E else 0.0) for i in POSITIONS}


def prior_of(thetas: Mapping[str, Theta]) -> Prior:
    """The prior of sets by name: a family counts once, by the mean of its sets.

    The spread is the larger of 1.4826 times the median deviation from the median and 0.7 standard deviations:
    a family apart must neither set it alone nor go unseen.
    """
    families = sorted({family(name) for name in thetas})
    moments = {}
    for i in POSITIONS:
        values = [statistics.fmean(t[i] for name, t in thetas.items() if family(name) == one) for one in families]
        median = statistics.median(values)
        deviation = MAD_TO_SIGMA * statistics.median(abs(value - median) for value in values)
        spread = max(deviation, 0.7 * statistics.stdev(values), LEAST_SPREAD[i])
        moments[i] = (median, WIDTH * spread)
    return Prior(moments, tuple(families))


def leave_one_out(sets: Mapping[str, Sequence[Run]], decades: float) -> dict[str, HoldOut]:
    """Each set's larger runs by its smaller ones and the prior of the other families."""
    thetas = {name: fitted_alone(runs) for name, runs in sets.items()}
    found = {}
    for name, runs in sets.items():
        others = {other: theta for other, theta in thetas.items() if family(other) != family(name)}
        found[name] = hold_out(runs, decades, FitOptions(prior=prior_of(others)))
    return found


def load_prior(path: Path | None = None) -> Prior:
    """The prior of a TOML file; by default the shipped one.

    Raises:
        FileError: naming the path, the key, the value and what was expected.
    """
    path = path or prior_path()
    where = ""
    try:
        file = Keys(read_toml(path))
        names = {NAMES[i]: i for i in POSITIONS}
        file.allow(("families", *names))
        families = file.config.get("families", [])
        if type(families) is not list or any(type(one) is not str for one in families):
            file.reject("families", families, "a list of strings")
        moments = {}
        for name, i in names.items():
            where = ""
            section = file.section(name)
            if section is not None:
                where = f"{name}."
                section.allow(("mean", "sd"))
                section.require(("mean", "sd"), "prior")
                moments[i] = (section.number("mean", least=-100, most=100), section.number("sd", most=100))
    except FileError as error:
        raise error if str(error).startswith(f"{path}:") else FileError(f"{path}: {where}{error}") from None
    return Prior(moments, tuple(families))


def prior_path() -> Path:
    return configs_dir() / "laws" / "prior.toml"


def as_toml(prior: Prior) -> str:
    """The text of a prior's file."""
    lines = [
        "# What published families of runs say about a law of the coupled form: see analytic/scaling/prior.py, which",
        "# computes this file. log_E is relative to ln of the least loss fitted.",
        f"families = {json.dumps(prior.families)}",
    ]
    for i, (mean, deviation) in prior.moments.items():
        lines += ["", f"[{NAMES[i]}]", f"mean = {mean:.4f}", f"sd = {deviation:.4f}"]
    return "\n".join(lines) + "\n"


def table(found: Mapping[str, HoldOut]) -> str:
    """A row a set, and means: over sets, over families, and of every run held out."""
    head = f"{'runs':28}{'fitted':>8}{'held out':>9}{'median':>9}{'largest':>9}{'in 80%':>8}{'in 95%':>8}{'width':>8}"
    rows = [head]
    for name, one in found.items():
        rows.append(f"{name:28}{one.fitted:8}{one.runs:9}" + _shares(*_figures(one)))
    figures = {name: _figures(one) for name, one in found.items()}
    by_sets = tuple(statistics.fmean(column) for column in zip(*figures.values(), strict=True))
    rows.append(f"{'mean over sets':45}" + _shares(*by_sets))
    rows.append(f"{'mean over families':45}" + _shares(*mean_over_families(figures)))
    runs = sum(one.runs for one in found.values())
    in_80 = sum(one.runs * one.coverage_80 for one in found.values()) / runs
    in_95 = sum(one.runs * one.coverage_95 for one in found.values()) / runs
    rows.append(f"{f'of all {runs} runs held out':63}{in_80:8.0%}{in_95:8.0%}")
    return "\n".join(rows)


def mean_over_families(rows: Mapping[str, tuple[float, ...]]) -> tuple[float, ...]:
    """The mean of each column, where a family counts once by the mean of its sets."""
    families: dict[str, list[tuple[float, ...]]] = {}
    for name, row in rows.items():
        families.setdefault(family(name), []).append(row)
    means = [[statistics.fmean(column) for column in zip(*those, strict=True)] for those in families.values()]
    return tuple(statistics.fmean(column) for column in zip(*means, strict=True))


def _figures(one: HoldOut) -> tuple[float, ...]:
    return one.median_abs_error, one.largest_abs_error, one.coverage_80, one.coverage_95, one.width_95


def _shares(median: float, largest: float, in_80: float, in_95: float, width: float) -> str:
    return f"{median:9.2%}{largest:9.2%}{in_80:8.0%}{in_95:8.0%}{width:8.1%}"


def main(arguments: Sequence[str] | None = None) -> None:
    """The command of this module."""
    parser = argparse.ArgumentParser(prog="python -m analytic.scaling.prior", description="the prior of law fit")
    parser.add_argument("--write", action="store_true", help="write it into configs/laws/prior.toml")
    parser.add_argument("--leave-one-out", type=float, metavar="DECADES", help="check it on families left out")
    options = parser.parse_args(arguments)
    sets = shipped_runs()
    if options.leave_one_out is not None:
        print(table(leave_one_out(sets, options.leave_one_out)))
        return
    text = as_toml(prior_of({name: fitted_alone(runs) for name, runs in sets.items()}))
    print(text, end="")
    if options.write:
        write_files({prior_path(): text.encode()})


if __name__ == "__main__":
    main()
