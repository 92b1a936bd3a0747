"""Collectives of `fully_shard` (FSDP2) over the data axes, as `transformers` wires it.

Each group gathers its weights before forward and, where they were freed after it, again before backward: in the
compute type. Gradients are reduce-scattered in the type that they are stored in, and then, with replicas, all-reduced
among them. An axis of one rank sends nothing.

Every micro-batch gathers and reduces: `transformers` has no switch for gradient synchronization, and what a training
loop switches off by `set_requires_gradient_sync` is not counted here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from analytic.model.training import TrainingSetup
from analytic.parallelism.communication import Collective
from analytic.parallelism.layout import Layout
from analytic.parallelism.parameters import DistributedModel, Group
from analytic.parallelism.sharding import group_elements, shards_with_fsdp, stored_itemsize


def fsdp_collectives(model: DistributedModel, setup: TrainingSetup, layout: Layout, rank: int) -> Iterator[Collective]:
    """All collectives of one rank and step over `dp_shard`, `efsdp` and `dp_replicate`, group by group."""
    if shards_with_fsdp(layout):
        for group in model.groups(experts_apart=layout.ep > 1):
            yield from _of_group(group, setup, layout, rank)


def gathers_in_a_pass(group: Group, layout: Layout) -> int:
    """How often one micro-batch gathers a group's weights: in forward, and in backward where they were freed."""
    return 1 if group.keeps_weights or not layout.reshard_after_forward else 2


def _of_group(group: Group, setup: TrainingSetup, layout: Layout, rank: int) -> Iterator[Collective]:
    padded, gathered = group_elements(group, layout, rank)
    reduced_itemsize, passes = stored_itemsize(setup, layout), group.count * layout.micro_batches
    apart = group.is_experts and layout.ep > 1
    ranks = layout.efsdp if apart else layout.dp_shard
    if ranks > 1:
        axis: Literal["efsdp", "dp_shard"] = "efsdp" if apart else "dp_shard"
        gathers = passes * gathers_in_a_pass(group, layout)
        yield Collective(
            axis=axis,
            kind="all_gather",
            module=group.module,
            group_size=ranks,
            count=gathers,
            size_bytes=gathers * gathered * setup.itemsize,
        )
        yield Collective(
            axis=axis,
            kind="reduce_scatter",
            module=group.module,
            group_size=ranks,
            count=passes,
            size_bytes=passes * gathered * reduced_itemsize,
        )
    if layout.dp_replicate > 1:
        yield Collective(
            axis="dp_replicate",
            kind="all_reduce",
            module=group.module,
            group_size=layout.dp_replicate,
            count=passes,
            size_bytes=passes * padded * reduced_itemsize,
        )
