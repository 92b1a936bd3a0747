"""Whether a model fits GPUs that share it ideally, as items of a document."""

from __future__ import annotations

from collections.abc import Iterator

from analytic.memory.capacity import RESERVE_BYTES
from analytic.memory.implementation import NotPredicted
from analytic.planning.placement import Placement
from analytic.report.document import Figure, Item, Json, fact
from analytic.report.units import gib_text, gpus_text

IDEAL = "ideal sharding, unmeasured"


def verdict(placement: Placement | NotPredicted) -> str:
    """One line."""
    if isinstance(placement, NotPredicted):
        return f"not predicted: {placement.reason}"
    if placement.least_gpus is None or placement.num_gpus is None:
        return f"no number of these GPUs could run it at micro-batch {placement.micro_batch}{_idle(placement)}"
    gpus, need = placement.num_gpus, placement.need
    if placement.has_idle_gpus:
        return f"does not fit {gpus_text(gpus)}{_idle(placement)}"
    where = f"{gib_text(need.on_each(gpus))} on each of {gpus_text(gpus)}"
    if placement.fits:
        return f"fits by ideal sharding, unmeasured: {where}; micro-batch up to {placement.most_micro_batch}"
    return f"does not fit: {where}; at least {gpus_text(placement.least_gpus)}"


def _idle(placement: Placement) -> str:
    """Why it is not a matter of memory alone: GPUs that have no micro-batch to work on."""
    return f": only {placement.most_sequences:,} sequences to share" if placement.has_idle_gpus else ""


def placement_items(placement: Placement | NotPredicted, prefix: str) -> Iterator[Item]:
    """All of it, below `prefix` in JSON."""
    if isinstance(placement, NotPredicted):
        yield fact(f"{prefix}.predicted", False)
        yield Figure(f"{prefix}.reason", "  not predicted", placement.reason)
        return
    need, gpus = placement.need, placement.num_gpus
    yield fact(f"{prefix}.predicted", True)
    yield Figure(
        f"{prefix}.sharding",
        "  sharding",
        "ideal, unmeasured",
        f"ideal, unmeasured; schedule of {placement.implementation}",
    )
    yield fact(f"{prefix}.implementation", placement.implementation)
    yield fact(f"{prefix}.micro_batch", placement.micro_batch)
    yield fact(f"{prefix}.most_sequences", placement.most_sequences)
    taken = f"{gib_text(placement.memory_bytes)}, {gib_text(RESERVE_BYTES)} of it assumed taken"
    yield Figure(f"{prefix}.memory_bytes", "  memory of a GPU", placement.memory_bytes, taken)
    yield fact(f"{prefix}.reserve_bytes", RESERVE_BYTES)
    yield Figure(
        f"{prefix}.need.state", "  state, shared evenly", need.state, f"{gib_text(need.state)}: {placement.state}"
    )
    yield Figure(
        f"{prefix}.need.activations",
        "  on each GPU in addition",
        need.activations,
        f"{gib_text(need.activations)} of activations, {gib_text(need.gathered)} of one layer",
    )
    yield fact(f"{prefix}.need.gathered", need.gathered)
    yield fact(f"{prefix}.need.optimizer_peak", need.optimizer_peak)
    for layer in placement.measured:
        text = f"{gib_text(layer.measured_bytes)} {layer.source}; {layer.predicted_bytes:,} predicted"
        yield Figure("", "    of them one layer's peak", None, text)
    yield fact(
        f"{prefix}.measured",
        [
            {"measured_bytes": m.measured_bytes, "predicted_bytes": m.predicted_bytes, "source": m.source}
            for m in placement.measured
        ],
    )
    least = placement.least_gpus
    if least is None or gpus is None:
        fewest = f"no number of these GPUs could run it at micro-batch {placement.micro_batch}{_idle(placement)}"
    else:
        fewest = f"{least:,} at micro-batch {placement.micro_batch}, every layer recomputed"
    yield Figure(f"{prefix}.least_gpus", "  fewest GPUs", least, fewest)
    yield fact(f"{prefix}.num_gpus", gpus)
    yield fact(f"{prefix}.fits", placement.fits)
    if gpus is None:
        yield fact(f"{prefix}.most_micro_batch", placement.most_micro_batch)
        return
    holds = "fit" if placement.fits else f"DO NOT FIT{_idle(placement)}"
    most = f"largest micro-batch (power of 2): {placement.most_micro_batch}"
    text = f"{holds}: {gib_text(need.on_each(gpus))} on each; {most}"
    yield Figure(f"{prefix}.most_micro_batch", f"  {gpus_text(gpus)}", placement.most_micro_batch, text)


def layout_object(num_gpus: int, micro_batch: int, recompute: str, precision: str) -> dict[str, Json]:
    """Data parallel alone, every state sharded: the one layout that is known today."""
    return {
        "dp_shard": num_gpus,
        "dp_replicate": 1,
        "tp": 1,
        "pp": 1,
        "cp": 1,
        "ep": 1,
        "etp": 1,
        "micro_batch": micro_batch,
        "global_batch": micro_batch * num_gpus,
        "micro_batches": 1,
        "recompute": recompute,
        "precision": precision,
        "pipeline_schedule": None,
    }


def unknown_yet(*more: str) -> Iterator[Item]:
    """Keys that layouts and the time of a step will fill, so that a reader finds them."""
    for key in ("communication_per_step", "flops_per_gpu", "step", *more):
        yield fact(key, None)
    yield fact("alternatives", [])
