"""The closed forms of one rank against the rank of a simulated world: what it stores, computes, sends and holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from analytic.errors import UsageError
from analytic.parallelism.parameters import DistributedModel
from analytic.parallelism.rank_flops import rank_flops
from analytic.parallelism.sharding import rank_state
from analytic.parallelism.transformers_fsdp2 import collectives
from empirical.models.distributed import RankCase
from empirical.models.meta_world import UnsupportedVersionError
from empirical.proof.check import Check
from empirical.proof.layouts import RankJob
from empirical.proof.pipeline import pipeline_checks, ring_checks
from empirical.proof.rank import rank_differences
from empirical.proof.rank_memory import WITNESS, observed_memory_checks
from empirical.witnesses.rank import RankObservation, observe


def rank_checks(job: RankJob) -> list[Check]:
    """Every figure of one rank. To be run in a process of its own, as torch caches a world's groups.

    Raises:
        UsageError: a layout that does not run. Whatever else fails is the answer of this rank.
    """
    if job.layout.pp > 1:
        return pipeline_checks(job)
    if job.layout.cp > 1:
        return ring_checks(job)
    case = RankCase(job.config, job.setup, job.layout, job.rank)
    try:
        seen = observe(case)
    except UsageError:
        raise
    except Exception as error:
        return [_check(case, "a step", 0, None, error=f"{type(error).__name__}: {error}")]
    checks = list(_closed_forms(case, seen))
    try:
        checks += observed_memory_checks(case, seen)
    except UnsupportedVersionError as error:
        checks.append(_check(case, "memory", 0, None, error=str(error)))
    return checks


def _closed_forms(case: RankCase, seen: RankObservation) -> Iterator[Check]:
    model = DistributedModel(case.config.spec, case.config.read_as)
    state = rank_state(model, case.setup, case.layout, case.rank)
    flops = rank_flops(model, case.setup, case.layout, case.rank)
    sent = sum(one.size_bytes for one in collectives(model, case.setup, case.layout, case.rank))
    figures = {  # with the names of the differences that belong to each
        "stored bytes": (("parameters",), state.parameters.total, sum(seen.stored.values())),
        "gradient bytes": (("gradients",), state.gradients.total, seen.gradient_bytes),
        "bytes of moments": (("moments",), state.optimizer.total, sum(seen.moments.values())),
        "bytes of collectives": (("count", "bytes"), sent, sum(one.size_bytes for one in seen.collectives)),
        "FLOPs": (("FLOPs",), flops.total, seen.flops_total),
    }
    differences = rank_differences(case, seen)
    for quantity, (terms, formula, observed) in figures.items():
        odd = {name: pair for name, pair in differences.items() if name.startswith(terms)}
        yield _check(case, quantity, formula, observed, terms=odd)


def _check(case: RankCase, quantity: str, formula: int, observed: int | None, **more: Any) -> Check:
    where = f"{quantity}, {case.layout.describe()}, rank {case.rank}"
    return Check(model=case.config.name, quantity=where, witness=WITNESS, analytic=formula, measured=observed, **more)
