"""Serving a model: a budget that pays for training and for the tokens that the model will serve.

A served token costs the forward FLOPs of the architecture, a third of a training token's (Sardana et al. 2023,
arXiv:2401.00448, eq. 3: 6 N D_train + 2 N D_inference), on GPUs of its own at an MFU of its own. Whatever the size,
serving then costs what training on a fixed number of tokens more would, so that the least loss of a budget is also
where that loss is had for the least money.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from analytic.errors import UsageError
from analytic.hardware.gpus import Gpu
from analytic.hardware.prices import Price
from analytic.performance.mfu import Assumed
from analytic.planning.budget import Budget, Dollars
from analytic.planning.market import Option
from analytic.units import SECONDS_PER_HOUR, exact

TRAINING_OVER_FORWARD = 3  # backward is twice forward


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """The tokens that a model will serve, and on what.

    Attributes:
        tokens: read and written, over the life of the model.
        gpu, price: None where it is served on the GPUs that train it, at their price.

    Raises:
        UsageError: a GPU whose price is not known.
    """

    tokens: int
    mfu: Assumed
    gpu: Gpu | None = None
    price: Price | None = None

    def __post_init__(self) -> None:
        if self.gpu is not None and self.price is None:
            key = self.gpu.key
            raise UsageError(f"no price is known for {key}: expected one, as in --inference-gpu {key}=USD")

    def usd_per_flop(self, trained_on: Option) -> Fraction:
        """Of a forward pass. A budget in dollars has options with a price."""
        gpu = self.gpu or trained_on.gpu
        price = self.price or trained_on.price
        assert price is not None
        flops_per_s = gpu.peak(trained_on.dtype) * exact(self.mfu.value)
        return exact(price.usd_per_gpu_hour) / SECONDS_PER_HOUR / flops_per_s


def served_per_flop(serving: Serving | None, budget: Budget, trained_on: Option) -> Fraction:
    """How many tokens less are trained on for each training FLOP that the whole budget would buy."""
    if serving is None:
        return Fraction(0)
    assert isinstance(budget, Dollars)  # a `Request` refuses the other
    return serving.tokens * serving.usd_per_flop(trained_on) / TRAINING_OVER_FORWARD / exact(budget.usd)
