"""The original exercise's budget question, with its own GPUs, prices, law and MFU."""

from __future__ import annotations

from pathlib import Path

from analytic.errors import UsageError
from analytic.hardware.table import load_hardware
from analytic.io.files import configs_dir
from analytic.performance.mfu import Assumed
from analytic.planning.backward import plan_backward
from analytic.planning.backward_file import load_setup
from analytic.planning.budget import Dollars
from analytic.planning.market import Market, compare, compute_of
from analytic.report.backward import backward_document
from analytic.report.text import document_text
from analytic.scaling.law_file import compared_laws, load_law
from analytic.scaling.optimum import closed_form

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
    if type(cost_budget) not in (int, float):
        raise UsageError(f"budget = {cost_budget!r}: expected a number of USD")
    market, law = exercise_market(), load_law(LAW)
    compute = float(compute_of(Dollars(cost_budget), market.best))
    best = closed_form(law, compute)
    if min(best.params, best.tokens) < 1:
        raise UsageError("the budget does not pay for one parameter and one token")
    return round(best.params), round(best.tokens), compute, market.best.gpu.name


def training_budget_text(cost_budget: float) -> str:
    """The exercise's answer for people.

    Raises:
        UsageError: no budget that a plan could have.
    """
    params, tokens, compute, gpu = get_optimal_N_D_from_cost(cost_budget)
    law = load_law(LAW)
    return "\n".join(
        (
            f"budget: {cost_budget:,.2f} USD",
            f"best GPU: {gpu}, of the exercise's three at its prices and an assumed MFU of {MFU:.0%}",
            f"training budget: {compute:.6g} FLOPs",
            f"optimal model size N: {params:,} parameters, under C = 6 N D",
            f"optimal data size D: {tokens:,} tokens",
            f"loss: {law.loss(params, tokens):.10f} nats per token, predicted ({law.citation})",
            "",
        )
    )


def backward_analysis(path: Path) -> str:
    """The text of a backward file's plan.

    Raises:
        PlannerError: whatever is wrong with the file, naming field and line.
    """
    made = plan_backward(load_setup(path, load_hardware()), compared_laws())
    return document_text(backward_document(made), is_verbose=True)
