"""Whether a model fits the GPUs of a plan, as items of a document."""

from __future__ import annotations

from collections.abc import Iterator

from analytic.defaults import RESERVE_BYTES
from analytic.memory.implementation import NotPredicted
from analytic.planning.placement import Placement
from analytic.report.document import Figure, Item, fact
from analytic.report.units import gib_text, gpus_text


def verdict(placement: Placement | NotPredicted) -> str:
    """One line."""
    if isinstance(placement, NotPredicted):
        return f"not predicted: {placement.reason}"
    gpus = placement.num_gpus
    if gpus is None or placement.peak_bytes is None:
        return f"no number of these GPUs could run it at micro-batch {placement.micro_batch}{_idle(placement)}"
    if placement.has_idle_gpus:
        return f"does not fit {gpus_text(gpus)}{_idle(placement)}"
    where = f"{gib_text(placement.peak_bytes)} on {'one GPU' if gpus == 1 else f'each of {gpus_text(gpus)}'}"
    where = f"{where}, {placement.implementation}{_layout_text(placement)}, recompute {placement.recompute}"
    if placement.fits:
        return f"fits: {where}; micro-batch up to {placement.most_micro_batch}"
    least = placement.least_gpus
    return f"does not fit: {where}" + ("" if least is None else f"; {gpus_text(least)} would do")


def placed_text(placement: Placement) -> str:
    """The fewest GPUs, and their layout."""
    gpus = gpus_text(placement.num_gpus or 0)
    return f"{gpus}: {placement.implementation}{_layout_text(placement)}, {placement.origin}"


def _kept_free(placement: Placement) -> str:
    if placement.fit is None or placement.fit.reserve_bytes is not None:
        return reserve_text(placement.reserve_bytes)
    return f"{gib_text(placement.reserve_bytes)} of it allowed for CUDA, NCCL and fragmentation (estimated)"


def _layout_text(placement: Placement) -> str:
    return "" if placement.fit is None else f" {placement.fit.layout.describe()}"


def _idle(placement: Placement) -> str:
    """Why it is not a matter of memory alone: GPUs that have no micro-batch to work on."""
    return f": only {placement.most_sequences:,} sequences to share" if placement.has_idle_gpus else ""


def reserve_text(reserve_bytes: int) -> str:
    """What is kept free, and whether that is the default."""
    return f"{gib_text(reserve_bytes)} of it kept free ({'assumed' if reserve_bytes == RESERVE_BYTES else 'given'})"


def placement_items(placement: Placement | NotPredicted, prefix: str) -> Iterator[Item]:
    """All of it, below `prefix` in JSON."""
    if isinstance(placement, NotPredicted):
        yield fact(f"{prefix}.predicted", False)
        yield Figure(f"{prefix}.reason", "  not predicted", placement.reason)
        return
    gpus, peak = placement.num_gpus, placement.peak_bytes
    yield fact(f"{prefix}.predicted", True)
    yield Figure(
        f"{prefix}.implementation",
        "  predicted for",
        placement.implementation,
        f"{placement.implementation}{_layout_text(placement)}, {placement.origin}",
    )
    yield fact(f"{prefix}.origin", placement.origin)
    yield fact(f"{prefix}.micro_batch", placement.micro_batch)
    yield fact(f"{prefix}.most_sequences", placement.most_sequences)
    taken = f"{gib_text(placement.memory_bytes)}, {_kept_free(placement)}"
    yield Figure(f"{prefix}.memory_bytes", "  memory of a GPU", placement.memory_bytes, taken)
    yield fact(f"{prefix}.reserve_bytes", placement.reserve_bytes)
    yield fact(f"{prefix}.recompute", placement.recompute)
    held = "none" if peak is None else f"{gib_text(peak)}, {placement.moment}"
    yield Figure(f"{prefix}.peak_bytes", "  peak of the fullest", peak, held)
    for layer in placement.measured:
        text = f"{gib_text(layer.measured_bytes)} {layer.source}; {layer.predicted_bytes:,} predicted"
        yield Figure("", "    one layer's peak", None, text)
    yield Figure(
        f"{prefix}.beyond_bytes",
        "    measured in excess" if placement.measured else "",
        placement.beyond_bytes,
        gib_text(placement.beyond_bytes),
    )
    yield fact(
        f"{prefix}.measured",
        [
            {"measured_bytes": m.measured_bytes, "predicted_bytes": m.predicted_bytes, "source": m.source}
            for m in placement.measured
        ],
    )
    least = placement.least_gpus
    if least is None:
        fewest = f"no number of these GPUs could run it at micro-batch {placement.micro_batch}{_idle(placement)}"
    else:
        fewest = f"{least:,} at micro-batch {placement.micro_batch}, recompute {placement.recompute}"
    yield Figure(f"{prefix}.least_gpus", "  fewest GPUs", least, fewest)
    yield fact(f"{prefix}.num_gpus", gpus)
    yield fact(f"{prefix}.fits", placement.fits)
    if gpus is None:
        yield fact(f"{prefix}.most_micro_batch", placement.most_micro_batch)
        return
    holds = "fit" if placement.fits else f"DO NOT FIT{_idle(placement)}"
    text = f"{holds}; largest micro-batch (power of 2): {placement.most_micro_batch}"
    yield Figure(f"{prefix}.most_micro_batch", f"  {gpus_text(gpus)}", placement.most_micro_batch, text)
