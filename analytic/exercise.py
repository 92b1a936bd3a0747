"""The exercise that this project grew from: three figures of one model, as its functions return them."""

from __future__ import annotations

from pathlib import Path

from analytic import hf
from analytic.errors import UnsupportedModelError
from analytic.report import flops_text, params_text
from analytic.summary import Summary, Workload, summarize

Figures = tuple[int, float, float | None]


def model_training_cost_analysis_llama(path: str | Path, seq_len: int | None = None) -> Figures:
    """Trainable parameters, TFLOPs of one layer's forward pass, peak memory of that pass in GB.

    Batch 1, full attention, TFLOP = 1e12. Peak memory (fp16, checkpointing at every layer boundary) is
    not predicted yet: None, never a guess.

    Raises:
        PlannerError: a file that cannot be read, or that is not a llama config.
    """
    return _figures(analyze(Path(path), seq_len, families=("llama",)))


def model_training_cost_analysis_deepseek(path: str | Path, seq_len: int | None = None) -> Figures:
    """The same for a deepseek_v3 config; the layer is an MoE layer, of which the model has most.

    Raises:
        PlannerError: a file that cannot be read, or that is not a deepseek_v3 config.
    """
    return _figures(analyze(Path(path), seq_len, families=("deepseek_v3",)))


def analyze(path: Path, seq_len: int | None, *, families: tuple[str, ...] = ("llama", "deepseek_v3")) -> Summary:
    """One sequence through a model of one of `families`."""
    config = hf.load(path)
    if config.read_as not in families:
        raise UnsupportedModelError(f"{path}: model_type = {config.model_type!r}: expected {' or '.join(families)}")
    return summarize(config, Workload.of(config, seq_len=seq_len))


def exercise_text(summary: Summary) -> str:
    """The three figures for people, every kind of layer on a line of its own."""
    p, work = summary.params, summary.workload
    lines = [
        f"{summary.config.name} ({summary.config.path})",
        f"trainable parameters: {p.total:,} ({params_text(p.total)})",
        f"forward pass of one transformer layer, batch 1 x {work.seq_len:,} tokens, full attention:",
    ]
    for run, figures in zip(summary.config.spec.runs, summary.runs, strict=True):
        exact = f"{figures.forward:,} FLOPs"
        lines.append(f"  layers {run.label}, {figures.kind}: {figures.forward / 1e12:.6f} TFLOP ({exact})")
    lines += [
        f"whole model, forward, output head included: {flops_text(summary.flops.forward)}",
        "peak memory of one layer's forward pass (fp16, checkpointing at each layer boundary): not predicted yet",
    ]
    return "\n".join(lines) + "\n"


def _figures(summary: Summary) -> Figures:
    return summary.params.total, summary.runs[-1].forward / 1e12, None
