"""Published peaks of memory against the formulas: `python -m analytic.memory.published [FILE.csv]` prints the table.

The shipped rows are configs/published_memory.csv. Another file has the same columns; `config` (a Hugging Face
configuration) may be absent where the shape is Llama's and has columns of its own. A row that cannot be predicted stays
in the answer with a reason.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Literal

from analytic.errors import FileError, PlannerError
from analytic.huggingface.config import parse
from analytic.io.files import configs_dir, parse_json_object, read_text
from analytic.io.keys import Keys
from analytic.io.located import located
from analytic.memory.megatron import megatron_peak
from analytic.memory.nanotron import nanotron_peak_bytes
from analytic.memory.torchtitan import RESERVED, torchtitan_peak
from analytic.model.spec import ModelSpec
from analytic.model.training import TrainingSetup, fused_kernel
from analytic.parallelism.layout import Layout
from analytic.parallelism.megatron import check_megatron
from analytic.parallelism.shapes import Recompute, StackModel
from analytic.parallelism.torchtitan import check_torchtitan

GIB = 2**30
Framework = Literal["megatron-te", "torchtitan", "nanotron"]
Metric = Literal["allocated", "reserved", "other"]
Cells = dict[str, str]
_SHAPE = {
    "hidden": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "ffn": "intermediate_size",
    "vocab": "vocab_size",
}
_NEEDED = ("id", "framework", "model", "seq_len", "micro_batch", "method", "recompute", "peak_mem_gib", "mem_metric")


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One published peak and its prediction.

    Attributes:
        framework: whose formula; None where there is none. layout: in words.
        predicted_gib: of the metric, in GiB, or None with the reason.
    """

    id: str
    framework: Framework | None
    model: str
    layout: str
    metric: Metric
    measured_gib: float
    predicted_gib: float | None = None
    reason: str = ""

    @property
    def error(self) -> float:
        """Predicted / measured - 1, in percent; NaN where nothing is predicted."""
        return float("nan") if self.predicted_gib is None else 100 * (self.predicted_gib / self.measured_gib - 1)


def published_path() -> Path:
    """The shipped table."""
    return configs_dir() / "published_memory.csv"


