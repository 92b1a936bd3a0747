"""The exercise that this project grew from: three figures of one model, as its functions return them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from analytic.errors import UnsupportedModelError
from analytic.huggingface import config as hf
from analytic.huggingface.config import ModelConfig
from analytic.memory.implementation import NotPredicted
from analytic.memory.schedule import schedule_of
from analytic.model.params import layer_params
from analytic.model.spec import LayerRun
from analytic.model.training import TrainingSetup, fused_kernel
from analytic.planning.counts import Summary, Workload, summarize
from analytic.report.count import count_sections
from analytic.report.memory import memory_sections
from analytic.report.text import count_line as figure
from analytic.report.text import sections_text
from analytic.report.units import flops_text, gib_text, params_text

Figures = tuple[int, float, float]

OLD_BYTES_PER_PARAMETER = 12  # an earlier document's convention: 16-bit weights and gradients, two fp32 moments


@dataclass(frozen=True, slots=True)
class LayerForward:
    """Peak memory of one layer's forward pass: its weights, its input, and what the pass itself allocates.

    Rotary tables, which all layers share, and gradients are not included. `moment` is when the pass has most.
    """

    implementation: str
    weights_bytes: int
    input_bytes: int
    forward_transient_bytes: int
    moment: str

    @property
    def total_bytes(self) -> int:
        return self.weights_bytes + self.input_bytes + self.forward_transient_bytes


def layer_forward(config: ModelConfig, run: LayerRun, setup: TrainingSetup) -> LayerForward | NotPredicted:
    """The figure for the layers of `run`: nothing is saved, as under checkpointing."""
    schedule = schedule_of(config, setup)
    if isinstance(schedule, NotPredicted):
        return schedule
    hidden_size, memory = config.spec.hidden_size, schedule.layer(run.layer)
    sizes = layer_params(run.layer, hidden_size).values()
    return LayerForward(
        implementation=schedule.implementation.name,
        weights_bytes=sum(setup.rounded(numel * setup.itemsize) for numel in sizes),
        input_bytes=setup.rounded(setup.tokens * hidden_size * setup.itemsize),
        forward_transient_bytes=memory.forward_transient.total_bytes,
        moment=memory.forward_transient.moment,
    )


def model_training_cost_analysis_llama(path: str | Path, seq_len: int | None = None) -> Figures:
    """Trainable parameters, TFLOPs of one layer's forward pass, peak memory of that pass in GB.

    Batch 1, full attention, TFLOP = 1e12, GB = 1e9 bytes; fp16, checkpointing at every layer boundary:
    weights of the layer, its input, and the most that the pass allocates.

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


def exercise_setup(config: ModelConfig, seq_len: int) -> TrainingSetup:
    """fp16, checkpointing at each layer boundary, one sequence."""
    kernel = fused_kernel(config.spec)
    return TrainingSetup(seq_len=seq_len, precision="fp16", checkpointing="full", attention_kernel=kernel)


def layer_forward_fp16(config: ModelConfig, run: LayerRun, seq_len: int) -> LayerForward:
    """The memory of one layer's forward pass as the exercise asks for it: fp16, checkpointed at its boundary.

    Raises:
        UnsupportedModelError: a model without a memory schedule.
    """
    memory = layer_forward(config, run, exercise_setup(config, seq_len))
    if isinstance(memory, NotPredicted):
        raise UnsupportedModelError(f"{config.path}: {memory.reason}")
    return memory


def exercise_text(summary: Summary) -> str:
    """The three figures for people, every kind of layer apart."""
    config, p, work = summary.config, summary.params, summary.workload
    lines = [
        f"{config.name} ({config.path})",
        f"trainable parameters: {p.total:,} ({params_text(p.total)})",
        f"forward pass of one transformer layer, batch 1 x {work.seq_len:,} tokens, full attention:",
    ]
    for run, figures in zip(config.spec.runs, summary.runs, strict=True):
        exact = f"{figures.forward:,} FLOPs"
        lines.append(f"  layers {run.label}, {figures.kind}: {figures.forward / 1e12:.6f} TFLOP ({exact})")
    lines.append(f"whole model, forward, output head included: {flops_text(summary.flops.forward)}")
    kernel = fused_kernel(config.spec)
    for run in config.spec.runs:
        memory = layer_forward_fp16(config, run, work.seq_len)
        lines += [
            f"peak memory of that pass, layers {run.label}, fp16, checkpointing at each layer boundary: "
            f"{memory.total_bytes / 1e9:.6f} GB ({gib_text(memory.total_bytes)})",
            figure("  weights of the layer", memory.weights_bytes, "bytes"),
            figure("  input", memory.input_bytes, "bytes"),
            figure("  forward_transient", memory.forward_transient_bytes, f"bytes, at {memory.moment}"),
            f"  predicted for {memory.implementation}, attention {kernel}; not measured here",
        ]
    return "\n".join(lines) + "\n"


def detailed_text(summary: Summary) -> str:
    """Every term of the counts, and the memory of a training step compared with the old convention."""
    setup = exercise_setup(summary.config, summary.workload.seq_len)
    old = OLD_BYTES_PER_PARAMETER * summary.params.total
    text = sections_text((*count_sections(summary), *memory_sections(summary.config, setup)))
    convention = figure(f"{OLD_BYTES_PER_PARAMETER} bytes a parameter", old, gib_text(old))
    return f"{text}{convention}, an earlier document's convention: no activations, no moment; not a prediction\n"


def _figures(summary: Summary) -> Figures:
    run = summary.config.spec.runs[-1]
    memory = layer_forward_fp16(summary.config, run, summary.workload.seq_len)
    return summary.params.total, summary.runs[-1].forward / 1e12, memory.total_bytes / 1e9
