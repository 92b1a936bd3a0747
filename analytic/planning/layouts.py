"""The layouts of so many GPUs that a model, a stack and the node allow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from analytic.errors import UsageError
from analytic.model.spec import ModelSpec, MoeFfn
from analytic.model.training import TrainingSetup
from analytic.parallelism.layout import MOST_RANKS, Axis, Layout, PipelineSchedule
from analytic.parallelism.stacks import Stack

# The axes that each stack splits a step over; every one of them has dp_shard and tp.
AXES: Mapping[Stack, frozenset[Axis]] = {
    "transformers-fsdp2": frozenset(("dp_replicate", "ep")),
    "torchtitan": frozenset(("dp_replicate", "pp", "cp")),
    "megatron-te": frozenset(("pp", "cp", "ep")),
}
LEAST_TOKENS_OF_CP = 2048  # chosen: with fewer tokens on each rank of a ring, context parallelism serves no purpose
MOST_VIRTUAL_STAGES = 4  # chosen: what published Megatron layouts use at most, but for a few
PIPELINE_ROUNDS = 4  # chosen: micro-batches for each pipeline rank, so that it idles for a fifth of the time at most


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """What is enumerated over.

    Attributes:
        node_gpus: GPUs that a fast link joins; tensor parallelism stays among them.
        global_batch: sequences of a step; None lets a pipeline have four micro-batches for each of its ranks, and
            every other rank one.

    Raises:
        UsageError: more GPUs than a layout has.
    """

    num_gpus: int
    node_gpus: int
    global_batch: int | None = None

    def __post_init__(self) -> None:
        if self.num_gpus > MOST_RANKS:
            raise UsageError(f"{self.num_gpus} GPUs: expected at most {MOST_RANKS} in one layout")


def layouts(spec: ModelSpec, setup: TrainingSetup, stack: Stack, space: Space) -> Iterator[Layout]:
    """Every layout of the stack that divides the GPUs; those that model or stack refuse are among them."""
    axes, gpus = AXES[stack], space.num_gpus
    for tp in _divisors(gpus):
        if tp > space.node_gpus or space.node_gpus % tp:
            continue
        for pp in _divisors(gpus // tp) if "pp" in axes else (1,):
            if pp > len(spec.layers):
                break
            for cp in _divisors(gpus // (tp * pp)) if "cp" in axes else (1,):
                if cp > 1 and setup.seq_len < cp * LEAST_TOKENS_OF_CP:
                    break
                yield from _over_data(spec, setup, axes, space, tp, pp, cp)


def is_mixed(setup: TrainingSetup) -> bool:
    """Whether a plan keeps fp32 next to what it computes in: training in 16 bits alone is not planned."""
    return setup.precision != "fp32"


def micro_batches_of(setup: TrainingSetup, data_ranks: int, pp: int, global_batch: int | None) -> int:
    """Micro-batches of a step on each rank.

    Raises:
        UsageError: a global batch that the data ranks cannot share evenly.
    """
    if global_batch is None:
        return PIPELINE_ROUNDS * pp if pp > 1 else 1
    each = setup.micro_batch * data_ranks
    if global_batch % each:
        raise UsageError(
            f"global batch of {global_batch} sequences: expected a multiple of micro-batch x data ranks = "
            f"{setup.micro_batch} x {data_ranks} = {each}"
        )
    return global_batch // each


def _over_data(
    spec: ModelSpec, setup: TrainingSetup, axes: frozenset[Axis], space: Space, tp: int, pp: int, cp: int
) -> Iterator[Layout]:
    """What is left of the GPUs as data ranks: replicas are of whole nodes, experts over any group that divides them."""
    data = space.num_gpus // (tp * pp * cp)
    try:
        micro_batches = micro_batches_of(setup, data, pp, space.global_batch)
    except UsageError:
        return
    for replicate in _divisors(data) if "dp_replicate" in axes else (1,):
        shard = data // replicate
        if replicate > 1 and (shard == 1 or shard * cp * tp % space.node_gpus):
            continue
        for ep in _expert_ranks(spec, shard * cp * tp) if "ep" in axes else (1,):
            for virtual in _virtual_stages(spec, pp):
                schedule: PipelineSchedule = "interleaved-1f1b" if virtual > 1 else "1f1b"
                yield Layout(
                    dp_replicate=replicate,
                    dp_shard=shard,
                    tp=tp,
                    pp=pp,
                    cp=cp,
                    ep=ep,
                    micro_batches=micro_batches,
                    pipeline_schedule=schedule,
                    virtual_stages=virtual,
                    mixed_precision=is_mixed(setup),
                )


def _expert_ranks(spec: ModelSpec, most: int) -> Iterator[int]:
    """Ranks that the experts of every layer divide over."""
    experts = {layer.ffn.num_experts for layer in spec.kinds if isinstance(layer.ffn, MoeFfn)}
    for ep in _divisors(most):
        if ep == 1 or (experts and all(num % ep == 0 for num in experts)):
            yield ep


def _virtual_stages(spec: ModelSpec, pp: int) -> Iterator[int]:
    yield 1
    for virtual in range(2, MOST_VIRTUAL_STAGES + 1) if pp > 1 else ():
        if len(spec.layers) % (pp * virtual) == 0:
            yield virtual


@cache
def _divisors(n: int) -> tuple[int, ...]:
    """In ascending order.

    >>> _divisors(12)
    (1, 2, 3, 4, 6, 12)
    """
    small = [d for d in range(1, int(n**0.5) + 1) if n % d == 0]
    return (*small, *(n // d for d in reversed(small) if d * d != n))
