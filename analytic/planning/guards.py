"""Guard rails: what a plan must not leave unsaid, each one line."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta

from analytic.hardware.gpus import Gpu
from analytic.hardware.prices import Price
from analytic.memory.implementation import NotPredicted
from analytic.performance.mfu import Assumed, Mfu
from analytic.planning.assumptions import LEAST_STEPS, LEAST_TOKENS_PER_PARAM, MOST_PRICE_AGE_DAYS, TOLERANCE
from analytic.planning.intervals import PlanIntervals
from analytic.planning.losses import Outcome
from analytic.planning.placement import Placement
from analytic.scaling.fitted_plan import FARTHEST_USEFUL_DECADES
from analytic.scaling.laws import MANY_EPOCHS, Law, OutOfRange


def law_warnings(
    law: Law, params: int, tokens: int, epochs: float | None, extrapolations: tuple[OutOfRange, ...]
) -> Iterator[str]:
    """Where a law is used beyond what it is evidence for; `params` as the law counts them."""
    if tokens < LEAST_TOKENS_PER_PARAM * params:
        yield f"{tokens / params:.2f} tokens per parameter, below {LEAST_TOKENS_PER_PARAM}: outside of any scaling law"
    if extrapolations:
        beyond = "; ".join(f"{each.quantity} {each.value:.3g}, {_times(each)}" for each in extrapolations)
        yield f"beyond what {law.name} was fitted on: {beyond}"
    if epochs is not None and epochs > MANY_EPOCHS:
        yield f"{epochs:.1f} epochs: beyond {MANY_EPOCHS} runs did worse than the law of repeated data says"


def data_warning(outcome: Outcome, whole: Outcome) -> str:
    """Data that end before the budget does, and what the whole of it would come to."""
    gain, ratio = outcome.loss - whole.loss, whole.tokens / whole.candidate.params
    if ratio < LEAST_TOKENS_PER_PARAM:
        rest = f"the law would spend the rest of the budget at {ratio:.2g} tokens per parameter, where no law holds"
    else:
        rest = f"the rest of the budget would lower the loss by {gain:.4f} nats, at {ratio:.3g} tokens per parameter"
    return f"the data end first: {rest}"


def size_warnings(asked: int | None, params: int) -> Iterator[str]:
    """A size that no architecture of the family is near."""
    if asked is not None and abs(params - asked) > TOLERANCE * asked:
        yield f"no architecture within 1% of {asked:.3g} parameters: the nearest of the family has {params:.3g}"


def interval_warnings(law: Law, intervals: PlanIntervals) -> Iterator[str]:
    """Where a law of one's own is asked so far beyond its runs that a rule of thumb chose better."""
    if intervals.too_far:
        params, tokens = intervals.chinchilla
        yield (
            f"{intervals.decades_beyond:.1f} decades of compute beyond the runs of {law.name}: beyond "
            f"{FARTHEST_USEFUL_DECADES:g}, D = 20 N chooses better; here N {params:.3g}, D {tokens:.3g}"
        )


def _times(outside: OutOfRange) -> str:
    if outside.value > outside.most:
        return f"{outside.value / outside.most:.3g} times the most"
    return f"{outside.least / outside.value:.3g} times less than the least"


def machine_warnings(price: Price | None, mfu: Mfu, dtype: str, today: date | None) -> Iterator[str]:
    """A price of more than a year before `today`, and an fp8 MFU that nobody measured in fp8."""
    yield from price_warnings(price, "the price", today)
    if dtype == "fp8" and isinstance(mfu, Assumed) and mfu.by == "default":
        yield "fp8 at an MFU as measured and published in bf16: runs in fp8 reach a smaller share of their peak"


def price_warnings(price: Price | None, name: str, today: date | None) -> Iterator[str]:
    """A price of more than a year before `today`."""
    day = None if price is None else price.date
    if day is not None and today is not None and today - day > timedelta(days=MOST_PRICE_AGE_DAYS):
        yield f"{name} is of {day.isoformat()}, more than a year ago: give a current one"


def placement_warnings(placement: Placement | NotPredicted, tokens: int, seq_len: int) -> Iterator[str]:
    """A machine that cannot run the plan, or whose smallest step is a large share of it."""
    reason = cannot_run(placement, tokens, seq_len)
    if reason is not None:
        yield f"it cannot run: {reason}"
    elif isinstance(placement, Placement) and placement.num_gpus is not None:
        steps = tokens // (placement.num_gpus * placement.micro_batch * seq_len)
        if steps < LEAST_STEPS:
            yield f"{steps:,} optimizer steps at most on {placement.num_gpus:,} GPUs: expected {LEAST_STEPS:,} or more"


def lacks_link(gpu: Gpu, mfu: Mfu, placement: Placement | NotPredicted) -> str | None:
    """Why an assumed MFU is too much to expect of GPUs: the model takes several, and only PCIe joins them."""
    if not isinstance(mfu, Assumed) or isinstance(placement, NotPredicted) or gpu.link_bytes_per_s is not None:
        return None
    least = placement.least_gpus
    return None if least is None or least == 1 else f"the model takes {least:,} of them, joined by PCIe alone"


def link_warnings(gpu: Gpu, mfu: Mfu, placement: Placement | NotPredicted) -> Iterator[str]:
    if (reason := lacks_link(gpu, mfu, placement)) is not None:
        yield f"an MFU of {mfu.value:.0%} is assumed, and {gpu.key} will hardly reach it: {reason}"


def cannot_run(placement: Placement | NotPredicted, tokens: int, seq_len: int) -> str | None:
    """Why a machine cannot run a plan: too little memory, or one micro-batch a GPU is more than the whole run."""
    if isinstance(placement, NotPredicted):
        return None
    if placement.num_gpus is None:
        return f"no number of these GPUs holds it at micro-batch {placement.micro_batch}"
    if placement.has_idle_gpus:
        step = placement.num_gpus * placement.micro_batch * seq_len
        return f"one step of {placement.num_gpus:,} GPUs takes {step:,} tokens, more than the {tokens:,} of the run"
    return None if placement.fits else f"it does not fit {placement.num_gpus:,} of these GPUs"
