"""What was timed on a machine: raw facts, typed. Derived figures are computed when they are asked for."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from analytic.errors import UsageError
from analytic.hardware.table import Hardware
from analytic.huggingface.config import ModelConfig
from analytic.model.flops import AttentionConvention, layer_flops, training_flops
from analytic.model.spec import LayerSpec
from analytic.model.training import Precision, TrainingSetup, check_kernel

Part = Literal["forward", "forward_backward", "step"]
Builder = Literal["transformers", "ours"]
RoutingMode = Literal["none", "balanced", "router"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What was timed.

    Attributes:
        part: of one layer a forward pass without gradients, or forward and backward with whatever the
            setup recomputes; of a whole model a training step: both passes and the optimizer's.
        layer: the layer's index; None for a whole model.
        of_layers: how many layers the planned model has; more than `config` where depth was cut to fit.
        built_by: whose layers. is_compiled: each layer is compiled by `torch.compile`.
        routing: how tokens reach experts: evenly in turn, or by the router itself with random weights.
    """

    config: ModelConfig
    part: Part
    layer: int | None
    of_layers: int
    setup: TrainingSetup
    built_by: Builder = "transformers"
    is_compiled: bool = False
    routing: RoutingMode = "none"

    def __post_init__(self) -> None:
        if (self.layer is None) != (self.part == "step"):
            raise UsageError(f"part = {self.part!r}: a layer has its passes, a whole model its step")
        if self.part == "step" and self.built_by == "ours":
            raise UsageError("built_by = 'ours': whole models are those of transformers")
        if self.layer is not None and not 0 <= self.layer < len(self.config.spec.layers):
            raise UsageError(f"layer = {self.layer}: the model has {len(self.config.spec.layers)}")
        if self.of_layers < len(self.config.spec.layers):
            raise UsageError(f"of_layers = {self.of_layers}: the model has {len(self.config.spec.layers)}")
        if (self.routing == "none") == any(layer.has_experts for layer in self.layers):
            raise UsageError(f"routing = {self.routing!r}: expected none exactly where there are no experts")
        check_kernel(self.setup.attention_kernel, self.config.spec)

    @property
    def layers(self) -> tuple[LayerSpec, ...]:
        """The one layer, or all of them."""
        return self.config.spec.layers if self.layer is None else (self.config.spec.layers[self.layer],)

    def model_flops(self, convention: AttentionConvention = "full") -> int:
        """FLOPs of an MFU: recomputation is not among them."""
        setup, spec = self.setup, self.config.spec
        if self.layer is None:
            step = training_flops(spec, seq_len=setup.seq_len, batch_size=setup.micro_batch, convention=convention)
            return step.model_flops
        forward = layer_flops(self.layers[0], spec.hidden_size, setup.seq_len, convention).total * setup.micro_batch
        return forward if self.part == "forward" else 3 * forward

    @property
    def label(self) -> str:
        """One line that distinguishes it from others."""
        setup = self.setup
        depth = len(self.config.spec.layers)
        what = f"layer {self.layer}" if self.layer is not None else f"{depth} of {self.of_layers} layers"
        options: list[str] = [setup.precision, setup.attention_kernel, self.built_by]
        options += ["compiled"] if self.is_compiled else []
        options += ["checkpointed"] if setup.checkpointing == "full" and self.part != "forward" else []
        options += ["accumulating"] if setup.is_accumulating else []
        options += [f"{self.routing} routing"] if self.routing != "none" else []
        shape = f"{setup.micro_batch} x {setup.seq_len}"
        return f"{self.config.name} {what} {self.part.replace('_', '+')}, {shape}, {', '.join(options)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One case, timed.

    Attributes:
        seconds: of one run, averaged over each block of runs; empty where there is an error.
        peak_bytes: the most bytes requested from the allocator, above those that were live before; None if not read.
        conditions: of the card as it ran, as its driver reports them; empty where it reports none.
        error: why there are no seconds, such as memory that does not suffice.
    """

    case: Case
    seconds: tuple[float, ...]
    peak_bytes: int | None
    time_utc: str
    conditions: Mapping[str, str]
    error: str = ""

    @property
    def median_seconds(self) -> float:
        return statistics.median(self.seconds)

    def flops_per_s(self, convention: AttentionConvention = "full") -> float:
        """Model FLOPs per second."""
        return self.case.model_flops(convention) / self.median_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """What the device does at best: `work` FLOPs of a matrix product at a precision, or bytes read and written.

    `precision` is None for a copy.
    """

    kind: Literal["matmul", "copy"]
    precision: Precision | None
    work: int
    seconds: tuple[float, ...]

    @property
    def rate(self) -> float:
        """FLOP/s, or bytes/s."""
        return self.work / statistics.median(self.seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What it was timed on. `device` is torch's name of the card, or `cpu`; `revision` is that of this source."""

    device: str
    memory_bytes: int
    versions: Mapping[str, str]
    revision: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """All that was timed on one device."""

    name: str
    machine: Machine
    ceilings: tuple[Ceiling, ...]
    readings: tuple[Reading, ...]

    @property
    def date(self) -> str:
        """The day of the last reading, UTC."""
        return max((reading.time_utc for reading in self.readings), default="")[:10]

    def ceiling(self, kind: Literal["matmul", "copy"], precision: Precision) -> float | None:
        """The best rate of a kind; a copy is the same at every precision."""
        rates = [c.rate for c in self.ceilings if c.kind == kind and (kind == "copy" or c.precision == precision)]
        return max(rates, default=None)

    def peak(self, precision: Precision, hardware: Hardware) -> tuple[float, str] | None:
        """FLOP/s that an MFU is a share of, and its origin: the published dense peak, else the measured ceiling."""
        gpu = hardware.of_device(self.machine.device)
        if gpu is not None and precision in gpu.peak_flops_per_s:
            return float(gpu.peak(precision)), f"published dense peak of {gpu.key}"
        measured = self.ceiling("matmul", precision)
        return None if measured is None else (measured, f"best matrix product measured on {self.machine.device}")

    def mfu(self, reading: Reading, hardware: Hardware) -> float | None:
        """Model FLOPs, full attention, per second, as a share of `peak`; None where there is no peak."""
        peak = self.peak(reading.case.setup.precision, hardware)
        return None if peak is None else reading.flops_per_s() / peak[0]
