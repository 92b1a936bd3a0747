"""What `fits` says of one GPU: whether a model trains on it, and how large a micro-batch it takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from analytic.memory.by_stack import executed_flops
from analytic.memory.tensors import Category
from analytic.parallelism.layout import Layout
from analytic.planning.fitting import Fitting, OneGpu
from analytic.report.document import Cell, Column, Document, Figure, Item, Line, Section, Table, fact
from analytic.report.many_gpus import layout_json
from analytic.report.memory import setup_object, setup_text
from analytic.report.placement import placed_text, reserve_text
from analytic.report.units import flops_text, gib_text, gpus_text


def fits_document(found: Fitting) -> Document:
    """The answer in a few lines, then memory by what it is for and the largest that fits."""
    return Document(
        verb="fits",
        answer=_answer(found),
        sections=(
            Section("", list(_machine(found))),
            Section("", list(_memory(found))),
            Section("", list(_largest(found))),
        ),
    )


def _answer(found: Fitting) -> list[Line]:
    setup, where = found.setup, f"1 x {found.gpu}"
    room = f"{gib_text(found.memory_bytes)} each, {reserve_text(found.reserve_bytes)}"
    lines = [Line(found.config.name, f"{_yes_or_no(found)} on {where}"), Line("memory", room)]
    missing = found.missing
    if isinstance(found.one, OneGpu):
        peaks = ", ".join(f"{gib_text(p.total_bytes)} with recompute {each}" for each, p in found.one.peaks.items())
        lines.append(Line("peak", f"{peaks}; {setup.micro_batch:,} x {setup.seq_len:,} tokens"))
        for fit in found.one.largest:
            longest = f"{fit.seq_len:,} tokens at micro-batch {setup.micro_batch:,}"
            most = f"at most micro-batch {fit.micro_batch:,} at {setup.seq_len:,} tokens, or {longest}"
            most = most if fit.seq_len else "not even one token fits"
            lines.append(Line(f"recompute {fit.checkpointing}", most))
        if found.placement is not None and found.placement.least_gpus is not None:
            lines.append(Line("instead", placed_text(found.placement)))
    elif missing is not None:
        lines.append(Line("states", f"{gib_text(found.least_states)} at the least; {missing.reason}"))
    return [*lines, Line("for", setup_text(setup).replace(f", checkpointing {setup.checkpointing}", ""))]


def _yes_or_no(found: Fitting) -> str:
    if found.fits is None:
        return "not predicted whether it fits"
    return f"{'fits' if found.fits else 'does NOT fit'} with recompute {found.chosen}"


def _machine(found: Fitting) -> Iterator[Item]:
    setup = found.setup
    yield fact("model", found.config.name)
    yield Figure("gpu", "GPU", found.gpu, found.gpu)
    yield fact("num_gpus", 1)
    yield Figure("memory_bytes", "memory of one", found.memory_bytes, gib_text(found.memory_bytes))
    yield Figure("reserve_bytes", "  reserve", found.reserve_bytes, reserve_text(found.reserve_bytes))
    yield Figure("", "state of training", None, str(setup.state))
    yield fact("setup", setup_object(setup))
    name = found.one.implementation if isinstance(found.one, OneGpu) else None
    yield Figure("stack", "predicted for", name, name or "")
    yield fact("layout", layout_json(Layout(), replace(setup, checkpointing=found.chosen)))
    yield fact("fits", found.fits)
    yield fact("reason", None if found.missing is None else found.missing.reason)
    yield fact("at_least_bytes", found.least_states)
    least = found.placement.least_gpus if found.placement is not None else None
    yield Figure("least_gpus", "GPUs that suffice", least, "" if least is None else gpus_text(least))
    flops = None
    if isinstance(found.one, OneGpu):
        flops = executed_flops(
            found.config, replace(setup, checkpointing=found.chosen), Layout(), "transformers-fsdp2", 0
        )
    text = "" if flops is None else f"{flops_text(flops)} in a step, recomputation included"
    yield Figure("flops_per_gpu", "executed", flops, text)
    yield fact("communication_per_step", [])
    yield fact("alternatives", [])
    for key in ("step", "mfu", "tokens_per_second_per_gpu", "days", "usd", "energy_kwh"):
        yield fact(key, None)


def _memory(found: Fitting) -> Iterator[Item]:
    if not isinstance(found.one, OneGpu):
        yield fact("memory_per_gpu", None)
        return
    peak = found.one.peaks[found.chosen]
    held = {category: peak.categories.get(category, 0) for category in Category}
    figures = {
        "parameters_bytes": held[Category.PARAMETERS],
        "gradients_bytes": held[Category.GRADIENTS],
        "optimizer_bytes": held[Category.OPTIMIZER],
        "activations_bytes": held[Category.ACTIVATIONS] + held[Category.INPUTS],
        "temporaries_bytes": held[Category.TEMPORARIES],
        "peak_bytes": peak.total_bytes,
        "allowance_bytes": found.reserve_bytes,
        "available_bytes": found.available_bytes,
    }
    yield fact("memory_per_gpu.rank", 0)
    for key, size_bytes in figures.items():
        label = f"  {key.removesuffix('_bytes')}"
        yield Figure(f"memory_per_gpu.{key}", label, size_bytes, f"{size_bytes:,} bytes, {gib_text(size_bytes)}")
    yield Figure("memory_per_gpu.moment", "  moment of the peak", peak.moment)
    yield fact("memory_per_gpu.origin", f"predicted by the schedule of {found.one.implementation}")


def _largest(found: Fitting) -> Iterator[Item]:
    if not isinstance(found.one, OneGpu):
        return
    columns = (
        Column("checkpointing", "recompute", is_left=True),
        Column("micro_batch", f"largest micro-batch at {found.setup.seq_len:,} tokens"),
        Column("seq_len", f"longest sequence at micro-batch {found.setup.micro_batch:,}"),
    )
    yield Table(
        "largest",
        columns,
        [
            [
                Cell(fit.checkpointing, fit.checkpointing),
                Cell(fit.micro_batch, f"{fit.micro_batch:,}"),
                Cell(fit.seq_len, f"{fit.seq_len:,}"),
            ]
            for fit in found.one.largest
        ],
    )
