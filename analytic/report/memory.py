"""What `count` and `fits` say of memory: one layer, a training step, what fits in one GPU."""

from __future__ import annotations

from collections.abc import Iterator

from analytic.huggingface.config import ModelConfig
from analytic.memory.cuda import cuda_only
from analytic.memory.implementation import NotPredicted
from analytic.memory.layer import LayerMemory
from analytic.memory.peaks import Peak
from analytic.memory.schedule import schedule_of
from analytic.memory.static import least_states
from analytic.memory.step import StepMemory
from analytic.model.training import TrainingSetup
from analytic.report.document import Count, Item, Json, Line, Note, Section, fact
from analytic.report.units import gib_text

LARGEST_TENSORS = 6


def memory_answer(config: ModelConfig, setup: TrainingSetup) -> Line:
    """One line: the peak of a training step, or the least that it holds where there is no schedule."""
    schedule = schedule_of(config, setup)
    if isinstance(schedule, NotPredicted):
        least = sum(least_states(config.spec, setup).values())
        return Line("memory", f"at least {gib_text(least)} of states in training; {schedule.reason}")
    peak = schedule.step().step_peak
    choices = f"{setup.precision}, {setup.optimizer}, recompute {setup.checkpointing}"
    shape = f"{setup.micro_batch:,} x {setup.seq_len:,} tokens"
    return Line("memory", f"{gib_text(peak.total_bytes)} at the peak of a step on one GPU: {shape}, {choices}")


def memory_sections(config: ModelConfig, setup: TrainingSetup) -> Iterator[Section]:
    """Every kind of layer, and a training step with the moment of its peak; or why there is no prediction."""
    schedule = schedule_of(config, setup)
    if isinstance(schedule, NotPredicted):
        yield Section("", list(_least(config, setup, schedule)))
        return
    title = f"memory, predicted for {schedule.implementation.name}"
    yield Section(
        title,
        [
            Note(f"  {setup_text(setup)}"),
            Note(f"  {setup.state}"),
            fact("memory.implementation", schedule.implementation.name),
            fact("memory.setup", setup_object(setup)),
        ],
    )
    layers = []
    for layer, run in config.spec.kinds.items():
        memory = schedule.layer(layer)
        layers.append({"layers": run.label, **_layer_object(memory)})
        yield Section(f"one layer ({run.label}), bytes above its base", list(_layer(memory)))
    # `layer` is the last kind: in a model that begins with dense layers, the one with experts
    yield Section("", [fact("memory.layer", layers[-1]), fact("memory.layers", layers)])
    yield Section("", list(_step(schedule.step())))
    yield Section("known only on CUDA, in no figure above", list(_cuda(config, setup)))


def setup_text(setup: TrainingSetup) -> str:
    """The choices that a prediction is for, on one line."""
    parts = [
        setup.precision,
        f"micro-batch {setup.micro_batch:,} x {setup.seq_len:,} tokens",
        f"attention {setup.attention_kernel}",
        f"checkpointing {setup.checkpointing}",
        f"optimizer {setup.optimizer}",
        "gradients accumulating" if setup.is_accumulating else "gradients absent at first",
    ]
    if setup.has_master_weights:
        parts.append("fp32 master weights and gradients")
    if setup.rounding_bytes > 1:
        parts.append(f"rounded up to {setup.rounding_bytes} bytes")
    return ", ".join(parts)


def setup_object(setup: TrainingSetup) -> dict[str, Json]:
    """A training setup in JSON."""
    return {
        "seq_len": setup.seq_len,
        "micro_batch": setup.micro_batch,
        "precision": setup.precision,
        "has_master_weights": setup.has_master_weights,
        "optimizer": setup.optimizer,
        "checkpointing": setup.checkpointing,
        "attention_kernel": setup.attention_kernel,
        "is_accumulating": setup.is_accumulating,
        "rounding_bytes": setup.rounding_bytes,
        "counts_kernel_bytes": setup.counts_kernel_bytes,
    }


def _least(config: ModelConfig, setup: TrainingSetup, missing: NotPredicted) -> Iterator[Item]:
    states = least_states(config.spec, setup)
    yield Note(f"memory: {missing.reason}")
    yield Note("by its parameters, a training step on one GPU holds at the least")
    yield fact("memory.implementation", None)
    yield fact("memory.reason", missing.reason)
    yield fact("memory.setup", setup_object(setup))
    for category, size_bytes in states.items():
        yield Count(f"memory.at_least.{category}", f"  {category}", size_bytes, gib_text(size_bytes))
    yield _bytes("", "  together", sum(states.values()))


def _layer(memory: LayerMemory) -> Iterator[Item]:
    forward, backward = memory.forward_transient, memory.backward_peak
    yield _bytes("", "  base: weights, input, tables", memory.base.total)
    yield _bytes("", "  forward_transient", forward.total_bytes, forward.moment)
    yield _bytes("", "  boundary", memory.boundary.total)
    yield _bytes("", "  saved, without checkpointing", memory.saved.total)
    yield _bytes("", "  backward_peak", backward.total_bytes, backward.moment)


def _layer_object(memory: LayerMemory) -> dict[str, Json]:
    return {
        "base": {"total": memory.base.total, "terms": dict(memory.base)},
        "forward_transient": _peak_object(memory.forward_transient),
        "boundary": memory.boundary.total,
        "saved": {"total": memory.saved.total, "terms": dict(memory.saved)},
        "backward_peak": _peak_object(memory.backward_peak),
    }


def _peak_object(peak: Peak) -> dict[str, Json]:
    return {"total": peak.total_bytes, "moment": peak.moment, "live": dict(peak.live)}


def _step(memory: StepMemory) -> Iterator[Item]:
    peak = memory.step_peak
    yield _bytes("memory.step.peak", "training step on one GPU, peak", peak.total_bytes, peak.moment)
    yield fact("memory.step.moment", peak.moment)
    for category, size_bytes in peak.categories.items():
        yield _bytes(f"memory.step.categories.{category}", f"  {category}", size_bytes)
    yield Note("largest at that moment")
    yield fact("memory.step.live", dict(peak.live))
    for name, size_bytes in list(peak.live.items())[:LARGEST_TENSORS]:
        yield _bytes("", f"  {name}", size_bytes)
    yield fact("memory.step.base", memory.base.total_bytes)
    yield fact("memory.step.forward_peak", memory.forward_peak_bytes)
    yield fact("memory.step.backward_peak", memory.backward_peak_bytes)
    yield Note("runner-up moments")
    yield fact("memory.step.runners_up", [{"moment": m.name, "total": m.total_bytes} for m in memory.runners_up])
    for moment in memory.runners_up:
        yield _bytes("", " ", moment.total_bytes, moment.name)


def _cuda(config: ModelConfig, setup: TrainingSetup) -> Iterator[Item]:
    lines = list(cuda_only(config.spec, setup))
    yield fact(
        "memory.cuda_only",
        [{"name": x.name, "size_bytes": x.size_bytes, "when": x.when, "source": x.source} for x in lines],
    )
    for line in lines:
        if line.size_bytes is None:
            yield Note(f"  {line.name}: not measured here ({line.source})")
        else:
            yield _bytes("", f"  {line.name}", line.size_bytes, line.source)


def _bytes(key: str, label: str, size_bytes: int, remark: str = "") -> Count:
    return Count(key, label, size_bytes, f"{gib_text(size_bytes):>12}", remark)
