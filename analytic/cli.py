"""`trainmeter-count`: parameters and FLOPs of a configuration, from the formulas alone."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from analytic import hf, report
from analytic.commandline import Parser, positive_integer, run
from analytic.flops import AttentionConvention, Checkpointing
from analytic.summary import Workload, summarize


def count(argv: Sequence[str] | None = None) -> int:
    """Print what a model costs. Returns the exit status: 0, or 2 on bad input."""
    return run("trainmeter-count", lambda: _count(argv))


def _count(argv: Sequence[str] | None) -> int:
    parser = Parser(prog="trainmeter-count", description="Count a model's parameters and FLOPs, term by term.")
    parser.add_argument("config", type=Path, metavar="CONFIG", help="a Hugging Face config.json")
    parser.add_argument("--seq-len", type=positive_integer, metavar="N", help="tokens a sequence")
    parser.add_argument("--batch-size", type=positive_integer, default=1, metavar="N", help="sequences a step")
    parser.add_argument("--attention", choices=get_args(AttentionConvention), default="full", help="which pairs count")
    parser.add_argument("--checkpointing", choices=get_args(Checkpointing), default="none")
    parser.add_argument("--mtp", action="store_true", help="include multi-token-prediction layers")
    parser.add_argument("--json", action="store_true", help="the same facts for machines, in base units")
    args = parser.parse_args(argv)
    config = hf.load(args.config)
    workload = Workload.of(
        config,
        seq_len=args.seq_len,
        batch_size=args.batch_size,
        convention=args.attention,
        checkpointing=args.checkpointing,
        mtp=args.mtp,
    )
    summary = summarize(config, workload)
    sys.stdout.write(json.dumps(summary.as_json(), indent=2) + "\n" if args.json else report.count_text(summary))
    return 0
