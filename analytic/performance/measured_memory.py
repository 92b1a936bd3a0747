"""Measured peak memory in place of the predicted one, for layers that are exactly the plan's."""

from __future__ import annotations

from dataclasses import dataclass, replace

from analytic.huggingface.config import ModelConfig
from analytic.memory.implementation import Implementation, NotPredicted, implementation_of
from analytic.memory.layer import layer_memory
from analytic.model.spec import LayerSpec
from analytic.model.training import TrainingSetup
from analytic.performance.calibration import Calibration, Case
from analytic.performance.regression import Stack


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredLayer:
    """A layer's backward peak above its base, in bytes requested: measured on the device, and scheduled."""

    measured_bytes: int
    predicted_bytes: int
    source: str

    @property
    def beyond_bytes(self) -> int:
        """Measured less predicted; negative where the schedule has too much."""
        return self.measured_bytes - self.predicted_bytes


@dataclass(frozen=True, slots=True)
class MeasuredMemory:
    """The peaks of a calibration, for a plan that runs on one of its stacks."""

    calibration: Calibration
    stack: Stack

    def of(
        self, layer: LayerSpec, config: ModelConfig, implementation: Implementation, setup: TrainingSetup
    ) -> MeasuredLayer | None:
        """The highest peak of any case of this very layer; None where none was measured."""
        found = [
            (reading.peak_bytes, reading)
            for reading in self.calibration.readings
            if reading.peak_bytes is not None
            and not reading.error
            and self._is_of(reading.case, layer, config.spec.hidden_size, implementation, setup)
        ]
        if not found:
            return None
        most, reading = max(found, key=lambda each: each[0])
        scheduled = layer_memory(layer, config.spec.hidden_size, implementation, replace(setup, rounding_bytes=1))
        device, date = self.calibration.machine.device, reading.time_utc[:10]
        return MeasuredLayer(
            measured_bytes=most,
            predicted_bytes=scheduled.backward_peak.total_bytes,
            source=f"measured ({device}, {date}, {reading.case.label})",
        )

    def _is_of(
        self, case: Case, layer: LayerSpec, hidden_size: int, implementation: Implementation, setup: TrainingSetup
    ) -> bool:
        own = (case.built_by, case.is_compiled, case.routing)
        wanted = (
            self.stack.built_by,
            self.stack.is_compiled,
            self.stack.routing if layer.has_experts else "none",
        )
        theirs = implementation_of(case.config, case.setup.seq_len)
        return (
            case.part == "forward_backward"
            and own == wanted
            and case.layers == (layer,)
            and case.config.spec.hidden_size == hidden_size
            and not isinstance(theirs, NotPredicted)
            and theirs == implementation
            and _of_a_layer(case.setup) == _of_a_layer(setup)
        )


def _of_a_layer(setup: TrainingSetup) -> TrainingSetup:
    """The part of a setup that a layer's own peak depends on: neither optimizer nor fp32 copies, bytes as requested."""
    return replace(setup, has_master_weights=False, optimizer="none", rounding_bytes=1, counts_kernel_bytes=False)
