"""Guard rails: each says its line exactly where it must."""

from __future__ import annotations

from datetime import date

import pytest

from analytic.hardware.prices import Price
from analytic.hardware.table import load_hardware
from analytic.memory.implementation import NotPredicted
from analytic.memory.torchtitan import torchtitan_peak
from analytic.model.training import TrainingSetup
from analytic.parallelism.layout import Layout
from analytic.parallelism.shapes import StackModel
from analytic.performance.mfu import Assumed, Mfu, Published
from analytic.planning.guards import (
    cannot_run,
    lacks_link,
    law_warnings,
    link_warnings,
    machine_warnings,
    placement_warnings,
)
from analytic.planning.placement import Placement
from analytic.planning.rank_fit import RankFit
from analytic.scaling.law_file import load_law
from analytic.scaling.laws import OutOfRange
from tests.calibration_cases import LLAMA
from tests.configurations import parsed

LAW, DEFAULT = load_law("besiroglu"), Assumed(value=0.4, by="default")
OFFER = Price(usd_per_gpu_hour=1, vendor="v", date=date(2025, 3, 3), source="s")


def placed(num_gpus: int | None, *, fits: bool = True, micro_batch: int = 1) -> Placement:
    config = parsed(LLAMA)
    setup = TrainingSetup(seq_len=100, micro_batch=micro_batch)
    fit = RankFit(
        config=config,
        stack="torchtitan",
        layout=Layout(dp_shard=num_gpus or 1),
        setup=setup,
        peak=torchtitan_peak(StackModel.of(config.spec), setup, Layout(dp_shard=num_gpus or 1)),
        memory_bytes=1,
        reserve_bytes=0,
    )
    return Placement(
        implementation="i",
        origin="o",
        fit=fit,
        peak_bytes=1,
        moment="m",
        beyond_bytes=0,
        micro_batch=micro_batch,
        recompute="full",
        reserve_bytes=0,
        memory_bytes=1,
        most_sequences=10,
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
    outside = (OutOfRange("params", 7e10, 1e8, 1e10), OutOfRange("tokens", 5e7, 1e8, 1e10))
    (line,) = law_warnings(LAW, 1, 5, None, outside)
    expected = "params 7e+10, 7 times the most; tokens 5e+07, 2 times less than the least"
    assert line == f"beyond what besiroglu was fitted on: {expected}"


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


@pytest.mark.parametrize(
    ("gpu", "mfu", "placement", "reason"),
    [
        ("l40s", DEFAULT, placed(2), "the model takes 2 of them, joined by PCIe alone"),
        ("l40s", DEFAULT, placed(1), None),
        ("l40s", DEFAULT, placed(None), None),  # what no number of them holds is another line
        ("l40s", DEFAULT, NotPredicted("a family without a schedule"), None),
        ("l40s", Published(value=0.3, source="s", convention="full"), placed(2), None),
        ("h100", DEFAULT, placed(2), None),
    ],
)
def test_gpus_without_a_fast_link(gpu: str, mfu: Mfu, placement: Placement | NotPredicted, reason: str | None) -> None:
    found = load_hardware().find(gpu)
    assert lacks_link(found, mfu, placement) == reason
    said = [] if reason is None else [f"an MFU of 40% is assumed, and l40s will hardly reach it: {reason}"]
    assert list(link_warnings(found, mfu, placement)) == said
