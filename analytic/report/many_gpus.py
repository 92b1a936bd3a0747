"""What `fits` says of several GPUs: a layout, the memory of its fullest rank, what it sends, and the other layouts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from analytic.model.training import TrainingSetup
from analytic.parallelism.layout import Layout
from analytic.planning.many_gpus import ManyGpus
from analytic.planning.rank_fit import RankFit
from analytic.report.document import Cell, Column, Document, Figure, Item, Json, Line, Section, Table, fact
from analytic.report.memory import setup_object
from analytic.report.units import bytes_text, flops_text, gib_text, gpus_text, percent

MOST_SHOWN = 5  # alternatives of each stack in the table and in JSON, the best first
PARTS = ("parameters", "gradients", "optimizer", "activations", "temporaries")


def many_document(found: ManyGpus) -> Document:
    """The answer in a few lines, then memory, communication and alternatives."""
    return Document(
        verb="fits",
        answer=list(_answer(found)),
        sections=(
            Section("", list(_machine(found))),
            Section("memory of the fullest rank", list(memory_items(found.chosen))),
            Section("sent and received by a rank in a step", [communication_table(found.chosen)]),
            Section("other layouts that fit", list(_alternatives(found))),
        ),
    )


def _answer(found: ManyGpus) -> Iterator[Line]:
    fit, where = found.chosen, f"{found.num_gpus:,} x {found.gpu}"
    name = found.question.config.name
    if fit is None:
        verdict = "does NOT fit" if found.fits is False else "not predicted whether it fits"
        yield Line(name, f"{verdict} on {where}")
        yield Line("states", f"{gib_text(found.least_states)} at the least on all; {found.missing}")
        return
    yield Line(name, f"{'fits' if fit.fits else 'does NOT fit'} on {where}: {fit.layout.describe()}")
    yield Line("stack", f"{fit.stack}, {fit.peak.origin}")
    room = f"{gib_text(fit.allowance_bytes)} allowed for {_allowed_for(fit)}, of {gib_text(fit.memory_bytes)}"
    yield Line("memory", f"{gib_text(fit.peak.peak_bytes)} at the peak of rank {fit.peak.rank}; {room}")
    yield Line("largest", _largest(fit))
    if not fit.fits:
        yield Line("instead", _instead(found))
    yield Line("sends", f"{bytes_text(fit.sent_bytes)} from that rank in a step, by ring algorithms (assumed)")
    if not found.is_given:
        others = f"{len(found.enumerated.fitting):,} of {found.enumerated.tried:,} predicted layouts fit"
        yield Line("layouts", f"{others}; in order: no recomputation, stack, no pipeline, bytes sent")
    yield Line("for", _setup_text(fit))


def _allowed_for(fit: RankFit) -> str:
    return "what was asked to be free" if fit.reserve_bytes is not None else "CUDA, NCCL and fragmentation"


def _largest(fit: RankFit) -> str:
    most = fit.most_micro_batch
    recompute = f"with recompute {fit.setup.checkpointing}"
    return f"micro-batch {most:,} {recompute}" if most else f"not even one sequence a GPU {recompute}"


def _instead(found: ManyGpus) -> str:
    """What would fit where this does not."""
    if found.more is not None:
        more = found.more
        return f"{gpus_text(more.layout.num_gpus)}: {more.layout.describe()} with {more.stack}"
    if found.is_given:
        return "leave out the layout's options, and every layout is tried"
    return "no number of GPUs that was tried suffices: shorter sequences or a smaller micro-batch would"


def _setup_text(fit: RankFit) -> str:
    setup, layout = fit.setup, fit.layout
    micro_batches = "1 micro-batch" if layout.micro_batches == 1 else f"{layout.micro_batches:,} micro-batches"
    return (
        f"{setup.micro_batch:,} x {setup.seq_len:,} tokens, {micro_batches}, {setup.precision} compute, "
        f"{_types(fit)}, {setup.optimizer}, recompute {setup.checkpointing}"
    )


def _types(fit: RankFit) -> str:
    """What is kept in which type."""
    if not fit.layout.mixed_precision:
        return f"{fit.setup.precision} throughout"
    return "fp32 gradients and master weights" if fit.stack == "megatron-te" else "fp32 stored and reduced"


def _machine(found: ManyGpus) -> Iterator[Item]:
    question, fit = found.question, found.chosen
    yield fact("model", question.config.name)
    yield Figure("gpu", "GPU", found.gpu, found.gpu)
    yield Figure("num_gpus", "GPUs", found.num_gpus, gpus_text(found.num_gpus))
    yield Figure("memory_bytes", "memory of one", question.memory_bytes, gib_text(question.memory_bytes))
    yield fact("reserve_bytes", question.reserve_bytes)
    yield fact("setup", setup_object(question.setup if fit is None else fit.setup))
    yield fact("stack", None if fit is None else fit.stack)
    yield fact("layout", None if fit is None else layout_json(fit.layout, fit.setup))
    yield fact("fits", found.fits)
    yield fact("reason", found.missing)
    yield fact("at_least_bytes", found.least_states)
    yield fact("least_gpus", None if found.more is None else found.more.layout.num_gpus)
    flops = None if fit is None else fit.executed_flops
    text = "" if flops is None else f"{flops_text(flops)} in a step, recomputation included"
    yield Figure("flops_per_gpu", "executed by a GPU", flops, text)
    idle = None if fit is None else fit.idle_share
    text = "" if idle is None else f"{percent(idle)} of a step, with equal stages and free sending"
    yield Figure("pipeline_idle", "pipeline idle" if idle else "", idle, text)
    for key in ("step", "mfu", "tokens_per_second_per_gpu", "days", "usd", "energy_kwh"):
        yield fact(key, None)


def memory_items(fit: RankFit | None) -> Iterator[Item]:
    """The peak by category, as every verb prints it."""
    if fit is None:
        yield fact("memory_per_gpu", None)
        return
    peak = fit.peak
    yield Figure("memory_per_gpu.rank", "  rank", peak.rank)
    sizes = {part: getattr(peak, f"{part}_bytes") for part in PARTS}
    sizes |= {"peak": peak.peak_bytes, "allowance": fit.allowance_bytes, "available": fit.available_bytes}
    for name, size_bytes in sizes.items():
        text = f"{size_bytes:,} bytes, {gib_text(size_bytes)}"
        yield Figure(f"memory_per_gpu.{name}_bytes", f"  {name}", size_bytes, text)
    yield fact("memory_per_gpu.allowance", {line.name: line.size_bytes for line in fit.allowance})
    for line in fit.allowance:
        yield Figure("", f"    {line.name}", None, f"{gib_text(line.size_bytes)}, {line.source}")
    yield Figure("memory_per_gpu.moment", "  moment of the peak", peak.moment)
    yield Figure("memory_per_gpu.origin", "  origin", peak.origin)
    yield Figure("most_micro_batch", "  largest micro-batch", fit.most_micro_batch, f"{fit.most_micro_batch:,}")


def communication_table(fit: RankFit | None) -> Table:
    """What a rank sends and receives in a step, by axis and kind."""
    columns = (
        Column("axis", "axis", is_left=True),
        Column("collective", "collective", is_left=True),
        Column("group_size", "ranks"),
        Column("count", "count"),
        Column("bytes", "bytes"),
    )
    counts: Counter[tuple[str, str, int]] = Counter()
    sizes: Counter[tuple[str, str, int]] = Counter()
    for one in fit.collectives if fit is not None else ():
        key = (one.axis, one.kind, one.group_size)
        counts[key] += one.count
        sizes[key] += one.size_bytes
    rows = [
        [
            Cell(axis, axis),
            Cell(kind, kind),
            Cell(ranks, f"{ranks:,}"),
            Cell(count, f"{count:,}"),
            Cell(sizes[axis, kind, ranks], f"{sizes[axis, kind, ranks]:,}"),
        ]
        for (axis, kind, ranks), count in counts.items()
    ]
    return Table("communication_per_step", columns, rows)


def _alternatives(found: ManyGpus) -> Iterator[Item]:
    columns = (
        Column("stack", "stack", is_left=True),
        Column("layout", "layout", is_left=True),
        Column("recompute", "recompute", is_left=True),
        Column("peak_bytes", "peak"),
        Column("most_micro_batch", "micro-batch"),
        Column("bytes_per_token", "sent a token"),
    )
    rows = [
        [
            Cell(fit.stack, fit.stack),
            Cell(layout_json(fit.layout, fit.setup), fit.layout.describe()),
            Cell(fit.setup.checkpointing, fit.setup.checkpointing),
            Cell(fit.peak.peak_bytes, gib_text(fit.peak.peak_bytes)),
            Cell(fit.most_micro_batch, f"up to {fit.most_micro_batch:,}"),
            Cell(fit.bytes_per_token, bytes_text(fit.bytes_per_token)),
        ]
        for fit in _shown(found)
    ]
    yield Table("alternatives", columns, rows)
    yield Figure("num_fitting", "  layouts that fit", len(found.enumerated.fitting))
    yield Figure("num_tried", "  layouts predicted", found.enumerated.tried)
    yield fact("not_predicted", list(found.enumerated.not_predicted))


def _shown(found: ManyGpus) -> Iterator[RankFit]:
    """The best alternatives of each stack."""
    counts: Counter[str] = Counter()
    for fit in found.alternatives:
        counts[fit.stack] += 1
        if counts[fit.stack] <= MOST_SHOWN:
            yield fit


def layout_json(layout: Layout, setup: TrainingSetup) -> dict[str, Json]:
    """The layout with what completes it, as every verb prints it."""
    return {
        "dp_shard": layout.dp_shard,
        "dp_replicate": layout.dp_replicate,
        "tp": layout.tp,
        "pp": layout.pp,
        "cp": layout.cp,
        "ep": layout.ep,
        "etp": layout.etp,
        "micro_batch": setup.micro_batch,
        "global_batch": setup.micro_batch * layout.micro_batches * layout.data_ranks,
        "micro_batches": layout.micro_batches,
        "recompute": setup.checkpointing,
        "precision": setup.precision,
        "pipeline_schedule": layout.pipeline_schedule if layout.pp > 1 else None,
        "virtual_stages": layout.virtual_stages,
    }
