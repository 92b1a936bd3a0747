"""The original exercise's budget question, with its own GPUs, prices, law and MFU."""

from __future__ import annotations

from analytic.budget import Market, compare, compute_from_usd
from analytic.design import Family
from analytic.files import configs_dir
from analytic.hardware import load_hardware
from analytic.mfu import Assumed
from analytic.plan import Request
from analytic.scaling import closed_form, load_law

LAW = "exercise"
MFU = 0.4
DTYPE = "fp16"


def exercise_market() -> Market:
    """Its three GPUs at its prices and 40% MFU."""
    hardware = load_hardware(configs_dir() / "exercise_hardware.toml")
    return compare(hardware, mfu=Assumed(value=MFU, by="the exercise"), mfu_by_gpu={}, price_by_gpu={}, dtype=DTYPE)


def get_optimal_N_D_from_cost(cost_budget: float) -> tuple[int, int, float, str]:  # noqa: N802  # the exercise's name
    """The optimum of C = 6 N D that a budget in USD buys: (N, D, training_budget_flops, best_gpu).

    Raises:
        UsageError: no budget that a plan could have.

    >>> get_optimal_N_D_from_cost(5e6)
    (47476210890, 1971513695914, 5.616e+23, 'A100')
    """
    market, law = exercise_market(), load_law(LAW)
    request = Request(
        budget_usd=cost_budget, market=market, law=law, family=Family(kind="dense", vocab_size=32_000, seq_len=4096)
    )
    compute = float(compute_from_usd(request.budget_usd, market.best))
    best = closed_form(law, compute)
    return round(best.params), round(best.tokens), compute, market.best.gpu.name
