"""One model: its counts, and whether it fits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from analytic.api.amounts import Amount, gpus_of, integer, length
from analytic.api.result import Result
from analytic.defaults import RESERVE_BYTES
from analytic.errors import UsageError
from analytic.hardware.table import load_hardware
from analytic.huggingface.config import ModelConfig
from analytic.huggingface.config import load as load_config
from analytic.huggingface.shipped import find_model
from analytic.limits import MAX_DIMENSION
from analytic.model.checkpointing import Checkpointing
from analytic.model.flops import AttentionConvention
from analytic.model.optimizer import Optimizer
from analytic.model.params import ParameterCounts, parameter_counts
from analytic.model.training import (
    AttentionKernel,
    Precision,
    TrainingSetup,
    check_kernel,
    fused_kernel,
    planned_setup,
)
from analytic.planning.counts import Summary, Workload, summarize
from analytic.planning.fitting import Fitting, fit_on
from analytic.report.count import count_document
from analytic.report.fits import fits_document
from analytic.report.html import document_html
from analytic.units import GpuCount, parse_bytes


@dataclass(frozen=True, slots=True)
class Model:
    """A model as its configuration describes it.

    >>> load("llama-3-8b").params.total
    8030261248
    """

    config: ModelConfig

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def params(self) -> ParameterCounts:
        """Parameters: total, active, embedding, head, non_embedding, buffers, mtp."""
        return parameter_counts(self.config.spec)

    def _repr_html_(self) -> str:
        return document_html(count(self).document)


def load(model: str | Path | Model) -> Model:
    """A model by its shipped name, or by the path of a Hugging Face `config.json` or of its folder.

    Raises:
        PlannerError: no such model, or a configuration that cannot be read.
    """
    return model if isinstance(model, Model) else Model(load_config(find_model(model)))


def count(
    model: str | Path | Model,
    *,
    seq_len: Amount | None = None,
    batch_size: Amount = 1,
    attention: AttentionConvention = "full",
    recompute: Checkpointing = "none",
    mtp: bool = False,
    micro_batch: Amount | None = None,
    precision: Precision = "bf16",
    master_weights: bool = False,
    optimizer: Optimizer = "adamw_fused",
    attention_kernel: AttentionKernel | None = None,
    accumulating: bool = False,
    rounding: int = 1,
) -> Result[Summary]:
    """Parameters, FLOPs and the memory of a training step on one GPU, from the formulas.

    >>> count("llama-3-8b")["params"]["total"]
    8030261248
    """
    config = load(model).config
    workload = Workload.of(
        config,
        seq_len=length(seq_len),
        batch_size=integer(batch_size, MAX_DIMENSION),
        convention=attention,
        checkpointing=recompute,
        mtp=mtp,
    )
    kernel = attention_kernel or ("eager" if precision == "fp32" else fused_kernel(config.spec))
    check_kernel(kernel, config.spec)
    rounding_bytes: Any = rounding
    setup = TrainingSetup(
        seq_len=workload.seq_len,
        micro_batch=workload.batch_size if micro_batch is None else integer(micro_batch, MAX_DIMENSION),
        precision=precision,
        has_master_weights=master_weights,
        optimizer=optimizer,
        checkpointing=recompute,
        attention_kernel=kernel,
        is_accumulating=accumulating,
        rounding_bytes=rounding_bytes,
    )
    summary = summarize(config, workload)
    return Result(summary, count_document(summary, setup))


def fits(
    model: str | Path | Model,
    gpus: str | GpuCount,
    *,
    seq_len: Amount | None = None,
    micro_batch: Amount = 1,
    recompute: Checkpointing | None = None,
    precision: Precision = "bf16",
    optimizer: Optimizer | None = None,
    attention_kernel: AttentionKernel | None = None,
    reserve: Amount = RESERVE_BYTES,
) -> Result[Fitting]:
    """Whether a model trains on `gpus`, such as `8xa100-80` or `1x80GiB`, and what the largest micro-batch is.

    >>> fits("llama-3.2-1b", "1xh100")["fits"]
    True
    """
    config = load(model).config
    workload = Workload.of(config, seq_len=length(seq_len), checkpointing=recompute or "full")
    setup = planned_setup(config.spec, workload.seq_len, integer(micro_batch, MAX_DIMENSION), precision)
    setup = replace(
        setup,
        checkpointing=workload.checkpointing,
        optimizer=optimizer or setup.optimizer,
        attention_kernel=attention_kernel or setup.attention_kernel,
    )
    check_kernel(setup.attention_kernel, config.spec)
    asked = gpus_of(gpus)
    gpu, memory_bytes = _memory_of(asked.name)
    found = fit_on(
        config,
        setup,
        gpu=gpu,
        num_gpus=asked.count,
        memory_bytes=memory_bytes,
        reserve_bytes=reserve if isinstance(reserve, int) else parse_bytes(reserve),
        recompute=recompute,
    )
    return Result(found, fits_document(found))


def _memory_of(name: str) -> tuple[str, int]:
    """A GPU of the table, or a memory such as 80GiB."""
    try:
        return name, parse_bytes(name)
    except UsageError:
        gpu = load_hardware().find(name)
        return gpu.key, gpu.memory_bytes
