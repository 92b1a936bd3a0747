"""Whether a model fits GPUs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from analytic.api.amounts import Amount, gpus_of, integer, length
from analytic.api.models import Model, load
from analytic.api.result import Result
from analytic.defaults import NODE_GPUS, RESERVE_BYTES
from analytic.errors import UsageError
from analytic.hardware.table import load_hardware
from analytic.huggingface.config import ModelConfig
from analytic.limits import MAX_DIMENSION
from analytic.memory.capacity import check_reserve
from analytic.model.checkpointing import Checkpointing
from analytic.model.optimizer import Optimizer
from analytic.model.training import (
    AttentionKernel,
    Precision,
    TrainingSetup,
    check_kernel,
    planned_setup,
)
from analytic.parallelism.stacks import Stack
from analytic.planning.counts import Workload
from analytic.planning.fitting import Fitting, fit_on
from analytic.planning.layouts import Space
from analytic.planning.many_gpus import STACKS, ManyGpus, fit_on_many
from analytic.planning.rank_fit import Question, rank_setup
from analytic.report.fits import fits_document
from analytic.report.many_gpus import many_document
from analytic.units import GpuCount, parse_bytes

LAYOUT_OPTIONS = ("tp", "pp", "cp", "ep", "etp", "dp_shard", "dp_replicate", "pipeline_schedule", "virtual_stages")


def fits(
    model: str | Path | Model,
    gpus: str | GpuCount,
    *,
    seq_len: Amount | None = None,
    micro_batch: Amount = 1,
    global_batch: Amount | None = None,
    recompute: Checkpointing | None = None,
    precision: Precision | None = None,
    optimizer: Optimizer | None = None,
    attention_kernel: AttentionKernel | None = None,
    reserve: Amount | None = None,
    stack: Stack | None = None,
    **layout: Any,
) -> Result[Fitting] | Result[ManyGpus]:
    """Whether a model trains on `gpus`, such as `8xa100-80` or `1x80GiB`, and what the largest micro-batch is.

    Args:
        precision: by default bf16, or fp16 on a GPU without it.
        reserve: memory kept free, such as `2GB`; by default 2 GB of one GPU, and of several what stack and layout are
            known to take beyond tensors.
        global_batch: sequences of a step; by default a micro-batch for each data rank, and four for each rank of a
            pipeline.
        stack: the software; by default every one is tried, and the first that fits is the answer.
        layout: `tp`, `pp`, `cp`, `ep`, `etp`, `dp_shard`, `dp_replicate`, `pipeline_schedule`, `virtual_stages`: with
            any of them that layout, dp_shard being what is left of the GPUs; without, the best of all.

    >>> fits("llama-3.2-1b", "1xh100")["fits"]
    True
    >>> fits("llama-3-8b", "8xa100-80", tp=2)["layout"]["dp_shard"]
    4
    """
    config, asked = load(model).config, gpus_of(gpus)
    workload = Workload.of(config, seq_len=length(seq_len), checkpointing=recompute or "full")
    setup = _setup(config, workload, micro_batch, _precision_on(asked.name, precision), optimizer, attention_kernel)
    given = _known(layout)
    reserve_bytes = parse_bytes(reserve) if isinstance(reserve, str) else reserve
    batch = None if global_batch is None else integer(global_batch, MAX_DIMENSION)
    if asked.count > 1:
        return _on_many(config, setup, asked, recompute, reserve_bytes, batch, stack, given)
    for name, value in {"stack": stack, "global_batch": batch, **given}.items():
        if value is not None:
            raise UsageError(f"{name} = {value}: expected several GPUs, one has no layout")
    gpu, memory_bytes, node_gpus = _memory_of(asked.name)
    found = fit_on(
        config,
        setup,
        gpu=gpu,
        memory_bytes=memory_bytes,
        reserve_bytes=RESERVE_BYTES if reserve_bytes is None else reserve_bytes,
        recompute=recompute,
        node_gpus=node_gpus,
    )
    return Result(found, fits_document(found))


def _setup(
    config: ModelConfig,
    workload: Workload,
    micro_batch: Amount,
    precision: Precision,
    optimizer: Optimizer | None,
    attention_kernel: AttentionKernel | None,
) -> TrainingSetup:
    """As planned, but for what is given."""
    setup = planned_setup(config.spec, workload.seq_len, integer(micro_batch, MAX_DIMENSION), precision)
    setup = replace(
        setup,
        checkpointing=workload.checkpointing,
        optimizer=optimizer or setup.optimizer,
        attention_kernel=attention_kernel or setup.attention_kernel,
    )
    check_kernel(setup.attention_kernel, config.spec)
    return setup


def _on_many(
    config: ModelConfig,
    setup: TrainingSetup,
    gpus: GpuCount,
    recompute: Checkpointing | None,
    reserve_bytes: int | None,
    global_batch: int | None,
    stack: Stack | None,
    given: Mapping[str, Any],
) -> Result[ManyGpus]:
    gpu, memory_bytes, node_gpus = _memory_of(gpus.name)
    check_reserve(reserve_bytes, memory_bytes)
    question = Question(
        config=config,
        setup=rank_setup(setup),
        recompute=recompute,
        memory_bytes=memory_bytes,
        reserve_bytes=reserve_bytes,
    )
    space = Space(num_gpus=gpus.count, node_gpus=node_gpus, global_batch=global_batch)
    found = fit_on_many(question, space, gpu=gpu, given=given, stacks=STACKS if stack is None else (stack,))
    return Result(found, many_document(found))


def _known(layout: Mapping[str, Any]) -> Mapping[str, Any]:
    """The options of a layout, without those that are None."""
    for name in layout:
        if name not in LAYOUT_OPTIONS:
            raise TypeError(f"fits() got an unexpected keyword argument {name!r}")
    return {name: value for name, value in layout.items() if value is not None}


def _precision_on(name: str, asked: Precision | None) -> Precision:
    """The precision asked for, or the 16 bits that the GPU has; a memory such as 80GiB has all.

    Raises:
        UsageError: one that the GPU lacks.
    """
    try:
        parse_bytes(name)
    except UsageError:
        gpu = load_hardware().find(name)
        if asked is not None:
            gpu.peak(asked)
            return asked
        return "bf16" if "bf16" in gpu.peak_flops_per_s else "fp16"
    return asked or "bf16"


def _memory_of(name: str) -> tuple[str, int, int]:
    """A GPU of the table with the GPUs that its link joins, or a memory such as 80GiB with the eight of a node."""
    try:
        return name, parse_bytes(name), NODE_GPUS
    except UsageError:
        gpu = load_hardware().find(name)
        return gpu.key, gpu.memory_bytes, gpu.link_gpus
