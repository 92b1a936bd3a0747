"""Tolerances and limits that were chosen for plans, each with its reason."""

from __future__ import annotations

from fractions import Fraction

from analytic.planning.architectures import ParamsMeasure
from analytic.scaling.laws import Convention

BAND_NATS = 0.005  # chosen: a smaller difference in predicted loss decides nothing
WORSE = Fraction(1, 10)  # what MFU and price are moved by, to show the sensitivity of the answer
TOLERANCE = Fraction(1, 100)  # of N around the smooth optimum, where an architecture is preferred
PREFERENCE = Fraction(1, 1000)  # the share of the compute that this preference may cost
LEAST_TOKENS_PER_PARAM = 5  # chosen: a quarter of compute-optimal training (arXiv:2203.15556)
LEAST_STEPS = 1000  # chosen: optimizer steps; with fewer, one step is too large a share of a run
MOST_PRICE_AGE_DAYS = 365
MOE_APPROXIMATION = (
    "a dense law at the active parameters: an MoE does better (arXiv:2202.01169), so the loss is an overestimate"
)

# What a family counts for a law of dense models: an MoE counts as its active parameters.
LAW_MEASURE: dict[Convention, ParamsMeasure] = {
    "total": "active",
    "active": "active",
    "non_embedding": "non_embedding",
}
