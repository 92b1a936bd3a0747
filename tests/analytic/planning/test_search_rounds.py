"""The search at an MFU that depends on the shape goes on until it leads to the same architecture."""

from __future__ import annotations

from dataclasses import dataclass, replace

from analytic.hardware.table import load_hardware
from analytic.performance.mfu import Assumed, Mfu
from analytic.performance.throughput import Job, Unknown
from analytic.planning.architectures import Family, candidates
from analytic.planning.budget import DataLimit, Dollars
from analytic.planning.losses import objective
from analytic.planning.market import compare, compute_of
from analytic.planning.request import Request
from analytic.planning.search import _ByShape
from analytic.scaling.law_file import load_law

FAMILY = Family(kind="dense", vocab_size=32_000, seq_len=4096)
FAST, SLOW = Assumed(value=0.9, by="test"), Assumed(value=0.009, by="test")


@dataclass(frozen=True, slots=True)
class Slow:
    """A hundredth of the MFU that the GPU is ranked by."""

    def mfu(self, _: Job) -> Mfu | Unknown:
        return SLOW


def test_an_mfu_far_from_the_assumed_one_is_searched_again() -> None:
    """The best few hundred by 90% are all too large for the compute that 0.9% leaves."""
    market = compare(load_hardware(), mfu=FAST, mfu_by_gpu={}, price_by_gpu={"a100-80": 4.0})
    request = Request(budget=Dollars(1e5), market=market, law=load_law("besiroglu"), family=FAMILY)
    goal = objective(request.law, FAMILY, DataLimit())
    option = replace(market.best, throughput=Slow())  # type: ignore[arg-type]  # a throughput of the test's own
    candidate, found = _ByShape(request, goal, option).best()
    compute = float(compute_of(request.budget, replace(market.best, mfu=SLOW)))
    assert found.mfu is SLOW
    assert candidate == min(candidates(FAMILY), key=lambda each: goal.merit(each, compute))
