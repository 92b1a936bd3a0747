"""What is known: shipped models, GPUs, scaling laws and published runs, a table each."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from analytic.hardware.table import load_hardware
from analytic.huggingface.config import load
from analytic.io.files import model_config_paths
from analytic.model.params import parameter_counts
from analytic.planning.published_run import headline, shipped_runs
from analytic.report.document import Cell, Column, Document, Line, Section, Table
from analytic.report.families import families_table
from analytic.report.units import compact, gib_text, percent
from analytic.scaling.law_file import load_all_laws


def models_table() -> Table:
    """Every shipped configuration."""
    columns = (
        Column("name", "model", is_left=True),
        Column("model_type", "family", is_left=True),
        Column("params", "parameters"),
        Column("active", "active"),
        Column("layers", "layers"),
    )
    rows = []
    for config in sorted(map(load, model_config_paths()), key=lambda config: config.name):
        counts, depth = parameter_counts(config.spec), len(config.spec.layers)
        rows.append(
            [
                Cell(config.name, config.name),
                Cell(config.model_type, config.model_type),
                Cell(counts.total, f"{counts.total:,}"),
                Cell(counts.active, f"{counts.active:,}"),
                Cell(depth, str(depth)),
            ]
        )
    return Table("models", columns, rows)


def gpus_table() -> Table:
    """Every GPU, its dense bf16 (or fp16) peak, memory, power and price."""
    columns = (
        Column("name", "GPU", is_left=True),
        Column("product", "product", is_left=True),
        Column("dense_flops_per_s", "dense TFLOP/s"),
        Column("memory_bytes", "memory"),
        Column("bandwidth_bytes_per_s", "GB/s"),
        Column("tdp_watts", "watts"),
        Column("usd_per_gpu_hour", "USD/h"),
        Column("price_source", "price from", is_left=True),
    )
    hardware = load_hardware()
    rows = []
    for gpu in hardware.gpus.values():
        price = hardware.prices.get(gpu.key)
        dtype = "bf16" if "bf16" in gpu.peak_flops_per_s else "fp16"
        rows.append(
            [
                Cell(gpu.key, gpu.key),
                Cell(gpu.name, gpu.name),
                Cell(dict(gpu.peak_flops_per_s), f"{gpu.peak(dtype) / 1e12:,.1f} {dtype}"),
                Cell(gpu.memory_bytes, gib_text(gpu.memory_bytes)),
                Cell(gpu.bandwidth_bytes_per_s, f"{gpu.bandwidth_bytes_per_s / 1e9:,.0f}"),
                Cell(gpu.tdp_watts, str(gpu.tdp_watts)),
                Cell(price.usd_per_gpu_hour if price else None, f"{price.usd_per_gpu_hour:.2f}" if price else "-"),
                Cell(price.origin if price else None, price.origin if price else "no price known"),
            ]
        )
    return Table("gpus", columns, rows)


def laws_table() -> Table:
    """Every shipped scaling law; none carries intervals."""
    columns = (
        Column("name", "law", is_left=True),
        Column("n_means", "its N", is_left=True),
        Column("fitted", "fitted on N", is_left=True),
        Column("citation", "citation", is_left=True),
    )
    rows = []
    for law in load_all_laws().values():
        ranges = {quantity: list(bounds) for quantity, bounds in law.fitted.items()}
        fitted = "not stated" if "params" not in law.fitted else " to ".join(map(compact, law.fitted["params"]))
        name, means, citation = (Cell(text, text) for text in (law.name, law.n_means, law.citation))
        rows.append([name, means, Cell(ranges, fitted), citation])
    return Table("laws", columns, rows)


def runs_table() -> Table:
    """Every shipped published run, by the name that `check-run` takes."""
    columns = (
        Column("name", "run", is_left=True),
        Column("tokens", "tokens"),
        Column("gpu_hours", "GPU-hours"),
        Column("gpu", "GPU", is_left=True),
        Column("mfu", "implied MFU"),
    )
    rows = []
    for run in shipped_runs(load_hardware()):
        first = headline(run)
        rows.append(
            [
                Cell(run.path.stem, run.path.stem),
                Cell(run.tokens, compact(run.tokens)),
                Cell(float(first.hours.gpu_hours), f"{float(first.hours.gpu_hours):,.0f}"),
                Cell(run.gpu.key, run.gpu.key),
                Cell(float(first.mfu), percent(first.mfu)),
            ]
        )
    return Table("runs", columns, rows)


TABLES: Mapping[str, Callable[[], Table]] = {
    "models": models_table,
    "families": families_table,
    "gpus": gpus_table,
    "laws": laws_table,
    "runs": runs_table,
}


def catalogue_document(what: str) -> Document:
    """One of the tables; it is the answer itself, so that text prints it without `-v`."""
    table = TABLES[what]()
    return Document(verb="list", answer=[Line(what, f"{len(table.rows)} known")], sections=[Section("", [table])])