def compare(path: Path) -> tuple[Compared, ...]:
    """Every row of a file.

    Raises:
        FileError: naming the path, the line, the column and what was expected.
    """
    reader = csv.DictReader(read_text(path).splitlines(), strict=True)
    missing = [name for name in _NEEDED if name not in (reader.fieldnames or ())]
    if missing:
        raise FileError(f"{path}: line 1: no column {missing[0]}, expected {', '.join(_NEEDED)}")
    answers = []
    try:
        for row in reader:
            with located(f"{path}: line {reader.line_num}"):
                answers.append(_compare({name: value or "" for name, value in row.items() if name is not None}))
    except csv.Error as error:
        raise FileError(f"{path}: line {reader.line_num}: not CSV ({error})") from None
    return tuple(answers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """Errors of one framework's rows by one metric, in percent: signed, of absolute values, and the largest, signed."""

    framework: Framework
    metric: Metric
    rows: int
    median: float
    median_absolute: float
    worst: float


def errors(compared: Iterable[Compared]) -> tuple[Errors, ...]:
    """By framework and metric, of the rows that are predicted."""
    groups: dict[tuple[Framework, Metric], list[float]] = {}
    for one in compared:
        if one.framework is not None and one.predicted_gib is not None:
            groups.setdefault((one.framework, one.metric), []).append(one.error)
    return tuple(
        Errors(
            framework=framework,
            metric=metric,
            rows=len(values),
            median=median(values),
            median_absolute=median(map(abs, values)),
            worst=max(values, key=abs),
        )
        for (framework, metric), values in sorted(groups.items())
    )


def table(compared: Sequence[Compared]) -> str:
    """Errors by metric, then every row, in Markdown."""
    lines = ["| formula | metric | rows | median error | median abs. error | worst |", "|---|---|---|---|---|---|"]
    for group in errors(compared):
        medians = f"{group.median:+.1f}% | {group.median_absolute:.1f}%"
        lines.append(f"| {group.framework} | {group.metric} | {group.rows} | {medians} | {group.worst:+.1f}% |")
    lines += ["", "| row | model | layout, sequences | metric | published GiB | predicted GiB | error |"]
    lines.append("|---|---|---|---|---|---|---|")
    for one in compared:
        answer = f"- | {one.reason}" if one.predicted_gib is None else f"{one.predicted_gib:.1f} | {one.error:+.1f}%"
        lines.append(f"| {one.id} | {one.model} | {one.layout} | {one.metric} | {one.measured_gib:g} | {answer} |")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Print the table of the shipped rows, or of a file's; 2 where the file is wrong."""
    try:
        print(table(compare(Path(arguments[0]) if arguments else published_path())))
    except PlannerError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _compare(row: Cells) -> Compared:
    layout = _layout(row)
    framework = _framework(row["framework"])
    compared = Compared(
        id=row["id"],
        framework=framework,
        model=row["model"],
        layout=f"{layout.describe()}, {row['micro_batch']} x {row['seq_len']}",
        metric=_metric(row["mem_metric"]),
        measured_gib=_number(row, "peak_mem_gib"),
    )
    try:
        if row["method"] != "full training":
            raise PlannerError("fine-tuning, for which there is no formula yet")
        if framework is None:
            raise PlannerError(f"no formula for {row['framework']}")
        return replace(compared, predicted_gib=_predict(framework, row, layout) / GIB)
    except FileError:
        raise  # a cell that is wrong, not a run that cannot be predicted
    except PlannerError as error:
        return replace(compared, reason=str(error))


def _predict(framework: Framework, row: Cells, layout: Layout) -> int:
    policy, model = _recompute(row["recompute"]), StackModel.of(_spec(row))
    sequences = _whole(row, "micro_batch")
    if framework == "torchtitan" and layout.pp > 1:  # its batch is that of all micro-batches: config_manager.py
        sequences = -(-sequences // layout.micro_batches)
    setup = TrainingSetup(
        seq_len=_whole(row, "seq_len"), micro_batch=sequences, attention_kernel=fused_kernel(model.spec)
    )
    match framework:
        case "megatron-te":
            check_megatron(model.spec, setup, layout)
            return megatron_peak(model, setup, layout, policy).peak_bytes
        case "torchtitan":
            check_torchtitan(model.spec, setup, layout)
            peak = torchtitan_peak(model, setup, layout, policy, is_compiled=row.get("compile") != "no").peak_bytes
            return round(peak * RESERVED) if _metric(row["mem_metric"]) == "reserved" else peak
        case "nanotron":
            if policy != "none":
                raise PlannerError(f"recompute = {policy}: nanotron is predicted without")
            return nanotron_peak_bytes(model, setup, layout)


def _layout(row: Cells) -> Layout:
    """A pipeline whose micro-batches are not stated is full; `>1` virtual stages are two."""
    sizes = {name: _whole(row, name, absent=1) for name in ("dp", "tp", "pp", "cp", "ep")}
    virtual = 2 if row.get("vpp", "").startswith(">") else _whole(row, "vpp", absent=1)
    return Layout(
        dp_shard=sizes["dp"],
        tp=sizes["tp"],
        pp=sizes["pp"],
        cp=sizes["cp"],
        ep=sizes["ep"],
        virtual_stages=virtual,
        pipeline_schedule="1f1b" if virtual == 1 else "interleaved-1f1b",
        micro_batches=_whole(row, "micro_batches", absent=sizes["pp"]),
    )


def _spec(row: Cells) -> ModelSpec:
    if row.get("config"):
        config = parse_json_object(Path("config"), row["config"], is_finite=True)
    elif row.get("n_experts") or not all(row.get(name) for name in _SHAPE):
        raise PlannerError("neither a config nor the columns of a dense shape")
    else:
        config = {"model_type": "llama"} | {key: _whole(row, name) for name, key in _SHAPE.items()}
    return parse(Path(row["model"]), Keys(config)).spec


def _framework(name: str) -> Framework | None:
    if name.startswith("Megatron"):
        return "megatron-te"
    return "torchtitan" if name.startswith("torchtitan") else "nanotron" if name.startswith("nanotron") else None


def _metric(name: str) -> Metric:
    return "allocated" if "max_memory_allocated" in name else "reserved" if "max_memory_reserved" in name else "other"


def _recompute(text: str) -> Recompute:
    word = text.split()[0] if text else "none"
    if word not in ("none", "selective", "full"):
        raise PlannerError(f"recompute = {text}: expected none, selective or full")
    return word  # type: ignore[return-value]  # just checked


def _whole(row: Cells, name: str, absent: int | None = None) -> int:
    text = row.get(name, "")
    if not text and absent is not None:
        return absent
    if not text.isascii() or not text.isdigit():
        raise FileError(f"{name} = {text!r}: expected a whole number", key=name)
    return int(text)


def _number(row: Cells, name: str) -> float:
    try:
        value = float(row[name])
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise FileError(f"{name} = {row[name]!r}: expected a number of GiB", key=name)
    return value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
