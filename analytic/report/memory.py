"""Text for people of a memory prediction: one layer, a training step, what fits."""

from __future__ import annotations

from collections.abc import Iterator

from analytic.huggingface.config import ModelConfig
from analytic.limits import MAX_DIMENSION
from analytic.memory.capacity import Fit, fits
from analytic.memory.cuda import cuda_only
from analytic.memory.implementation import Implementation, NotPredicted, implementation_of
from analytic.memory.layer import LayerMemory, layer_memory
from analytic.memory.peaks import Peak
from analytic.memory.static import least_states
from analytic.memory.step import step_memory
from analytic.model.spec import ModelSpec
from analytic.model.training import TrainingSetup
from analytic.report.text import figure, gib_text, table

LARGEST_TENSORS = 6


def memory_text(config: ModelConfig, setup: TrainingSetup) -> str:
    """Every kind of layer, and a training step with the moment of its peak; or why there is no prediction."""
    implementation = implementation_of(config, setup.seq_len)
    if isinstance(implementation, NotPredicted):
        states = least_states(config.spec, setup)
        lines = [f"memory: {implementation.reason}", "by its parameters, a training step on one GPU holds at the least"]
        lines += [figure(f"  {category}", size_bytes, gib_text(size_bytes)) for category, size_bytes in states.items()]
        return "\n".join((*lines, figure("  together", sum(states.values()), gib_text(sum(states.values()))), ""))
    lines = [f"memory, predicted for {implementation.name}", f"  {setup_text(setup)}", ""]
    for layer, run in config.spec.kinds.items():
        lines += [f"one layer ({run.label}), bytes above its base"]
        lines += [*_layer(layer_memory(layer, config.spec.hidden_size, implementation, setup)), ""]
    lines += [*_step(config.spec, implementation, setup), ""]
    return "\n".join(lines)


def fits_text(
    config: ModelConfig, setup: TrainingSetup, *, memory_bytes: int, reserve_bytes: int, reserve_is_given: bool
) -> str:
    """The largest micro-batch and the longest sequence, without and with checkpointing.

    Raises:
        UsageError: a reserve that leaves nothing of the memory.
    """
    implementation = implementation_of(config, MAX_DIMENSION)  # of any length that may be tried
    if isinstance(implementation, NotPredicted):
        return f"memory: {implementation.reason}\n"
    found = fits(config.spec, implementation, setup, memory_bytes=memory_bytes, reserve_bytes=reserve_bytes)
    source = "given" if reserve_is_given else "assumed"
    title = f"what fits in {gib_text(memory_bytes)}, {gib_text(reserve_bytes)} of it kept free ({source})"
    batch, length = f"micro-batch at {setup.seq_len:,} tokens", f"sequence at micro-batch {setup.micro_batch:,}"
    rows = [("  checkpointing", f"largest {batch}", f"longest {length}"), *map(_fit, found)]
    asked = setup_text(setup).replace(f", checkpointing {setup.checkpointing}", "")
    return "\n".join((title, f"  {asked}; for {implementation.name}", *table(rows), ""))


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


def _layer(memory: LayerMemory) -> Iterator[str]:
    yield _bytes("  base: weights, input, tables", memory.base.total)
    yield _bytes("  forward_transient", memory.forward_transient.total_bytes, memory.forward_transient.moment)
    yield _bytes("  boundary", memory.boundary.total)
    yield _bytes("  saved, without checkpointing", memory.saved.total)
    yield _bytes("  backward_peak", memory.backward_peak.total_bytes, memory.backward_peak.moment)


def _step(spec: ModelSpec, implementation: Implementation, setup: TrainingSetup) -> Iterator[str]:
    memory = step_memory(spec, implementation, setup)
    yield _bytes("training step on one GPU, peak", memory.step_peak.total_bytes, memory.step_peak.moment)
    for category, size_bytes in memory.step_peak.categories.items():
        yield _bytes(f"  {category}", size_bytes)
    yield "largest at that moment"
    yield from _largest(memory.step_peak)
    yield "runner-up moments"
    for moment in memory.runners_up:
        yield _bytes("", moment.total_bytes, moment.name)
    yield "known only on CUDA, in no figure above"
    for line in cuda_only(spec, setup):
        if line.size_bytes is None:
            yield f"  {line.name}: not measured here ({line.source})"
        else:
            yield _bytes(f"  {line.name}", line.size_bytes, line.source)


def _largest(peak: Peak) -> Iterator[str]:
    for name, size_bytes in list(peak.live.items())[:LARGEST_TENSORS]:
        yield _bytes(f"  {name}", size_bytes)


def _bytes(label: str, size_bytes: int, remark: str = "") -> str:
    return figure(label, size_bytes, f"{gib_text(size_bytes):>12}   {remark}")


def _fit(fit: Fit) -> tuple[str, str, str]:
    return f"  {fit.checkpointing}", f"{fit.micro_batch:,}", f"{fit.seq_len:,}"
