"""Excess parameters under limited data, by the published formulas written out."""

from __future__ import annotations

import pytest

from analytic.scaling.laws import ScalingLaw


def test_parameters_beyond_what_the_data_are_worth_fade() -> None:
    """N' = U_N (1 + R* (1 - exp(-(N / U_N - 1) / R*))), U_N = G (G U)^(beta / alpha), R* = 5.309743."""
    a, b, alpha, beta, unique = 500.0, 2000.0, 0.3, 0.4, 1e9
    law = ScalingLaw(
        name="x", citation="x", e=1.5, a=a, b=b, alpha=alpha, beta=beta, n_means="total", d_means="x",
        data_constrained=True,
    )  # fmt: skip
    g = (alpha * a / (beta * b)) ** (1 / (alpha + beta))
    worth = g * (g * unique) ** (beta / alpha)
    most = worth * (1 + 5.309743)
    expected = 1.5 + a / most**alpha + b / unique**beta
    assert law.loss(1e6 * worth, unique, unique) == pytest.approx(expected, rel=1e-12)
    assert law.loss(worth / 2, unique, unique) == pytest.approx(1.5 + a / (worth / 2) ** alpha + b / unique**beta)
