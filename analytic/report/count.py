"""What `count` says: parameters, FLOPs and memory of one model under one workload."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from analytic.huggingface.config import ModelConfig
from analytic.model.spec import LayerRun, LayerSpec
from analytic.model.training import TrainingSetup
from analytic.planning.counts import RunSummary, Summary
from analytic.report.document import Cell, Column, Count, Document, Item, Line, Note, Section, Table, Terms, fact
from analytic.report.memory import memory_answer, memory_sections
from analytic.report.units import compact, flops_text, params_text

MOST_RUNS = 5


def count_document(summary: Summary, setup: TrainingSetup) -> Document:
    """Every figure is from the formulas; `prove` checks them against the real model."""
    return Document(
        verb="count",
        answer=_answer(summary, setup),
        sections=(*count_sections(summary), *memory_sections(summary.config, setup)),
    )


def count_sections(summary: Summary) -> tuple[Section, ...]:
    """Without memory."""
    return (
        Section("", list(_config(summary.config))),
        Section("", list(_params(summary))),
        Section("", [Terms("params.terms", summary.param_terms), *_more_params(summary)]),
        Section("", list(_flops(summary))),
        Section("", [Terms("flops.terms", summary.flop_terms)]),
        Section("", list(_layers(summary))),
    )


def _answer(summary: Summary, setup: TrainingSetup) -> list[Line]:
    config, p, f, work = summary.config, summary.params, summary.flops, summary.workload
    active = f", {p.active:,} ({compact(p.active)}) active for a token" if p.active != p.total else ""
    shape = f"{work.batch_size:,} x {work.seq_len:,} tokens ({work.seq_len_source})"
    return [
        Line(config.name, f"{len(config.spec.layers)} layers, as transformers' {config.transformers_class}"),
        Line("parameters", f"{p.total:,} ({compact(p.total)}){active}"),
        Line("training", f"{flops_text(f.training_per_token)} a token, {work.convention} attention"),
        Line("forward", f"{flops_text(f.forward)}; {shape}"),
        memory_answer(config, setup),
        *(Line("note", note) for note in config.notes),
        Line("from", f"formulas; `foretrain prove {config.name}` checks them against the real model, -v shows them"),
    ]


def _config(config: ModelConfig) -> Iterator[Item]:
    for key, value in (
        ("path", str(config.path)),
        ("name", config.name),
        ("model_type", config.model_type),
        ("read_as", config.read_as),
        ("notes", list(config.notes)),
        ("transformers_class", config.transformers_class),
        ("derived", {key: {"value": d.value, "source": d.source} for key, d in config.derived.items()}),
    ):
        yield fact(f"config.{key}", value)
    for key, derived in config.derived.items():
        value = str(derived.value).lower() if isinstance(derived.value, bool) else derived.value
        yield Note(f"{key} absent: taken as {value}, {derived.source}")


def _params(summary: Summary) -> Iterator[Item]:
    p, is_moe = summary.params, summary.params.active != summary.params.total
    yield Count("params.total", "parameters", p.total, params_text(p.total))
    yield Count("params.active", "  active per token" if is_moe else "", p.active, params_text(p.active))
    yield Count("params.embedding", "  embedding, tokens and positions", p.embedding, params_text(p.embedding))
    yield Count("params.head", "  output head, untied", p.head, params_text(p.head))
    yield Count("params.non_embedding", "  non-embedding", p.non_embedding, params_text(p.non_embedding))
    yield Count("params.buffers", "buffers, not parameters", p.buffers)
    extra = "included" if summary.workload.mtp else "extra (--mtp)"
    yield Count("params.mtp", f"multi-token prediction, {extra}" if p.mtp else "", p.mtp, params_text(p.mtp))


def _more_params(summary: Summary) -> Iterator[Item]:
    yield Terms("params.buffer_terms", summary.buffer_terms, is_shown=False)
    yield fact("params.includes_mtp", summary.workload.mtp)


def _flops(summary: Summary) -> Iterator[Item]:
    f, work = summary.flops, summary.workload
    yield Note(
        f"batch {work.batch_size:,} x {work.seq_len:,} tokens ({work.seq_len_source}), attention {work.convention}, "
        f"checkpointing {work.checkpointing}"
    )
    for key, value in (
        ("attention", work.convention),
        ("batch_size", work.batch_size),
        ("seq_len", work.seq_len),
        ("seq_len_source", work.seq_len_source),
        ("checkpointing", work.checkpointing),
        ("includes_mtp", work.mtp),
        ("tokens", f.tokens),
    ):
        yield fact(f"flops.{key}", value)
    is_checkpointed = work.checkpointing != "none"
    has_extra = bool(summary.mtp_forward) and not work.mtp
    for key, label, flops, is_shown in (
        ("forward", "forward FLOPs", f.forward, True),
        ("backward", "backward FLOPs", f.backward, True),
        ("model", "model FLOPs, forward and backward", f.model_flops, True),
        ("training_per_token", "  per token", f.training_per_token, True),
        ("recompute", "recomputation, textbook", f.recompute, is_checkpointed),
        ("recompute_executed", "recomputation, as torch executes it", f.recompute_executed, is_checkpointed),
        ("hardware", "hardware FLOPs, as executed", f.hardware_flops, is_checkpointed),
        ("mtp_forward", "multi-token prediction forward, extra (--mtp)", summary.mtp_forward, has_extra),
    ):
        yield Count(f"flops.{key}", label if is_shown else "", flops, flops_text(flops))


def _layers(summary: Summary) -> Iterator[Item]:
    """Each run of equal layers in JSON; for people equal layers in one row, wherever they are."""
    yield fact(
        "flops.layers",
        [
            {"first": run.first, "count": run.count, "kind": run.kind, "params": run.params, "forward": run.forward}
            for run in summary.runs
        ],
    )
    equal: dict[LayerSpec, list[tuple[LayerRun, RunSummary]]] = {}
    for run, figures in zip(summary.config.spec.runs, summary.runs, strict=True):
        equal.setdefault(run.layer, []).append((run, figures))
    yield Table(
        "",
        (
            Column("", "layers", is_left=True),
            Column("", "of them"),
            Column("", "kind", is_left=True),
            Column("", "parameters each"),
            Column("", "forward FLOPs each"),
        ),
        [
            [
                Cell(None, _listed([run.label for run, _ in same])),
                Cell(None, str(sum(run.count for run, _ in same))),
                Cell(None, _kind(layer)),
                Cell(None, f"{same[0][1].params:,}"),
                Cell(None, f"{same[0][1].forward:,}"),
            ]
            for layer, same in equal.items()
        ],
    )


def _listed(labels: Sequence[str]) -> str:
    """
    >>> _listed(["0", "2", "4", "6", "8", "10"])
    '0, 2, 4, ..., 10'
    """
    shown = labels if len(labels) <= MOST_RUNS else [*labels[: MOST_RUNS - 2], "...", labels[-1]]
    return ", ".join(shown)


def _kind(layer: LayerSpec) -> str:
    window = layer.attention.sliding_window
    return layer.kind if window is None else f"{layer.kind}, window {window:,}"
