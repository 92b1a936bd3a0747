"""The forms of a law that is fitted to runs, and their exact derivatives.

Every form here is a special case of one function of six parameters,

    L(N, D) = E + ((A N^-alpha)^(1/k) + (B D^-beta)^(1/k))^k,

the coupled form (Videau et al. 2026, the PyPI package simple-scaling-laws). k = 1 is the additive form of
Hoffmann et al. (arXiv:2203.15556, eq. 10); k -> 0 leaves the larger of the two terms. A form says which of the six
are free, so one function, one Jacobian and one Hessian serve all of them.

The parameters are ln E, ln A, alpha, ln B, beta, ln k, where A and B are taken at the geometric mean of N and D:
in these centred logarithms the problem is well conditioned. Arrays are numpy's; theta is (starts, parameters).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from numpy import bool_, float64
    from numpy.typing import NDArray

    Array = NDArray[float64]
    Mask = NDArray[bool_]

FormName = Literal["coupled", "additive", "tied", "zero_e"]

NAMES = ("log_E", "log_A", "alpha", "log_B", "beta", "log_k")
LOG_E, LOG_A, ALPHA, LOG_B, BETA, LOG_K = range(6)
# E below e^-12 = 6e-6 nats is no loss at all; k from 0.05 to 4.5 is wider than any set of runs can tell apart.
LEAST = (-12.0, -50.0, 1e-3, -50.0, 1e-3, -3.0)
MOST = (8.0, 50.0, 4.0, 50.0, 4.0, 1.5)
FARTHEST = 100.0  # ln of the largest N that is looked at, and of the least
LOG_NOTHING = -1000.0  # ln E of E = 0: exp of it is 0 in double precision


@dataclass(frozen=True, slots=True)
class Form:
    """Which of the six parameters are free.

    Attributes:
        source: for each of the six, the index of the free parameter that it equals, or None where it is fixed.
        fixed: the value of each that is fixed.
    """

    name: FormName
    source: tuple[int | None, ...]
    fixed: tuple[float, ...] = (LOG_NOTHING, 0.0, 0.0, 0.0, 0.0, 0.0)

    @property
    def size(self) -> int:
        """The number of free parameters."""
        return 1 + max(index for index in self.source if index is not None)

    @property
    def positions(self) -> tuple[int, ...]:
        """Of each free parameter, the first of the six that it is."""
        return tuple(self.source.index(index) for index in range(self.size))

    def matrix(self) -> Array:
        """The derivative of the six by the free ones, (6, size)."""
        import numpy as np

        matrix = np.zeros((6, self.size))
        for row, index in enumerate(self.source):
            if index is not None:
                matrix[row, index] = 1.0
        return matrix

    def full(self, theta: Array) -> Array:
        """All six parameters, (..., 6), from the free ones, (..., size)."""
        import numpy as np

        columns = [
            np.full(theta.shape[:-1], fixed) if index is None else theta[..., index]
            for index, fixed in zip(self.source, self.fixed, strict=True)
        ]
        return np.stack(columns, axis=-1)


FORMS: dict[FormName, Form] = {
    "coupled": Form("coupled", (0, 1, 2, 3, 4, 5)),
    "additive": Form("additive", (0, 1, 2, 3, 4, None)),
    "tied": Form("tied", (0, 1, 2, 3, 2, None)),
    "zero_e": Form("zero_e", (None, 0, 1, 2, 3, None)),
}


@dataclass(frozen=True, slots=True)
class Parts:
    """ln L and what its derivatives are made of, each (starts, runs).

    Attributes:
        log_reducible: ln of the loss above E.
        share: the part of the loss that is above E.
        by_params, by_tokens: the shares of the two terms inside the power, which add up to 1.
        gap: ln of the one term over the other.
        k: (starts, 1).
    """

    log_loss: Array
    log_reducible: Array
    share: Array
    by_params: Array
    by_tokens: Array
    gap: Array
    k: Array


def parts(six: Array, x: Array, y: Array) -> Parts:
    """ln L at x = ln N and y = ln D, both centred, (runs,), for each row of `six`, (starts, 6)."""
    import numpy as np

    e, a, alpha, b, beta, log_k = (six[:, i, None] for i in range(6))
    k = np.exp(log_k)
    by_params, by_tokens = a - alpha * x, b - beta * y
    power = np.logaddexp(by_params / k, by_tokens / k)
    log_reducible = k * power
    log_loss = np.logaddexp(e, log_reducible)
    return Parts(
        log_loss=log_loss,
        log_reducible=log_reducible,
        share=np.exp(log_reducible - log_loss),
        by_params=np.exp(by_params / k - power),
        by_tokens=np.exp(by_tokens / k - power),
        gap=by_params - by_tokens,
        k=k,
    )


def log_loss(form: Form, theta: Array, x: Array, y: Array) -> Array:
    """ln L, (starts, runs)."""
    return parts(form.full(theta), x, y).log_loss


def with_jacobian(form: Form, theta: Array, x: Array, y: Array) -> tuple[Array, Array]:
    """ln L, (starts, runs), and its derivatives by the free parameters, (starts, runs, size)."""
    import numpy as np

    p = parts(form.full(theta), x, y)
    six = p.share[..., None] * _reducible_jacobian(p, x, y)
    six[..., LOG_E] = np.exp(form.full(theta)[:, LOG_E, None] - p.log_loss)
    return p.log_loss, _collected(form, six)


def curvature(form: Form, theta: Array, x: Array, y: Array, weights: Array) -> Array:
    """The sum over runs of weights times the Hessian of ln L by the free parameters, (size, size), of one theta.

    With t = ln(L - E), s its share of L and q1, q2 the shares inside the power,
    d2 ln L = s (1 - s) v v' + s (q1 q2 / k w w' + (t - q1 z1 - q2 z2) u u'): v = dt - d ln E,
    w = dz1 - dz2 - (z1 - z2) d ln k, u = d ln k, with z1 = ln A - alpha x and z2 = ln B - beta y.
    """
    import numpy as np

    p = parts(form.full(theta[None]), x, y)
    v = _reducible_jacobian(p, x, y)[0]
    entropy = v[:, LOG_K].copy()
    v[:, LOG_E] = -1.0
    w = np.stack([0 * x, 1 + 0 * x, -x, -1 + 0 * x, y, -p.gap[0]], axis=-1)
    share, mixing = p.share[0], (p.by_params * p.by_tokens / p.k)[0]
    hessian = (v * (weights * share * (1 - share))[:, None]).T @ v
    hessian += (w * (weights * share * mixing)[:, None]).T @ w
    hessian[LOG_K, LOG_K] += weights @ (share * entropy)
    matrix = form.matrix()
    result: Array = matrix.T @ hessian @ matrix
    return result


def _reducible_jacobian(p: Parts, x: Array, y: Array) -> Array:
    """The derivatives of ln(L - E) by the six parameters, (starts, runs, 6); by ln k it is k times an entropy."""
    import numpy as np

    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -sum(np.where(q > 0, q * np.log(q), 0.0) for q in (p.by_params, p.by_tokens))
    columns = [0 * p.share, p.by_params, -x * p.by_params, p.by_tokens, -y * p.by_tokens, p.k * entropy]
    return np.stack(columns, axis=-1)


def _collected(form: Form, six: Array) -> Array:
    """Derivatives by the six as derivatives by the free parameters."""
    if form.name == "coupled":
        return six
    result: Array = six @ form.matrix()
    return result


@dataclass(frozen=True, slots=True)
class Coefficients:
    """A law as people write it: L = E + ((A N^-alpha)^(1/k) + (B D^-beta)^(1/k))^k, in nats per token."""

    e: float
    a: float
    b: float
    alpha: float
    beta: float
    k: float

    def loss(self, params: float, tokens: float) -> float:
        """Nats per token of N parameters after D tokens."""
        first = math.log(self.a) - self.alpha * math.log(params)
        second = math.log(self.b) - self.beta * math.log(tokens)
        larger, smaller = max(first, second), min(first, second)
        return self.e + math.exp(larger + self.k * math.log1p(math.exp((smaller - larger) / self.k)))

    def best_params(self, flops: float) -> float:
        """The N of least loss at C = 6 N D: N^(alpha + beta) = (alpha / beta)^k A / B (C / 6)^beta.

        A law that hardly depends on N and D has its optimum beyond all reason; it is cut where a float holds it.
        """
        log_ratio = self.k * math.log(self.alpha / self.beta) + math.log(self.a) - math.log(self.b)
        log_params = (log_ratio + self.beta * math.log(flops / 6)) / (self.alpha + self.beta)
        return math.exp(min(max(log_params, -FARTHEST), FARTHEST))
