"""Least robust squares for the forms of a law: where to start, batched descent, and a last exact polish.

The objective is the sum over runs of weight times Huber(ln L predicted - ln L measured), plus half a precision
times (theta - mean)^2 for each parameter that has a prior. Nothing here draws a random number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analytic.scaling.forms import ALPHA, BETA, LEAST, LOG_E, LOG_K, MOST, Form, curvature, with_jacobian

if TYPE_CHECKING:
    from analytic.scaling.forms import Array, Mask

GRID = 18  # exponents a side of the grid of starts: finer finds no other minimum
LEAST_EXPONENT, MOST_EXPONENT = 0.04, 1.6
STARTS = 10
STARTING_K = (1.0, 0.6, 0.35)  # the additive form, and what published runs have
_LONGEST_STEP = 3.0
_TINY = 1e-300

Evaluate = Callable[["Array"], "tuple[Array, Array]"]
Curvature = Callable[["Array", "Array"], "Array"]


@dataclass(frozen=True, slots=True)
class Problem:
    """What is minimized.

    Attributes:
        evaluate: ln L, (starts, runs), and its Jacobian, (starts, runs, size), at theta, (starts, size).
        target: ln of the measured losses, (runs,).
        weights: how much each run counts, (runs,), or another set for each start, (starts, runs).
        delta: where Huber's function goes from square to straight.
        mean, precision: of the prior, (size,); precision 0 is no prior.
        least, most: bounds, (size,).
        curvature: the Hessian of ln L summed with weights (runs,), where it is known.
    """

    evaluate: Evaluate
    target: Array
    weights: Array
    delta: float
    mean: Array
    precision: Array
    least: Array
    most: Array
    curvature: Curvature | None = None

    def objective(self, theta: Array, residuals: Array, weights: Array) -> Array:
        """One value a start."""
        size = abs(residuals)
        inside = size.clip(max=self.delta)
        losses = (weights * inside * (size - 0.5 * inside)).sum(-1)
        result: Array = losses + 0.5 * (self.precision * (theta - self.mean) ** 2).sum(-1)
        return result

    def residuals(self, theta: Array) -> tuple[Array, Array]:
        """ln L predicted - ln L measured, (starts, runs), and its Jacobian, (starts, runs, size)."""
        predicted, jacobian = self.evaluate(theta)
        return predicted - self.target, jacobian

    def clipped(self, theta: Array) -> Array:
        result: Array = theta.clip(self.least, self.most)
        return result


def form_problem(form: Form, x: Array, y: Array, target: Array, weights: Array, delta: float) -> Problem:
    """The problem of fitting a form, without a prior, to runs at centred logarithms x and y of N and D."""
    import numpy as np

    return Problem(
        evaluate=lambda theta: with_jacobian(form, theta, x, y),
        target=target,
        weights=weights,
        delta=delta,
        mean=np.zeros(form.size),
        precision=np.zeros(form.size),
        least=np.array([LEAST[i] for i in form.positions]),
        most=np.array([MOST[i] for i in form.positions]),
        curvature=lambda theta, psi: curvature(form, theta, x, y, psi),
    )


def starting_points(form: Form, x: Array, y: Array, target: Array, weights: Array) -> Array:
    """Where to start, (starts, size): the best of a grid of exponents, E, A and B solved for exactly at each.

    Local minima of the grid come first, the best first, then a sample of the rest.
    """
    import numpy as np

    exponents = np.geomspace(LEAST_EXPONENT, MOST_EXPONENT, GRID)
    errors, linear = _variable_projection(x, y, target, weights, exponents, with_e=form.source[LOG_E] is not None)
    padded = np.pad(errors.reshape(GRID, GRID), 1, constant_values=np.inf)
    shifted = [padded[1 + i : 1 + i + GRID, 1 + j : 1 + j + GRID] for i in (-1, 0, 1) for j in (-1, 0, 1)]
    local = (padded[1:-1, 1:-1] <= np.min(shifted, axis=0)).ravel()
    minima = np.flatnonzero(local)[np.argsort(errors[local], kind="stable")]
    chosen = np.concatenate([minima, np.argsort(errors, kind="stable")[:: GRID**2 // 40]])[:STARTS]
    e, a, b = np.log(np.maximum(linear[chosen], 1e-5)).T
    alpha, beta = exponents[chosen // GRID], exponents[chosen % GRID]
    if form.source[ALPHA] == form.source[BETA]:
        alpha = np.sqrt(alpha * beta)
    ks = STARTING_K if form.source[LOG_K] is not None else (1.0,)
    six = np.stack([e, a, alpha, b, beta, 0 * e], axis=-1)
    starts = np.concatenate([six + np.log(k) * np.eye(6)[LOG_K] for k in ks])
    result: Array = starts[:, list(form.positions)]
    return result


def _variable_projection(
    x: Array, y: Array, target: Array, weights: Array, exponents: Array, *, with_e: bool
) -> tuple[Array, Array]:
    """The squared relative error and (E, A, B) >= 0 that give it, for each pair of exponents, alpha major.

    Non-negative least squares in three unknowns is exact by trying every set of them that may be above zero.
    """
    import numpy as np

    pairs = len(exponents) ** 2
    alpha, beta = (grid.ravel() for grid in np.meshgrid(exponents, exponents, indexing="ij"))
    root = np.sqrt(weights)
    relative = root * np.exp(-target)
    ones = np.broadcast_to(relative, (pairs, len(x)))
    terms = [ones, relative * np.exp(-alpha[:, None] * x), relative * np.exp(-beta[:, None] * y)]
    columns = np.stack(terms, axis=1)
    gram, products = columns @ columns.transpose(0, 2, 1), columns @ root
    best, solution = np.full(pairs, np.inf), np.zeros((pairs, 3))
    for free in ([0, 1, 2], [1, 2], [0, 1], [0, 2], [1], [2], [0]):
        if 0 in free and not with_e:
            continue
        square = gram[:, free][:, :, free]
        ridge = np.eye(len(free)) * (1e-13 * square + _TINY)  # two of the columns may be one
        found = np.linalg.solve(square + ridge, products[:, free, None])[..., 0]
        errors = np.where((found >= 0).all(1), root @ root - (found * products[:, free]).sum(1), np.inf)
        better = errors < best
        best[better] = errors[better]
        solution[better] = 0.0
        solution[np.ix_(np.flatnonzero(better), np.array(free))] = found[better]
    return best, solution


def descend(problem: Problem, starts: Array, *, iterations: int = 80, tolerance: float = 1e-11) -> tuple[Array, Array]:
    """Levenberg-Marquardt with Huber's weights from every start at once: theta, (starts, size), and objectives.

    A parameter at a bound that the objective pushes against is left out of the step.
    """
    import numpy as np

    theta = problem.clipped(starts.copy())
    residuals, jacobian = problem.residuals(theta)
    weights = np.broadcast_to(problem.weights, residuals.shape)
    objective = problem.objective(theta, residuals, weights)
    damping, live = np.full(len(theta), 1e-3), np.arange(len(theta))
    for _ in range(iterations):
        at = theta[live]
        step = _step(problem, at, residuals[live], jacobian[live], weights[live], damping[live])
        new = problem.clipped(at + step.clip(-_LONGEST_STEP, _LONGEST_STEP))
        new_residuals, new_jacobian = problem.residuals(new)
        new_objective = problem.objective(new, new_residuals, weights[live])
        better = new_objective < objective[live]
        gain = (objective[live] - new_objective) / np.maximum(objective[live], _TINY)
        kept = live[better]
        theta[kept], jacobian[kept] = new[better], new_jacobian[better]
        residuals[kept], objective[kept] = new_residuals[better], new_objective[better]
        damping[kept] = np.maximum(damping[kept] / 5, 1e-12)
        damping[live[~better]] *= 8
        live = live[~((better & (gain < tolerance)) | (damping[live] > 1e8))]
        if not len(live):
            break
    return theta, objective


def _step(problem: Problem, theta: Array, residuals: Array, jacobian: Array, weights: Array, damping: Array) -> Array:
    """The damped Gauss-Newton step of each start."""
    import numpy as np

    w = weights * np.minimum(1, problem.delta / np.maximum(abs(residuals), _TINY))
    weighted = jacobian * w[..., None]
    gradient = (weighted.transpose(0, 2, 1) @ residuals[..., None])[..., 0] + problem.precision * (theta - problem.mean)
    hessian = weighted.transpose(0, 2, 1) @ jacobian + np.diag(problem.precision)
    stuck = pressed(problem, theta, gradient)
    gradient[stuck] = 0.0
    hessian[stuck] = 0.0
    hessian.transpose(0, 2, 1)[stuck] = 0.0
    diagonal = np.einsum("spp->sp", hessian)
    added = damping[:, None] * diagonal + 1e-14 * diagonal.max(1, keepdims=True) + _TINY
    added[stuck] = 1.0
    step: Array = -np.linalg.solve(hessian + added[:, :, None] * np.eye(theta.shape[1]), gradient[..., None])[..., 0]
    return step


def pressed(problem: Problem, theta: Array, gradient: Array) -> Mask:
    """Which parameters are at a bound, and would go beyond it downhill."""
    result: Mask = ((theta <= problem.least) & (gradient > 0)) | ((theta >= problem.most) & (gradient < 0))
    return result


def polish(problem: Problem, theta: Array, *, iterations: int = 100) -> tuple[Array, float]:
    """Newton's method with the exact Hessian from one theta, (size,), to the last digits of the minimum.

    Negative curvature is turned over, and a step that does not descend is damped: never worse than the start.
    """
    import numpy as np

    assert problem.curvature is not None
    damping = 0.0
    residuals, jacobian = problem.residuals(theta[None])
    objective = problem.objective(theta[None], residuals, problem.weights)
    for _ in range(iterations):
        r, j = residuals[0], jacobian[0]
        psi = problem.weights * r.clip(-problem.delta, problem.delta)
        gradient = psi @ j + problem.precision * (theta - problem.mean)
        square = problem.weights * (abs(r) <= problem.delta)
        hessian = (j * square[:, None]).T @ j + problem.curvature(theta, psi) + np.diag(problem.precision)
        free = ~pressed(problem, theta, gradient)
        values, vectors = np.linalg.eigh(hessian[np.ix_(free, free)])
        floor = 1e-14 * abs(values).max(initial=_TINY)
        step = np.zeros_like(theta)
        step[free] = -vectors @ ((vectors.T @ gradient[free]) / (np.maximum(abs(values), floor) + damping))
        new = problem.clipped(theta + step.clip(-_LONGEST_STEP, _LONGEST_STEP))
        new_residuals, new_jacobian = problem.residuals(new[None])
        new_objective = problem.objective(new[None], new_residuals, problem.weights)
        if new_objective < objective:
            theta, residuals, jacobian, objective = new, new_residuals, new_jacobian, new_objective
            damping = damping / 8 if damping > 1e-12 * abs(values).max(initial=_TINY) else 0.0
        elif damping > 1e4 * abs(values).max(initial=_TINY):
            break
        else:
            damping = max(8 * damping, 1e-6 * float(abs(values).max(initial=_TINY)))
    return theta, float(objective[0])
