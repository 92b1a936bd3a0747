"""The memory of one model under one setup, as plain figures: for print and for `--json`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from analytic.huggingface.config import ModelConfig
from analytic.limits import MAX_DIMENSION
from analytic.memory.capacity import fits
from analytic.memory.cuda import cuda_only
from analytic.memory.implementation import NotPredicted, implementation_of
from analytic.memory.layer import LayerMemory, layer_memory
from analytic.memory.peaks import Peak
from analytic.memory.static import least_states
from analytic.memory.step import StepMemory, step_memory
from analytic.model.params import layer_params
from analytic.model.spec import LayerRun
from analytic.model.training import TrainingSetup


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
    implementation = implementation_of(config, setup.seq_len)
    if isinstance(implementation, NotPredicted):
        return implementation
    hidden_size = config.spec.hidden_size
    memory = layer_memory(run.layer, hidden_size, implementation, setup)
    sizes = layer_params(run.layer, hidden_size).values()
    return LayerForward(
        implementation=implementation.name,
        weights_bytes=sum(setup.rounded(numel * setup.itemsize) for numel in sizes),
        input_bytes=setup.rounded(setup.tokens * hidden_size * setup.itemsize),
        forward_transient_bytes=memory.forward_transient.total_bytes,
        moment=memory.forward_transient.moment,
    )


def memory_as_json(config: ModelConfig, setup: TrainingSetup) -> dict[str, Any]:
    """Integers in bytes. `implementation` is None, with a `reason`, where there is no schedule; a step holds
    the states in `at_least` all the same.

    `layers` has every kind of layer, by the first run of it; `layer` is the last of them: in a model that
    begins with dense layers, the one with experts.
    """
    implementation = implementation_of(config, setup.seq_len)
    if isinstance(implementation, NotPredicted):
        least = {str(category): size_bytes for category, size_bytes in least_states(config.spec, setup).items()}
        return {"implementation": None, "reason": implementation.reason, "setup": asdict(setup), "at_least": least}
    spec = config.spec
    layers = [
        {"layers": run.label, **_layer(layer_memory(layer, spec.hidden_size, implementation, setup))}
        for layer, run in spec.kinds.items()
    ]
    return {
        "implementation": implementation.name,
        "setup": asdict(setup),
        "layer": layers[-1],
        "layers": layers,
        "step": _step(step_memory(spec, implementation, setup)),
        "cuda_only": [asdict(line) for line in cuda_only(spec, setup)],
    }


def fits_as_json(config: ModelConfig, setup: TrainingSetup, *, memory_bytes: int, reserve_bytes: int) -> dict[str, Any]:
    """The largest micro-batch and the longest sequence, without and with checkpointing.

    Raises:
        UsageError: a reserve that leaves nothing of the memory.
    """
    implementation = implementation_of(config, MAX_DIMENSION)  # of any length that may be tried
    if isinstance(implementation, NotPredicted):
        return {"implementation": None, "reason": implementation.reason, "setup": asdict(setup)}
    found = fits(config.spec, implementation, setup, memory_bytes=memory_bytes, reserve_bytes=reserve_bytes)
    return {
        "implementation": implementation.name,
        "setup": asdict(setup),
        "memory_bytes": memory_bytes,
        "reserve_bytes": reserve_bytes,
        "fits": [asdict(fit) for fit in found],
    }


def _layer(memory: LayerMemory) -> dict[str, Any]:
    return {
        "base": {"total": memory.base.total, "terms": dict(memory.base)},
        "forward_transient": _peak(memory.forward_transient),
        "boundary": memory.boundary.total,
        "saved": {"total": memory.saved.total, "terms": dict(memory.saved)},
        "backward_peak": _peak(memory.backward_peak),
    }


def _step(memory: StepMemory) -> dict[str, Any]:
    return {
        "peak": memory.step_peak.total_bytes,
        "moment": memory.step_peak.moment,
        "categories": {str(name): size_bytes for name, size_bytes in memory.step_peak.categories.items()},
        "live": dict(memory.step_peak.live),
        "base": memory.base.total_bytes,
        "forward_peak": memory.forward_peak_bytes,
        "backward_peak": memory.backward_peak_bytes,
        "runners_up": [{"moment": moment.name, "total": moment.total_bytes} for moment in memory.runners_up],
    }


def _peak(peak: Peak) -> dict[str, Any]:
    return {"total": peak.total_bytes, "moment": peak.moment, "live": dict(peak.live)}
