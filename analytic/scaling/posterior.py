"""What a fit knows of its own error, without its runs: what a law's file carries for the intervals of a plan."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analytic.scaling.forms import FORMS, LOG_NOTHING, Coefficients, Form, FormName, log_loss, with_jacobian

if TYPE_CHECKING:
    from analytic.scaling.forms import Array


class Predictive:
    """Parameters of a form with their covariance, and what follows for ln L.

    Attributes:
        theta: the free parameters of the form, at the centre.
        center: mean ln N and mean ln D of the runs.
        covariance: of theta, sigma^2 times the inverse of the Hessian, the prior included.
        sigma: the scatter of ln L about the law, one standard deviation.
    """

    __slots__ = ()
    theta: tuple[float, ...]
    center: tuple[float, float]
    covariance: tuple[tuple[float, ...], ...]
    sigma: float

    @property
    def form(self) -> Form:
        raise NotImplementedError

    @property
    def most_flops(self) -> float:
        """Of the largest run."""
        raise NotImplementedError

    @property
    def coefficients(self) -> Coefficients:
        """At N and D themselves."""
        import numpy as np

        return coefficients(self.form, np.array(self.theta), self.center)

    def log_loss(self, params: Array, tokens: Array) -> Array:
        """ln L at each pair of N and D."""
        import numpy as np

        result: Array = log_loss(self.form, np.array([self.theta]), *self.centered(params, tokens))[0]
        return result

    def centered(self, params: Array, tokens: Array) -> tuple[Array, Array]:
        import numpy as np

        return np.log(params) - self.center[0], np.log(tokens) - self.center[1]

    def standard_error(self, params: Array, tokens: Array) -> Array:
        """Of ln L at each pair of N and D, by the covariance of theta alone."""
        import numpy as np

        _, jacobian = with_jacobian(self.form, np.array([self.theta]), *self.centered(params, tokens))
        variance = np.einsum("np,pq,nq->n", jacobian[0], np.array(self.covariance), jacobian[0])
        result: Array = np.sqrt(np.maximum(variance, 0))
        return result


def coefficients(form: Form, theta: Array, center: tuple[float, float]) -> Coefficients:
    """A theta at the centre as coefficients at N and D themselves."""
    e, a, alpha, b, beta, log_k = (float(value) for value in form.full(theta))
    return Coefficients(
        e=math.exp(e),
        a=math.exp(a + alpha * center[0]),
        b=math.exp(b + beta * center[1]),
        alpha=alpha,
        beta=beta,
        k=math.exp(log_k),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Uncertainty:
    """What a law's file says next to the coefficients. The attributes are those of `Predictive` and:

    kappa: how much wider the backtests of the fit make its intervals. largest_run_flops: compute of the largest run.
    """

    form: FormName
    center: tuple[float, float]
    covariance: tuple[tuple[float, ...], ...]
    sigma: float
    kappa: float
    largest_run_flops: float


@dataclass(frozen=True, slots=True)
class Posterior(Predictive):
    """A law of known uncertainty, as far as it predicts."""

    form_name: FormName
    theta: tuple[float, ...]
    center: tuple[float, float]
    covariance: tuple[tuple[float, ...], ...]
    sigma: float
    largest_run_flops: float

    @property
    def form(self) -> Form:
        return FORMS[self.form_name]

    @property
    def most_flops(self) -> float:
        return self.largest_run_flops


def posterior(uncertainty: Uncertainty, e: float, a: float, alpha: float, b: float, beta: float, k: float) -> Posterior:
    """From the coefficients at N and D themselves."""
    x, y = uncertainty.center
    log_e = math.log(e) if e > 0 else LOG_NOTHING
    six = (log_e, math.log(a) - alpha * x, alpha, math.log(b) - beta * y, beta, math.log(k))
    return Posterior(
        form_name=uncertainty.form,
        theta=tuple(six[position] for position in FORMS[uncertainty.form].positions),
        center=uncertainty.center,
        covariance=uncertainty.covariance,
        sigma=uncertainty.sigma,
        largest_run_flops=uncertainty.largest_run_flops,
    )
