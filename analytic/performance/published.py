"""Published training throughput, and the MFU that follows from it by the exact formulas."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from analytic.hardware.gpus import DTYPES, Gpu
from analytic.hardware.table import Hardware
from analytic.huggingface.config import ModelConfig, parse
from analytic.io.files import configs_dir, read_toml
from analytic.io.keys import Keys
from analytic.io.located import located
from analytic.limits import MOST_GPUS
from analytic.model.flops import AttentionConvention, training_flops
from analytic.model.params import parameter_counts
from analytic.performance.mfu import Published
from analytic.units import exact

MOST_TOKENS_PER_S = 1e9
_KEYS = (
    *("gpu", "model", "dtype", "num_gpus", "seq_len", "tokens_per_s_per_gpu", "stated", "date", "source"),
    "architecture",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedRun:
    """A published measurement. `stated` is the utilization that its source printed, under its own convention."""

    gpu: Gpu
    config: ModelConfig
    dtype: str
    num_gpus: int
    seq_len: int
    tokens_per_s_per_gpu: Fraction
    stated: str
    date: str
    source: str

    @property
    def active_params(self) -> int:
        return parameter_counts(self.config.spec).active

    def mfu(self, convention: AttentionConvention) -> Published:
        """Tokens per second x FLOPs per token / dense peak."""
        flops = training_flops(self.config.spec, seq_len=self.seq_len, convention=convention).training_per_token
        gpus = f"{self.num_gpus} GPU{'s' if self.num_gpus > 1 else ''}"
        return Published(
            value=float(self.tokens_per_s_per_gpu * flops / self.gpu.peak(self.dtype)),
            source=f"{self.source}, {self.date}: {self.config.name}, {gpus}, length {self.seq_len}, "
            f"{float(self.tokens_per_s_per_gpu):g} tokens/s a GPU",
            convention=convention,
        )


def load_published(hardware: Hardware) -> tuple[PublishedRun, ...]:
    """The shipped table.

    Raises:
        FileError: naming the path, the entry, the key and what was expected.
    """
    path = configs_dir() / "published_mfu.toml"
    runs = []
    for i, entry in enumerate(read_toml(path).get("published", [])):
        with located(f"{path}: published[{i}]"):
            runs.append(_run(Keys(entry), hardware))
    return tuple(runs)


def nearest(runs: Iterable[PublishedRun], gpu: Gpu, dtype: str, active_params: int) -> PublishedRun | None:
    """The run on this GPU at this dtype that is nearest in size, as a ratio; None where there is none."""
    same = [run for run in runs if run.gpu == gpu and run.dtype == dtype]
    return min(same, key=lambda run: _ratio(run.active_params, active_params), default=None)


def _ratio(a: int, b: int) -> float:
    return max(a / b, b / a)


def _run(keys: Keys, hardware: Hardware) -> PublishedRun:
    keys.require(_KEYS, "published run")
    keys.allow(_KEYS)
    architecture = keys.section("architecture") or Keys({})
    return PublishedRun(
        gpu=hardware.find(keys.text("gpu")),
        config=parse(Path(f"{keys.text('model')}.json"), architecture),
        dtype=keys.text("dtype", among=DTYPES),
        num_gpus=keys.integer("num_gpus", most=MOST_GPUS),
        seq_len=keys.integer("seq_len"),
        tokens_per_s_per_gpu=exact(keys.number("tokens_per_s_per_gpu", most=MOST_TOKENS_PER_S)),
        stated=keys.text("stated"),
        date=keys.text("date"),
        source=keys.text("source"),
    )
