"""Training and serving for the least compute: the figures of Sardana et al. 2023, arXiv:2401.00448."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytic.scaling.law_file import load_law
from analytic.scaling.optimum import CostCurve, closed_form, least_compute, optimum

LAW = load_law("hoffmann-full")  # the coefficients of their notebook


def chinchilla(params: float) -> tuple[float, float, float]:
    """C, D and loss of the compute-optimal model of N parameters: D = N^(alpha / beta) G^-(1 + alpha / beta)."""
    ratio = LAW.alpha / LAW.beta
    tokens = params**ratio * math.exp(LAW.log_ratio) ** -(1 + ratio)
    return 6 * params * tokens, tokens, LAW.loss(params, tokens)


def test_chinchilla_s_own_optimum_is_the_closed_form() -> None:
    flops, tokens, loss = chinchilla(7e9)
    assert closed_form(LAW, flops).params == pytest.approx(7e9, rel=1e-9)
    assert closed_form(LAW, flops).tokens == pytest.approx(tokens, rel=1e-9)
    assert least_compute(LAW, loss)[0] == pytest.approx(flops, rel=1e-9)


# Whose quality, tokens served, N, D and D over that of the compute-optimal model: to the digits of a computation apart.
PUBLISHED = [(7e9, 1e11, 6.0547e9, None, 1.1641), (13e9, 2e12, 7.1203e9, 1.29514e12, 2.098)]


@pytest.mark.parametrize(("quality", "served", "params", "tokens", "times"), PUBLISHED)
def test_a_model_that_serves_is_smaller_and_trained_longer(
    quality: float, served: float, params: float, tokens: float | None, times: float
) -> None:
    """They minimize 6 N D + 2 N D_inference = 6 N (D + D_inference / 3) at the loss of the other model."""
    _, own_tokens, loss = chinchilla(quality)
    _, found = least_compute(LAW, loss, served_tokens=served / 3)
    assert found.params == pytest.approx(params, rel=1e-4)
    assert found.tokens / own_tokens == pytest.approx(times, rel=3e-4)
    assert found.loss == pytest.approx(loss, rel=1e-12)
    if tokens is not None:
        assert found.tokens == pytest.approx(tokens, rel=1e-4)


def test_what_serving_two_trillion_tokens_saves() -> None:
    """1.635e22 FLOP of what the 13B model takes to train and serve, 16.3%; the paper rounds to 17%."""
    training, _, loss = chinchilla(13e9)
    larger = training + 2 * 13e9 * 2e12
    flops, _ = least_compute(LAW, loss, served_tokens=2e12 / 3)
    assert larger - flops == pytest.approx(1.635e22, rel=1e-3)
    assert 1 - flops / larger == pytest.approx(0.163, abs=5e-4)


@settings(deadline=None)
@given(compute=st.floats(1e19, 1e26), share=st.floats(0.01, 100), step=st.floats(-1, 1))
def test_no_neighbour_beats_the_optimum_of_a_model_that_serves(compute: float, share: float, step: float) -> None:
    cost = CostCurve(1860.7, 2 / 3)
    served = share * optimum(LAW, compute, cost).tokens
    best = optimum(LAW, compute, cost, served_tokens=served)
    assert cost.flops_per_token(best.params) * (best.tokens + served) == pytest.approx(compute, rel=1e-9)
    params = best.params * math.exp(step)
    tokens = compute / cost.flops_per_token(params) - served
    assert tokens <= 0 or best.loss <= LAW.loss(params, tokens) * (1 + 1e-12)
