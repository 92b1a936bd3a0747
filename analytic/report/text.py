"""Text for people: the only place that rounds or picks a unit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from analytic.model.spec import LayerRun, LayerSpec
from analytic.report.count import RunSummary, Summary

WIDTH = 44
MOST_RUNS = 5


def count_text(summary: Summary) -> str:
    """What `trainmeter-count` prints: every figure here comes from the formulas and says so."""
    return "\n".join((*_title(summary), "", *_params(summary), "", *_flops(summary), "", *_layers(summary), ""))


def flops_text(flops: int) -> str:
    """FLOPs with a unit that leaves few digits before the point: 1 TFLOP is 1e12.

    >>> flops_text(897_648_164_864), flops_text(29_261_612_187_648)
    ('897.648 GFLOP', '29.262 TFLOP')
    """
    for exponent, prefix in ((24, "Y"), (21, "Z"), (18, "E"), (15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if flops >= 10**exponent:
            return f"{flops / 10**exponent:.3f} {prefix}FLOP"
    return f"{flops} FLOP"


def params_text(params: int) -> str:
    """
    >>> params_text(6_738_415_616), params_text(671_026_404_352)
    ('6.738 B', '671.026 B')
    """
    for exponent, suffix in ((12, "T"), (9, "B"), (6, "M"), (3, "k")):
        if params >= 10**exponent:
            return f"{params / 10**exponent:.3f} {suffix}"
    return str(params)


def gib_text(size_bytes: int) -> str:
    """
    >>> gib_text(15_997_757_952)
    '14.90 GiB'
    """
    return f"{size_bytes / 2**30:,.2f} GiB"


def table(rows: Iterable[Sequence[str]], *, left: int = 1) -> list[str]:
    """Aligned columns, the first `left` of them to the left and the rest to the right."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(w) if i < left else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def figure(label: str, value: int, rounded: str = "") -> str:
    """A labelled integer in full, and rounded beside it."""
    return f"{label:<{WIDTH}}{value:>30,}   {rounded}".rstrip()


def _title(summary: Summary) -> list[str]:
    config = summary.config
    lines = [f"{config.name}: {len(config.spec.layers)} layers, as transformers' {config.transformers_class}"]
    lines += config.notes
    lines += [f"{key} absent: taken as {_json(d.value)}, {d.source}" for key, d in config.derived.items()]
    lines.append("all figures from the formulas; `trainmeter-verify` proves them against the real model")
    return lines


def _json(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _params(summary: Summary) -> list[str]:
    p = summary.params
    lines = [figure("parameters", p.total, params_text(p.total))]
    if p.active != p.total:
        lines.append(figure("  active per token", p.active, params_text(p.active)))
    lines += [
        figure("  embedding, tokens and positions", p.embedding, params_text(p.embedding)),
        figure("  output head, untied", p.head, params_text(p.head)),
        figure("  non-embedding", p.non_embedding, params_text(p.non_embedding)),
        figure("buffers, not parameters", p.buffers),
    ]
    if summary.workload.mtp:
        lines.append(figure("multi-token prediction, included", p.mtp, params_text(p.mtp)))
    elif p.mtp:
        lines.append(figure("multi-token prediction, extra (--mtp)", p.mtp, params_text(p.mtp)))
    return [*lines, "", *(figure(f"  {term}", value) for term, value in summary.param_terms.items())]


def _flops(summary: Summary) -> list[str]:
    f, work = summary.flops, summary.workload
    lines = [
        f"batch {work.batch_size:,} x {work.seq_len:,} tokens ({work.seq_len_source}), attention {work.convention}, "
        f"checkpointing {work.checkpointing}",
        figure("forward FLOPs", f.forward, flops_text(f.forward)),
        figure("backward FLOPs", f.backward, flops_text(f.backward)),
        figure("model FLOPs, forward and backward", f.model_flops, flops_text(f.model_flops)),
        figure("  per token", f.training_per_token, flops_text(f.training_per_token)),
    ]
    if work.checkpointing != "none":
        lines += [
            figure("recomputation, textbook", f.recompute, flops_text(f.recompute)),
            figure("recomputation, as torch executes it", f.recompute_executed, flops_text(f.recompute_executed)),
            figure("hardware FLOPs, as executed", f.hardware_flops, flops_text(f.hardware_flops)),
        ]
    if summary.mtp_forward and not work.mtp:
        extra = summary.mtp_forward
        lines.append(figure("multi-token prediction forward, extra (--mtp)", extra, flops_text(extra)))
    return [*lines, "", *(figure(f"  {term}", value) for term, value in summary.flop_terms.items())]


def _layers(summary: Summary) -> list[str]:
    """Equal layers in one row, wherever they stand."""
    runs: dict[LayerSpec, list[tuple[LayerRun, RunSummary]]] = {}
    for run, figures in zip(summary.config.spec.runs, summary.runs, strict=True):
        runs.setdefault(run.layer, []).append((run, figures))
    header = ("layers", "of them", "kind", "parameters each", "forward FLOPs each")
    rows = [
        (
            _listed([run.label for run, _ in equal]),
            str(sum(run.count for run, _ in equal)),
            _kind(layer),
            f"{equal[0][1].params:,}",
            f"{equal[0][1].forward:,}",
        )
        for layer, equal in runs.items()
    ]
    return table([header, *rows], left=3)


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
