"""The schedule of one model under one setup: where every prediction of memory begins."""

from __future__ import annotations

from dataclasses import dataclass, replace

from analytic.huggingface.config import ModelConfig
from analytic.memory.implementation import Implementation, NotPredicted, implementation_of
from analytic.memory.layer import LayerMemory, layer_memory
from analytic.memory.step import StepMemory, step_memory
from analytic.model.spec import LayerSpec, ModelSpec
from analytic.model.training import TrainingSetup


@dataclass(frozen=True, slots=True)
class MemorySchedule:
    """A model, the implementation that its schedule is of, and how it is trained."""

    spec: ModelSpec
    implementation: Implementation
    setup: TrainingSetup

    def layer(self, layer: LayerSpec) -> LayerMemory:
        """The figures of one of its layers."""
        return layer_memory(layer, self.spec.hidden_size, self.implementation, self.setup)

    def step(self) -> StepMemory:
        """The figures of a training step."""
        return step_memory(self.spec, self.implementation, self.setup)

    def peak_bytes(self) -> int:
        """The most that is live in a training step."""
        return self.step().step_peak.total_bytes

    def under(self, setup: TrainingSetup) -> MemorySchedule:
        """The same model under another setup."""
        return replace(self, setup=setup)


def schedule_of(config: ModelConfig, setup: TrainingSetup) -> MemorySchedule | NotPredicted:
    """The schedule of a configuration, or why there is none."""
    implementation = implementation_of(config, setup.seq_len)
    if isinstance(implementation, NotPredicted):
        return implementation
    return MemorySchedule(config.spec, implementation, setup)
