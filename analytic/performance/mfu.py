"""Model FLOPs utilization: measured, published and assumed are different types, and print as what they are."""

from __future__ import annotations

from dataclasses import dataclass

from analytic.errors import UsageError
from analytic.model.flops import AttentionConvention


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Timed on a machine: `num_gpus` GPUs, `kernel` attention, FLOPs counted under `convention`."""

    value: float
    gpu: str
    date: str
    num_gpus: int
    kernel: str
    convention: AttentionConvention
    note: str = ""

    @property
    def brief(self) -> str:
        return f"measured on {self.gpu}"

    @property
    def origin(self) -> str:
        gpus = _devices(self.gpu, self.num_gpus)
        return f"measured ({self.gpu}, {self.date}, {gpus}, {self.kernel}, {self.convention} attention{self.note})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """From a fit to what was timed on one GPU.

    Attributes:
        nearest, distance, dimension: the timed case nearest to the shape, and how many times it is away in what.
        median_error, worst_error: of the fit, leaving out one case at a time.
    """

    value: float
    file: str
    gpu: str
    date: str
    kernel: str
    convention: AttentionConvention
    nearest: str
    distance: float
    dimension: str
    median_error: float
    worst_error: float
    num_gpus: int = 1

    @property
    def brief(self) -> str:
        return f"predicted from {self.file}"

    @property
    def origin(self) -> str:
        apart = f"x{self.distance:.2f} in {self.dimension}" if self.distance > 1 else "the same size"
        return (
            f"predicted from {self.file} ({self.gpu}, {self.date}, {_devices(self.gpu, self.num_gpus)}, "
            f"{self.kernel}, {self.convention} attention; "
            f"nearest case {self.nearest}: {apart}; leave-one-out error median {self.median_error:.1%}, "
            f"worst {self.worst_error:.1%})"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """Stated by others, under the convention that their source used."""

    value: float
    source: str
    convention: AttentionConvention

    @property
    def brief(self) -> str:
        return "published"

    @property
    def origin(self) -> str:
        return f"published ({self.source}, {self.convention} attention)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumed:
    """Nobody measured it. `by` says who assumes: the command line, a file, or a default.

    Raises:
        UsageError: a value outside (0, 1].
    """

    value: float
    by: str

    def __post_init__(self) -> None:
        if not 0 < self.value <= 1:
            raise UsageError(f"MFU = {self.value:g}: expected a number above 0 and at most 1")

    @property
    def origin(self) -> str:
        return f"assumed ({self.by})"

    brief = origin


Mfu = Measured | Predicted | Published | Assumed


def _devices(device: str, count: int) -> str:
    return f"{count} {'CPU' if device == 'cpu' else 'GPU'}{'s' if count > 1 else ''}"


def without_communication(mfu: Mfu, num_gpus: int | None) -> bool:
    """Whether a figure of one GPU stands for many: an upper bound. None is a number not yet chosen."""
    return isinstance(mfu, Measured | Predicted) and mfu.num_gpus == 1 and num_gpus != 1
