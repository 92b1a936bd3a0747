"""`foretrain fits`: does a model train on these GPUs, and how large a micro-batch do they take."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace

from analytic.commands.count import add_model
from analytic.commands.options import Parser, add_flags, refuse
from analytic.commands.verb import document_verb
from analytic.errors import UsageError
from analytic.hardware.table import load_hardware
from analytic.huggingface.config import load
from analytic.huggingface.shipped import find_model
from analytic.memory.capacity import RESERVE_BYTES
from analytic.model.training import check_kernel, planned_setup
from analytic.planning.counts import Workload
from analytic.planning.fitting import fit_on
from analytic.report.document import Document
from analytic.report.fits import fits_document
from analytic.units import parse_bytes


def _add_arguments(parser: Parser) -> None:
    add_model(parser)
    add_flags(parser, "gpus", "reserve", "seq_len", "micro_batch", "recompute", "precision", "optimizer")
    add_flags(parser, "attention_kernel")


def _answer(args: Namespace) -> Document:
    refuse(args.gpus is None, "--gpus: expected GPUs such as 8xa100-80 or 1x80GiB")
    config = load(find_model(args.model))
    workload = Workload.of(config, seq_len=args.seq_len, checkpointing=args.recompute or "full")
    setup = planned_setup(config.spec, workload.seq_len, args.micro_batch or 1, args.precision or "bf16")
    setup = replace(
        setup,
        checkpointing=workload.checkpointing,
        optimizer=args.optimizer or setup.optimizer,
        attention_kernel=args.attention_kernel or setup.attention_kernel,
    )
    check_kernel(setup.attention_kernel, config.spec)
    gpu, memory_bytes = _memory_of(args.gpus.name)
    return fits_document(
        fit_on(
            config,
            setup,
            gpu=gpu,
            num_gpus=args.gpus.count,
            memory_bytes=memory_bytes,
            reserve_bytes=RESERVE_BYTES if args.reserve is None else parse_bytes(args.reserve),
            recompute=args.recompute,
        )
    )


def _memory_of(name: str) -> tuple[str, int]:
    """A GPU of the table, or a memory such as 80GiB."""
    try:
        return name, parse_bytes(name)
    except UsageError:
        pass
    gpu = load_hardware().find(name)
    return gpu.key, gpu.memory_bytes


VERB = document_verb(
    name="fits",
    summary="Does a model train on these GPUs: memory of each, the largest micro-batch, the longest sequence.",
    examples=(
        "foretrain fits llama-3.2-1b --gpus 1xh100 --seq-len 8k",
        "foretrain fits llama-3-8b --gpus 8xa100-80 --micro-batch 2",
    ),
    add_arguments=_add_arguments,
    answer=_answer,
)
