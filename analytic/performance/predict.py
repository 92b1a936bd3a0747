"""The MFU of a planned shape, from a calibration: the very model measured, or else predicted from those that were.

A plan trains fully checkpointed with AdamW on fp32 states. Of the stacks that were timed (layers, attention
kernel, compiled or not) it takes the fastest, and says which.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from analytic.errors import UsageError
from analytic.hardware.gpus import Gpu
from analytic.hardware.table import Hardware
from analytic.huggingface.config import ModelConfig
from analytic.model.flops import AttentionConvention
from analytic.model.spec import ModelSpec
from analytic.model.training import Precision, planned_setup, takes_heads
from analytic.performance.calibration import Calibration, Case, Reading
from analytic.performance.mfu import Measured, Predicted
from analytic.performance.regression import PerformanceModel, Stack, belongs, fit, stacks


@dataclass(frozen=True)
class Shape:
    """What a plan trains on one GPU; `optimizer_share` is this GPU's, for each micro-batch."""

    config: ModelConfig
    seq_len: int
    micro_batch: int
    precision: Precision
    optimizer_share: float = 1

    def case(self, stack: Stack) -> Case:
        """A training step of it, on a stack."""
        setup = planned_setup(self.config.spec, self.seq_len, self.micro_batch, self.precision)
        return Case(
            config=self.config,
            part="step",
            layer=None,
            of_layers=len(self.config.spec.layers),
            setup=replace(setup, attention_kernel=stack.attention_kernel),
            built_by=stack.built_by,
            is_compiled=stack.is_compiled,
            routing=stack.routing if self.config.spec.has_experts else "none",
        )

    def may_run_on(self, stack: Stack) -> bool:
        """Whether a stack is of its precision and kind, and takes its heads; whole models are those of transformers."""
        is_kind = self.config.spec.has_experts == (stack.routing != "none") and stack.precision == self.precision
        return is_kind and stack.built_by == "transformers" and takes_heads(stack.attention_kernel, self.config.spec)


class _Step(NamedTuple):
    """Seconds of a shape's own step on a stack, when they were timed, and where they are extrapolated from, if so."""

    seconds: float
    date: str
    note: str
    stack: Stack


@dataclass(frozen=True)
class Calibrated:
    """A calibration and its fits."""

    calibration: Calibration

    @cached_property
    def models(self) -> tuple[PerformanceModel, ...]:
        return tuple(self._fits())

    def _fits(self) -> Iterator[PerformanceModel]:
        for stack in stacks(self.calibration):
            try:
                yield fit(self.calibration, stack)
            except UsageError:  # too few cases; where no stack is left, `mfu` says so
                continue

    def mfu(self, shape: Shape, peak_flops_per_s: float, convention: AttentionConvention) -> Measured | Predicted:
        """Model FLOPs a second over a peak.

        Raises:
            UsageError: nothing that was timed is of this kind, or near enough.
        """
        return self.measured(shape, peak_flops_per_s, convention) or self._predicted(
            shape, peak_flops_per_s, convention
        )

    def stack(self, shape: Shape) -> Stack:
        """What `mfu` is of.

        Raises:
            UsageError: as `mfu` does.
        """
        own = self._own_steps(shape)
        return min(own, key=lambda step: step.seconds).stack if own else self._fastest(shape)[1].stack

    def measured(self, shape: Shape, peak_flops_per_s: float, convention: AttentionConvention) -> Measured | None:
        """The fastest of the shape's own training steps that were timed; from two depths where all did not fit."""
        own = self._own_steps(shape)
        if not own:
            return None
        best = min(own, key=lambda step: step.seconds)
        return Measured(
            value=shape.case(best.stack).model_flops(convention) / best.seconds / peak_flops_per_s,
            gpu=self.calibration.machine.device,
            date=best.date,
            num_gpus=1,
            kernel=str(best.stack),
            convention=convention,
            note=best.note,
        )

    def _own_steps(self, shape: Shape) -> list[_Step]:
        found = []
        for stack in filter(shape.may_run_on, stacks(self.calibration)):
            steps = [r for r in self.calibration.readings if not r.error and _is_step_of(r.case, shape, stack)]
            if (timed := _whole_step(steps, len(shape.config.spec.layers))) is not None:
                seconds, note = timed
                date = max(reading.time_utc for reading in steps)[:10]
                found.append(_Step(seconds, date, note, stack))
        return found

    def _predicted(self, shape: Shape, peak_flops_per_s: float, convention: AttentionConvention) -> Predicted:
        seconds, model = self._fastest(shape)
        case = shape.case(model.stack)
        far = model.distance(case)
        assert far is not None  # or else there would be no seconds
        return Predicted(
            value=case.model_flops(convention) / seconds / peak_flops_per_s,
            file=self.calibration.name,
            gpu=self.calibration.machine.device,
            date=self.calibration.date,
            kernel=str(model.stack),
            convention=convention,
            nearest=far.nearest.label,
            distance=far.factor,
            dimension=far.dimension,
            median_error=model.median_error,
            worst_error=model.worst_error,
        )

    def _fastest(self, shape: Shape) -> tuple[float, PerformanceModel]:
        found, refused = [], ""
        for model in self.models:
            if not shape.may_run_on(model.stack):
                continue
            try:
                found.append((model.seconds(shape.case(model.stack), shape.optimizer_share), model))
            except UsageError as error:
                refused = str(error)
        if not found:
            kind = "experts" if shape.config.spec.has_experts else "dense layers"
            raise UsageError(refused or f"{self.calibration.name}: too few {shape.precision} cases of {kind} for a fit")
        return min(found, key=lambda each: each[0])


def check_gpu(calibration: Calibration, gpu: Gpu | None, gpu_type: str, hardware: Hardware) -> None:
    """Raise unless a calibration is of the planned GPU; one that the table lacks is known by its device's name."""
    device = calibration.machine.device
    known = hardware.of_device(device)
    is_same = device.casefold() == gpu_type.casefold() if known is None else known == gpu
    if not is_same:
        raise UsageError(f"{calibration.name} was measured on {device}: the plan is for {gpu_type}")


def _is_step_of(case: Case, shape: Shape, stack: Stack) -> bool:
    """Whether a case is a step of the shape's model, whole or cut in depth, as the plan runs it."""
    if case.part != "step" or not belongs(case, stack):
        return False
    wanted = shape.case(stack)
    return (
        case.routing == wanted.routing
        and case.of_layers == wanted.of_layers
        and _is_cut_of(case.config.spec, shape.config.spec)
        and replace(case.setup, is_accumulating=True, rounding_bytes=512) == wanted.setup
    )


def _is_cut_of(cut: ModelSpec, spec: ModelSpec) -> bool:
    depth = len(cut.layers)
    rest = set(spec.layers[depth:])
    return replace(cut, layers=spec.layers) == spec and cut.layers == spec.layers[:depth] and len(rest) <= 1


def _whole_step(steps: list[Reading], depth: int) -> tuple[float, str] | None:
    """Seconds at full depth: timed, or a constant and so much a layer from two depths; the note says which.

    None where neither can be had, or where more layers took no longer: no time of a layer follows from that.
    """
    by_depth = {len(r.case.layers): r.median_seconds for r in steps}
    if depth in by_depth:
        return by_depth[depth], ""
    if len(by_depth) < 2:
        return None
    (few, short), *_, (many, long) = sorted(by_depth.items())
    if long <= short:
        return None
    each = (long - short) / (many - few)
    note = f"; extrapolated from {few} layers in {short:.6f} s and {many} in {long:.6f} s to {depth}"
    return short + (depth - few) * each, note
