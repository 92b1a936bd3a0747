"""How fast a law is fitted, and how well: next to what others use, on the same runs and in the same process.

The grids of others take minutes. They are timed on every `SHARE`-th of their starts, and the row says so.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import math
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from analytic.scaling.comparison import EPOCH
from analytic.scaling.fit import EPOCH_DELTA, fit_law
from analytic.scaling.prior import shipped_runs
from analytic.scaling.runs import Run, read_runs

SHARE = 50  # one of so many starts is timed
# Besiroglu et al. 2024, arXiv:2404.10102, their notebook: alpha and beta, ln E, ln A and ln B.
_EXPONENTS, _LOG_TERMS = [0, 0.5, 1, 1.5, 2], [0, 5, 10, 15, 20, 25]
EPOCH_GRID = (_EXPONENTS, _EXPONENTS, [-1, -0.5, 0, 0.5, 1], _LOG_TERMS, _LOG_TERMS)
WHOLE_GRID = (
    "over the whole grid, measured earlier on 240 points: kyo-takano/chinchilla 0.2.0 takes 205 s on two processes to "
    "1.01827438e-3, L-BFGS-B 23.3 s to 1.018274017812e-3"
)


def law_rows(repeats: int) -> list[dict[str, object]]:
    """One fit of the additive form by Epoch's objective, and the same by the grids of others."""
    runs = bench_runs()
    ours, objective = timed(lambda: fit_law(runs, EPOCH).objective, repeats)
    rows = [row(f"law fit: {len(runs)} runs, additive, Huber 1e-3", ours, objective, ours)]
    for name, seconds, found in peers(runs):
        rows.append(row(name, seconds, found, ours))
    return rows


def row(name: str, seconds: float, objective: float, ours: float) -> dict[str, object]:
    what = f"{name}: objective {objective:.12g}"
    if seconds != ours:
        what += f" is the least of those, {seconds / ours:,.0f} x as long as ours"
    return {"what": what, "median_s": seconds, "objective": objective}


@contextlib.contextmanager
def simulated_file(count: int) -> Iterator[str]:
    """A CSV of so many noisy runs over four decades of compute."""
    draw = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "runs.csv"
        lines = ["N,D,loss"]
        for _ in range(count):
            params, ratio = 10 ** draw.uniform(7.5, 9.5), 10 ** draw.uniform(0.5, 2)
            loss = (1.8 + 480 / params**0.35 + 2100 / (ratio * params) ** 0.37) * math.exp(draw.gauss(0, 0.005))
            lines.append(f"{params},{ratio * params},{loss}")
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        yield str(path)


def bench_runs() -> Sequence[Run]:
    """Epoch's points where CHINCHILLA_CSV names them, without the five highest losses; else the largest shipped set."""
    path = os.environ.get("CHINCHILLA_CSV")
    if path is None:
        return max(shipped_runs().values(), key=len)
    runs = read_runs(Path(path))
    fifth = sorted(run.loss for run in runs)[-5]
    return [run for run in runs if run.loss < fifth]


def timed(work: Callable[[], float], repeats: int) -> tuple[float, float]:
    """The median of seconds, and what the work returned."""
    seconds = []
    for _ in range(repeats):
        begun = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds), result


def peers(runs: Sequence[Run]) -> Iterator[tuple[str, float, float]]:
    """The name of each, the seconds of its whole grid, and the least objective that the starts timed found."""
    starts = list(itertools.product(*EPOCH_GRID))
    seconds, objective = timed(lambda: by_lbfgs(runs, starts[::SHARE]), 1)
    timed_on = f"{len(starts):,} starts, timed on {len(starts[::SHARE])}"
    yield f"scipy's L-BFGS-B, {timed_on}", seconds * len(starts) / len(starts[::SHARE]), objective
    try:
        version = metadata.version("chinchilla")
    except metadata.PackageNotFoundError:
        return
    grid = [axis[:: len(axis) - 1] for axis in EPOCH_GRID]  # both ends of each axis
    count = 2 ** len(grid)
    seconds, objective = timed(lambda: by_chinchilla(runs, grid), 1)
    timed_on = f"{len(starts):,} starts, timed on {count}"
    yield f"kyo-takano/chinchilla {version}, BFGS, {timed_on}", seconds * len(starts) / count, objective


def by_lbfgs(runs: Sequence[Run], starts: Sequence[Sequence[float]]) -> float:
    """The notebook's way: L-BFGS-B on the sum of Huber's loss, with its gradient, from every start."""
    import numpy as np
    from scipy import optimize

    x, y, target = np.log([(run.params, run.tokens, run.loss) for run in runs]).T

    def objective(theta: np.ndarray) -> tuple[float, np.ndarray]:
        alpha, beta, e, a, b = theta
        terms = np.stack([np.full_like(x, e), a - alpha * x, b - beta * y])
        predicted = np.logaddexp.reduce(terms)
        shares, residuals = np.exp(terms - predicted), predicted - target
        psi = residuals.clip(-EPOCH_DELTA, EPOCH_DELTA)
        value = (psi * (residuals - psi / 2)).sum()
        slopes = np.stack([-x * shares[1], -y * shares[2], *shares])
        return float(value), slopes @ psi

    return min(float(optimize.minimize(objective, start, jac=True, method="L-BFGS-B").fun) for start in starts)


def by_chinchilla(runs: Sequence[Run], grid: Sequence[Sequence[float]]) -> float:
    """The package's own fit, on all cores as it does; its objective is a mean."""
    import chinchilla  # type: ignore[import-not-found]
    import numpy as np
    from chinchilla._metrics import log_huber  # type: ignore[import-not-found]

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        names = dict(zip(("alpha", "beta", "e", "a", "b"), map(list, grid), strict=True))
        model = chinchilla.Chinchilla(
            folder,
            param_grid={name: names[name] for name in ("e", "a", "b", "alpha", "beta")},
            loss_fn=lambda true, predicted: log_huber(true, predicted, delta=EPOCH_DELTA),
            log_level=40,
        )
        for run in runs:
            model.database.append(C=run.flops, N=run.params, D=run.tokens, loss=run.loss)
        model.fit(simulation=True)
    residuals = np.array(
        [np.log(float(model.predict_loss(run.params, run.tokens)) / run.loss) for run in runs], dtype=float
    )
    psi = residuals.clip(-EPOCH_DELTA, EPOCH_DELTA)
    return float((psi * (residuals - psi / 2)).sum())


if __name__ == "__main__":
    for one in law_rows(5):
        print(f"{one['median_s']:10.4f} s  {one['what']}")
    print(WHOLE_GRID)
