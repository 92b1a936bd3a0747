"""The closed forms of one rank against the rank of a simulated world: what it stores, computes, sends and holds."""

from __future__ import annotations

from collections.abc import Iterator

from analytic.parallelism.parameters import DistributedModel
from analytic.parallelism.rank_flops import rank_flops
from analytic.parallelism.sharding import rank_state
from analytic.parallelism.transformers_fsdp2 import collectives
from empirical.models.distributed import RankCase
from empirical.proof.check import Check
from empirical.proof.layouts import RankJob
from empirical.proof.rank import rank_differences
from empirical.witnesses.rank import RankObservation, observe

WITNESS = "simulated rank on meta"
# a figure, and how the terms begin that make it
_STORED, _MOMENTS, _GRADIENTS = "parameters", "moments", "gradients"


def rank_checks(job: RankJob) -> list[Check]:
    """Every figure of one rank. To be run in a process of its own, as torch caches a world's groups."""
    case = RankCase(job.config, job.setup, job.layout, job.rank)
    seen = observe(case)
    return list(_closed_forms(case, seen))


def _closed_forms(case: RankCase, seen: RankObservation) -> Iterator[Check]:
    model = DistributedModel(case.config.spec, case.config.read_as)
    state = rank_state(model, case.setup, case.layout, case.rank)
    flops = rank_flops(model, case.setup, case.layout, case.rank)
    sent = sum(one.size_bytes for one in collectives(model, case.setup, case.layout, case.rank))
    scalars = sum(size for name, size in state.optimizer.items() if name.endswith(".step"))
    figures = {
        "stored bytes": (("parameters",), state.parameters.total, sum(seen.stored.values())),
        "gradient bytes": (("gradients",), state.gradients.total, seen.gradient_bytes),
        "bytes of moments": (("moments",), state.optimizer.total - scalars, sum(seen.moments.values())),
        "bytes of collectives": (("count", "bytes"), sent, sum(one.size_bytes for one in seen.collectives)),
        "FLOPs": (("FLOPs",), flops.total, seen.flops_total),
    }
    differences = rank_differences(case, seen)
    for quantity, (terms, formula, observed) in figures.items():
        yield Check(
            model=case.config.name,
            quantity=f"{quantity}, {case.layout.describe()}, rank {case.rank}",
            witness=WITNESS,
            analytic=formula,
            measured=observed,
            terms={name: pair for name, pair in differences.items() if name.startswith(terms)},
        )
