"""Guard rails: each says its line exactly where it must."""

from __future__ import annotations

from datetime import date

import pytest

from analytic.hardware.prices import Price
from analytic.memory.implementation import NotPredicted
from analytic.model.training import planned_setup
from analytic.performance.mfu import Assumed
from analytic.planning.guards import cannot_run, law_warnings, machine_warnings, placement_warnings
from analytic.planning.placement import Need, Placement
from analytic.scaling.law_file import load_law
from analytic.scaling.laws import OutOfRange
from tests.calibration_cases import LLAMA
from tests.configurations import parsed

LAW, DEFAULT = load_law("besiroglu"), Assumed(value=0.4, by="default")
OFFER = Price(usd_per_gpu_hour=1, vendor="v", date=date(2025, 3, 3), source="s")


def placed(num_gpus: int | None, *, fits: bool = True, micro_batch: int = 1) -> Placement:
    need = Need(state=1, activations=1, gathered=1, optimizer_peak=1)
    return Placement(
        implementation="i",
        state=planned_setup(parsed(LLAMA).spec, 100, micro_batch, "bf16").state,
        micro_batch=micro_batch,
        memory_bytes=1,
        most_sequences=10,
        need=need,
        least_gpus=num_gpus,
        num_gpus=num_gpus,
        fits=fits,
        most_micro_batch=1,
    )


@pytest.mark.parametrize(("tokens", "said"), [(499, 1), (500, 0)])
def test_fewer_than_five_tokens_a_parameter(tokens: int, said: int) -> None:
    found = list(law_warnings(LAW, 100, tokens, None, ()))
    assert len(found) == said
    assert all(line == "4.99 tokens per parameter, below 5: outside of any scaling law" for line in found)


@pytest.mark.parametrize(("epochs", "said"), [(None, 0), (16.0, 0), (16.1, 1)])
def test_more_epochs_than_the_law_is_evidence_for(epochs: float | None, said: int) -> None:
    assert len(list(law_warnings(LAW, 1, 5, epochs, ()))) == said


def test_a_law_beyond_its_range_is_named() -> None:
    (line,) = law_warnings(LAW, 1, 5, None, (OutOfRange("params", 7e10, 1e8, 1e10),))
    assert line == "params = 7e+10: besiroglu was fitted on 1e+08 to 1e+10"


@pytest.mark.parametrize(
    ("today", "said"), [(None, 0), (date(2026, 3, 3), 0), (date(2026, 3, 4), 1), (date(2025, 3, 3), 0)]
)
def test_a_price_older_than_a_year(today: date | None, said: int) -> None:
    assert len(list(machine_warnings(OFFER, DEFAULT, "bf16", today))) == said


@pytest.mark.parametrize(("dtype", "by", "said"), [("fp8", "default", 1), ("fp8", "given", 0), ("bf16", "default", 0)])
def test_fp8_at_an_mfu_of_bf16(dtype: str, by: str, said: int) -> None:
    assert len(list(machine_warnings(None, Assumed(value=0.4, by=by), dtype, None))) == said


@pytest.mark.parametrize(
    ("placement", "reason"),
    [
        (NotPredicted("a family without a schedule"), None),
        (placed(None), "no number of these GPUs holds it at micro-batch 1"),
        (placed(8, fits=False), "it does not fit 8 of these GPUs"),
        (placed(5, micro_batch=2), None),  # 5 x 2 x 100 tokens a step are the whole run
        (placed(11), "one step of 11 GPUs takes 1,100 tokens, more than the 1,000 of the run"),
    ],
)
def test_what_cannot_run(placement: Placement | NotPredicted, reason: str | None) -> None:
    assert cannot_run(placement, 1000, 100) == reason


@pytest.mark.parametrize(("tokens", "said"), [(799_999, 1), (800_000, 0)])
def test_a_run_of_few_steps(tokens: int, said: int) -> None:
    """8 GPUs take 800 tokens a step: 1,000 steps are 800,000."""
    assert len(list(placement_warnings(placed(8), tokens, 100))) == said
