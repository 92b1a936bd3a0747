"""The closed forms of pipelines and of context parallelism against torch's, on one rank of a simulated world.

Each function is to be run in a process of its own, as torch caches a world's groups.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest

from analytic.memory.implementation import NotPredicted
from analytic.memory.peaks import highest
from analytic.memory.pipeline_memory import PipelineRank, pipeline_rank
from analytic.memory.schedule import schedule_of
from analytic.model.spec import GroupedQueryAttention
from analytic.parallelism.communication import Collective, volume
from analytic.parallelism.context_parallel import RingAttention, ring_attention
from analytic.parallelism.pipeline import Pipeline
from analytic.parallelism.pipeline_order import Action, most_in_flight, order
from analytic.parallelism.stages import pipeline_collectives
from empirical.models.pipeline import PipelineCase
from empirical.models.programs import DTYPES
from empirical.proof.check import Check
from empirical.proof.layouts import RankJob
from empirical.proof.memory import Divergence, first_divergence, scheduled_changes, tracked_changes
from empirical.witnesses.context_parallel import RingCase, observe_ring
from empirical.witnesses.pipeline import PipelineObservation, observe_pipeline, replayed_idle_units, torch_order


def pipeline_checks(job: RankJob) -> list[Check]:
    """Order, micro-batches in flight, idle units, messages and memory of one rank.

    The fused optimizer does not run on meta: there the step is without it.

    Raises:
        UsageError: a pipeline that the model or torch does not take.
    """
    fused = job.setup.optimizer == "adamw_fused"
    setup = replace(job.setup, optimizer="none") if fused else job.setup
    case = PipelineCase(job.config, setup, job.layout, job.rank)
    return list(_pipeline_checks(case, observe_pipeline(case)))


def ring_checks(job: RankJob) -> list[Check]:
    """Bytes and FLOPs of one rank in each kind of attention whose queries and values have one width.

    Raises:
        UsageError: a sequence or heads that the ring does not take.
    """
    kinds = dict.fromkeys(layer.attention for layer in job.config.spec.layers)
    grouped = [attention for attention in kinds if isinstance(attention, GroupedQueryAttention)]
    rings = {
        ring_attention(attention, job.setup, job.layout): attention for attention in grouped
    }  # whatever the window
    return [check for ring, attention in rings.items() for check in _ring_checks(job, ring, attention)]


def _pipeline_checks(case: PipelineCase, seen: PipelineObservation) -> Iterator[Check]:
    pipeline, table = Pipeline.of(case.layout), torch_order(Pipeline.of(case.layout))
    ours = order(pipeline, case.rank)
    yield _of_actions(case, "actions, as run", ours, seen.actions)
    yield _of_actions(case, "actions, torch's table", ours, table[case.rank])
    in_flight = pipeline.in_flight(case.rank)
    yield _check(case, "micro-batches in flight", in_flight, most_in_flight(seen.actions))
    yield _check(case, "idle units", pipeline.idle_units, replayed_idle_units(table))
    expected = volume(pipeline_collectives(case.config.spec, case.setup, case.layout, case.rank, case.layers))
    terms = expected.differences(volume(seen.transfers))
    moved = sum(one.size_bytes for one in seen.collectives)
    yield _check(case, "bytes sent and received", expected.total, moved, terms=terms)
    yield from _memory_checks(case, seen)


def _of_actions(case: PipelineCase, quantity: str, ours: Sequence[Action], theirs: Sequence[Action]) -> Check:
    """Of how many there are, and the first that differs."""
    pairs = enumerate(zip_longest(ours, theirs))
    odd = next(((i, pair) for i, pair in pairs if pair[0] != pair[1]), None)
    terms = {} if odd is None else {f"action {odd[0]}: {odd[1][0]}, torch {odd[1][1]}": (odd[0], odd[0])}
    return _check(case, quantity, len(ours), len(theirs), terms=terms)


def _memory_checks(case: PipelineCase, seen: PipelineObservation) -> Iterator[Check]:
    """Where there is a schedule: base, peak, and every rise and fall of live bytes."""
    schedule = schedule_of(case.config, case.setup)
    if isinstance(schedule, NotPredicted):
        return
    rank = pipeline_rank(case.config.spec, schedule.implementation, case.setup, case.layout, case.rank)
    if isinstance(rank, NotPredicted):
        return
    yield _check(case, "base bytes", sum(rank.base.values()), seen.memory.base_bytes)
    peak, _ = highest(rank.events + rank.optimizer)
    part = memory_divergence(rank, seen)
    terms = {} if part is None else {str(part): (part.scheduled_bytes, part.tracked_bytes)}
    yield _check(case, "every rise and fall of live bytes", peak, seen.memory.peak_bytes, terms=terms)


def memory_divergence(rank: PipelineRank, seen: PipelineObservation) -> Divergence | None:
    """Where the schedule and the tracked profile part: in the passes, then in the optimizer's step."""
    phases = ((rank.events, "passes"), (rank.optimizer, "optimizer"))
    parts = (first_divergence(scheduled_changes(e), tracked_changes(seen.memory[name].events)) for e, name in phases)
    return next((part for part in parts if part is not None), None)


def _check(
    case: PipelineCase,
    quantity: str,
    analytic: int,
    measured: int | None,
    *,
    terms: Mapping[str, tuple[int, int]] | None = None,
) -> Check:
    where = f"{quantity}, {case.layout.describe()} {case.layout.pipeline_schedule}, rank {case.rank}"
    witness = "torch.distributed.pipelining"
    return Check(
        model=case.config.name,
        quantity=where,
        witness=witness,
        analytic=analytic,
        measured=measured,
        terms=terms or {},
    )


def _ring_checks(job: RankJob, ring: RingAttention, attention: GroupedQueryAttention) -> Iterator[Check]:
    layout, setup = job.layout, job.setup
    case = RingCase(
        ranks=ring.ranks,
        rank=layout.coordinate(job.rank, "cp"),
        batch=ring.batch,
        heads=attention.num_heads // layout.tp,
        kv_heads=attention.num_kv_heads // layout.tp,
        tokens=ring.tokens,
        head_dim=attention.head_dim,
        rotation="allgather",
        dtype=DTYPES[setup.precision],
    )
    seen, itemsize = observe_ring(case), setup.itemsize
    forward = ring.forward(itemsize=itemsize, rotation=case.rotation, module="self_attn")
    backward = ring.backward(itemsize=itemsize, rotation=case.rotation, module="self_attn")
    figures = {
        "bytes of ring attention, forward": (_bytes(forward), _bytes(seen.forward)),
        "bytes of ring attention, backward": (_bytes(backward), _bytes(seen.backward)),
        "forward FLOPs of ring attention": (ring.forward_flops, seen.forward_flops),
        "forward FLOPs beyond the causal mask, all ranks": (
            ring.excess_flops,
            ring.ranks * seen.forward_flops - ring.causal_flops,
        ),
    }
    for quantity, (ours, theirs) in figures.items():
        where, witness = f"{quantity}, {layout.describe()}, rank {job.rank}", "torch's ring attention"
        yield Check(model=job.config.name, quantity=where, witness=witness, analytic=ours, measured=theirs)


def _bytes(collectives: Sequence[Collective]) -> int:
    return sum(one.size_bytes for one in collectives)
