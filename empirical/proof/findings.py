"""What a proof has found so far: an interrupt loses nothing. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from analytic.performance.calibration import Calibration
from analytic.performance.calibration_file import to_json
from analytic.planning.this_machine import MachinePlan
from empirical.proof.check import Check

if TYPE_CHECKING:
    from empirical.measure.memory import MeasuredPeak
    from empirical.measure.train import Trained


@dataclass
class Findings:
    """What was found so far: a run that is interrupted, or cannot go on, reports this much.

    Attributes:
        memory: peaks of a layer and, where it fits, of a whole step, by model; measured on the device.
        calibration: what was timed on it, as it is on disk.
        planned, trained: a plan for this machine, and the result of its training.
    """

    checks: list[Check] = field(default_factory=list)
    memory: dict[str, list[MeasuredPeak]] = field(default_factory=dict)
    calibration: Calibration | None = None
    planned: MachinePlan | None = None
    trained: Trained | None = None

    @property
    def failed(self) -> int:
        return sum(check.status == "fail" for check in self.checks)

    def as_json(self) -> dict[str, Any]:
        return {
            "checks": [check.as_json() for check in self.checks],
            "passed": len(self.checks) - self.failed,
            "failed": self.failed,
            "memory": [{"model": model, **peak.as_json()} for model, peaks in self.memory.items() for peak in peaks],
            "calibration": None if self.calibration is None else to_json(self.calibration),
            "planned": None if self.planned is None else self.planned.as_json(),
            "trained": None if self.trained is None else self.trained.as_json(),
        }
