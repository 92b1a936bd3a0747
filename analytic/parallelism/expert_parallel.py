"""Collectives of expert parallelism: `AllToAllEP` of `transformers` 5.23, which its default runs in training.

A rank exchanges how many tokens go to each expert, sends each (token, expert) pair to the rank of its expert, and gets
the results back; backward runs both exchanges again. Under tensor parallelism the ranks that share a batch send equal
slices of it, and gather the slices' results.

Assumption: routing is balanced, so that every rank receives as many pairs as it sends.
"""

from __future__ import annotations

from collections.abc import Iterator

from analytic.model.checkpointing import recomputes_layers
from analytic.model.spec import LayerRun, MoeFfn
from analytic.model.training import TrainingSetup
from analytic.parallelism.communication import Collective
from analytic.parallelism.layout import Layout
from analytic.parallelism.parameters import EXPERTS, DistributedModel
from analytic.parallelism.tensor_parallel import router_weight_itemsize

_COUNT_BYTES = 8  # an int64 for each expert


def ep_collectives(model: DistributedModel, setup: TrainingSetup, layout: Layout) -> Iterator[Collective]:
    """All collectives of one rank and step that dispatch tokens: over `ep`, and over `tp` where there is one."""
    if layout.ep > 1:
        for run in model.spec.runs:
            if isinstance(run.layer.ffn, MoeFfn):
                yield from _of_run(run, run.layer.ffn, model, setup, layout)


def _of_run(
    run: LayerRun, f: MoeFfn, model: DistributedModel, setup: TrainingSetup, layout: Layout
) -> Iterator[Collective]:
    module, times = f"layers.{run.label}.{EXPERTS}", run.count * layout.micro_batches
    recomputed = times if recomputes_layers(setup.checkpointing) else 0
    token = model.spec.hidden_size * setup.itemsize
    pairs = setup.tokens // layout.tp * f.num_experts_per_token
    counts, exchanges = times + recomputed, 2 * (2 * times + recomputed)
    yield Collective(
        axis="ep",
        kind="all_to_all",
        module=module,
        group_size=layout.ep,
        count=counts + exchanges,
        size_bytes=counts * f.num_experts * _COUNT_BYTES + exchanges * pairs * token,
    )
    if layout.tp > 1:
        # recomputation goes on to the gathered output only where shared experts run after the routed ones
        outputs = times + (recomputed if f.shared is not None else 0)
        # in mixed precision FSDP casts what enters the experts' group, the router's weights included
        weight = setup.itemsize if layout.mixed_precision else router_weight_itemsize(model, setup)
        output = setup.tokens * model.spec.hidden_size * max(weight, setup.itemsize)
        gradients = setup.tokens * (token + f.num_experts_per_token * weight)
        yield Collective(
            axis="tp",
            kind="all_gather",
            module=module,
            group_size=layout.tp,
            count=outputs + 2 * times,
            size_bytes=outputs * output + times * gradients,
        )
