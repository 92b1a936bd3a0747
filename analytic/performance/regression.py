"""From timed cases to any shape: seconds as a sum of a few terms, with coefficients that are not negative.

seconds = a * matrix-product FLOPs + b * routed experts' FLOPs + c * attention FLOPs + d * bytes moved
    + e * layer passes

The coefficients minimize the relative errors squared, over cases of one stack: the same layers, precision,
attention kernel and compilation. The leave-one-out error says how well a shape that was not timed is predicted.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from analytic.errors import UsageError
from analytic.memory.implementation import NotPredicted
from analytic.model.spec import LayerSpec, MoeFfn
from analytic.model.training import AttentionKernel, Precision
from analytic.performance.calibration import Builder, Calibration, Case, Reading, RoutingMode
from analytic.performance.work import TERMS, work_of

FARTHEST = 4.0  # times a measured size, or a quarter of it: beyond it there is no prediction
SPARE_CASES = 2  # more than there are coefficients, so that leaving one out still says something


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """What a fit holds constant. `routing` is that of cases with experts; cases without belong to any."""

    built_by: Builder
    precision: Precision
    attention_kernel: AttentionKernel
    is_compiled: bool
    routing: RoutingMode

    def __str__(self) -> str:
        options = [self.built_by, self.precision, f"{self.attention_kernel} attention"]
        options += ["compiled"] if self.is_compiled else []
        options += [f"{self.routing} routing"] if self.routing != "none" else []
        return ", ".join(options)


@dataclass(frozen=True, slots=True, kw_only=True)
class Distance:
    """How far a shape is from the nearest case: `factor` times, in the dimension that differs most."""

    factor: float
    dimension: str
    nearest: Case


@dataclass(frozen=True, slots=True, kw_only=True)
class PerformanceModel:
    """A fit.

    Attributes:
        seconds_per: the coefficient of each term of `Work`.
        readings: those it was fitted to. errors: of each when predicted without it, relative to its seconds.
        unused: how many readings of the stack have no predicted work.
    """

    calibration: Calibration
    stack: Stack
    seconds_per: tuple[float, ...]
    readings: tuple[Reading, ...]
    errors: tuple[float, ...]
    unused: int

    @property
    def median_error(self) -> float:
        return statistics.median(map(abs, self.errors))

    @property
    def worst_error(self) -> float:
        return max(map(abs, self.errors))

    def seconds(self, case: Case, optimizer_share: float = 1) -> float:
        """Predicted seconds of a case of this stack, with a share of the optimizer's step.

        Raises:
            UsageError: work that cannot be predicted, or a shape too far from every case.
        """
        work = work_of(case, optimizer_share)
        if isinstance(work, NotPredicted):
            raise UsageError(f"no prediction from {self.calibration.name}: {work.reason}")
        far = self.distance(case)
        if far is None:
            raise UsageError(f"no prediction from {self.calibration.name}: no such kind of layer was timed")
        if far.factor > FARTHEST:
            raise UsageError(
                f"no prediction from {self.calibration.name}: {far.factor:.1f} times away in {far.dimension} from the "
                f"nearest case ({far.nearest.label}), expected at most {FARTHEST:g}"
            )
        return _dot(self.seconds_per, work.terms)

    def distance(self, case: Case) -> Distance | None:
        """The farthest of its layers from the case nearest to each; None where a kind of layer was never timed."""
        result: Distance | None = None
        for layer in set(case.layers):
            own = _dimensions(layer, case)
            found = [d for r in self.readings for other in set(r.case.layers) if (d := _apart(own, other, r.case))]
            if not found:
                return None
            nearest = min(found, key=lambda d: d.factor)
            if result is None or nearest.factor > result.factor:
                result = nearest
        return result


def fit(calibration: Calibration, stack: Stack) -> PerformanceModel:
    """Coefficients of a stack, from its cases.

    Raises:
        UsageError: fewer cases than the fit needs, or no whole model among them.
    """
    chosen = [r for r in calibration.readings if not r.error and belongs(r.case, stack)]
    rows, readings = [], []
    for reading in chosen:
        work = work_of(reading.case)
        if not isinstance(work, NotPredicted):
            readings.append(reading)
            rows.append([term / reading.median_seconds for term in work.terms])
    used = [i for i in range(len(TERMS)) if any(row[i] for row in rows)]
    where = f"{calibration.name}: {stack}"
    if len(rows) < len(used) + SPARE_CASES:
        raise UsageError(f"{where}: {len(rows)} cases, expected at least {len(used) + SPARE_CASES}")
    if not any(reading.case.part == "step" for reading in readings):
        raise UsageError(f"{where}: no whole model was timed, expected at least one")
    errors = []
    for i, row in enumerate(rows):
        others = non_negative_least_squares(rows[:i] + rows[i + 1 :])
        errors.append(_dot(others, row) - 1)
    return PerformanceModel(
        calibration=calibration,
        stack=stack,
        seconds_per=non_negative_least_squares(rows),
        readings=tuple(readings),
        errors=tuple(errors),
        unused=len(chosen) - len(readings),
    )


def belongs(case: Case, stack: Stack) -> bool:
    """Whether a case belongs to a stack."""
    own = (case.built_by, case.setup.precision, case.setup.attention_kernel, case.is_compiled)
    wanted = (stack.built_by, stack.precision, stack.attention_kernel, stack.is_compiled)
    return own == wanted and case.routing in ("none", stack.routing)


def stacks(calibration: Calibration) -> list[Stack]:
    """The stacks of all readings, in the order of the file."""
    found = {
        Stack(
            built_by=r.case.built_by,
            precision=r.case.setup.precision,
            attention_kernel=r.case.setup.attention_kernel,
            is_compiled=r.case.is_compiled,
            routing=r.case.routing,
        ): None
        for r in calibration.readings
        if not r.error
    }
    return list(found)


def non_negative_least_squares(rows: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """x >= 0 with the least sum of (row . x - 1)^2.

    A column of zeros has the coefficient 0. Of coefficients that are equally good, any may be returned.

    >>> [round(x, 9) for x in non_negative_least_squares([[1.0, 0.0], [0.0, 2.0], [0.5, 1.0]])]
    [1.0, 0.5]
    >>> [round(x, 9) for x in non_negative_least_squares([[1.0, 1.0], [1.0, 2.0]])]  # without the bound: (1, 0)
    [1.0, 0.0]
    """
    from scipy.optimize import nnls  # takes longer to import than a plan without a calibration takes

    # FLOPs and layer passes differ by a factor of 1e12: columns of one scale keep the arithmetic well conditioned
    scales = [max(map(abs, column)) or 1.0 for column in zip(*rows, strict=True)]
    scaled = [[value / scale for value, scale in zip(row, scales, strict=True)] for row in rows]
    solution, _ = nnls(scaled, [1.0] * len(rows))
    return tuple(value / scale for value, scale in zip(solution.tolist(), scales, strict=True))


def _dot(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def _dimensions(layer: LayerSpec, case: Case) -> dict[str, int]:
    """The dimensions that efficiency depends on. Layers with different dimensions are never near each other."""
    attention, ffn, setup = layer.attention, layer.ffn, case.setup
    result = {
        "hidden_size": case.config.spec.hidden_size,
        f"{'mla' if attention.kind == 'mla' else 'gqa'} width": attention.score_width,
        "seq_len": setup.seq_len,
        "tokens of a micro-batch": setup.tokens,
    }
    if isinstance(ffn, MoeFfn):
        return result | {"expert width": ffn.expert_intermediate_size, "experts": ffn.num_experts}
    return result | {"feed-forward width": ffn.intermediate_size}


def _apart(own: dict[str, int], other: LayerSpec, case: Case) -> Distance | None:
    theirs = _dimensions(other, case)
    if own.keys() != theirs.keys():
        return None
    ratios = {name: max(size / theirs[name], theirs[name] / size) for name, size in own.items()}
    dimension = max(ratios, key=lambda name: ratios[name])
    return Distance(factor=ratios[dimension], dimension=dimension, nearest=case)
