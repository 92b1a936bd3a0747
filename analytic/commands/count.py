"""`foretrain count`: parameters, FLOPs and memory of a model, from the formulas alone."""

from __future__ import annotations

from argparse import Namespace
from typing import Any, cast

from analytic.commands.options import Parser, add_flags
from analytic.commands.verb import document_verb
from analytic.huggingface.config import ModelConfig, load
from analytic.huggingface.shipped import find_model
from analytic.model.training import Precision, TrainingSetup, check_kernel, fused_kernel
from analytic.planning.counts import Workload, summarize
from analytic.report.count import count_document
from analytic.report.document import Document


def _add_arguments(parser: Parser) -> None:
    add_model(parser)
    add_flags(parser, "seq_len", "batch_size", "attention", "recompute", "mtp")
    add_setup(parser)


def add_model(parser: Parser) -> None:
    """MODEL, as every verb takes it."""
    parser.add_argument("model", metavar="MODEL", help="a shipped name, or a config.json or its folder")


def add_setup(parser: Parser) -> None:
    """What memory depends on."""
    group = parser.add_argument_group("memory of a training step on one GPU")
    add_flags(group, "micro_batch", "precision", "optimizer", "master_weights", "attention_kernel", "accumulating")
    add_flags(group, "rounding")


def _answer(args: Namespace) -> Document:
    config = load(find_model(args.model))
    workload = workload_of(args, config)
    return count_document(summarize(config, workload), setup_of(args, config, workload))


def workload_of(args: Namespace, config: ModelConfig) -> Workload:
    """What the arguments say of the workload; the rest is the configuration's own."""
    return Workload.of(
        config,
        seq_len=args.seq_len,
        batch_size=args.batch_size or 1,
        convention=args.attention or "full",
        checkpointing=args.recompute or "none",
        mtp=args.mtp,
    )


def setup_of(args: Namespace, config: ModelConfig, workload: Workload) -> TrainingSetup:
    """The training step whose memory is predicted."""
    precision: Precision = args.precision or "bf16"
    kernel = args.attention_kernel or ("eager" if precision == "fp32" else fused_kernel(config.spec))
    check_kernel(kernel, config.spec)
    return TrainingSetup(
        seq_len=workload.seq_len,
        micro_batch=args.micro_batch or workload.batch_size,
        precision=precision,
        has_master_weights=args.master_weights,
        optimizer=args.optimizer or "adamw_fused",
        checkpointing=workload.checkpointing,
        attention_kernel=kernel,
        is_accumulating=args.accumulating,
        rounding_bytes=cast(Any, int(args.rounding or 1)),
    )


VERB = document_verb(
    name="count",
    summary="Parameters, FLOPs and memory of a model, from formulas that `foretrain prove` checks.",
    examples=(
        "foretrain count llama-3-8b",
        "foretrain count path/to/config.json --seq-len 8k --precision fp16 --recompute full -v",
    ),
    add_arguments=_add_arguments,
    answer=_answer,
)
