"""The original exercise: a model's parameters, FLOPs and memory, or the model that a budget buys."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from analytic.commands.options import Parser, add_flags, refuse
from analytic.commands.run import run
from analytic.exercise.budget import get_optimal_N_D_from_cost, training_budget_text
from analytic.exercise.model_cost import (
    analyze,
    exercise_text,
    model_training_cost_analysis_deepseek,
    model_training_cost_analysis_llama,
)

__all__ = [
    "get_optimal_N_D_from_cost",
    "model_training_cost_analysis_deepseek",
    "model_training_cost_analysis_llama",
]


def _arguments() -> argparse.Namespace:
    parser = Parser(prog="model_training_cost_analysis", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--model_config", type=Path, metavar="PATH", help="llama or deepseek_v3")
    what.add_argument("--training_budget", type=float, metavar="USD", help="at the exercise's own GPUs and prices")
    add_flags(parser, "seq_len", help_of={"seq_len": "default: the config's own"})
    args: argparse.Namespace = parser.parse_args()
    return args


def main() -> int:
    args = _arguments()
    if args.model_config is not None:
        sys.stdout.write(exercise_text(analyze(args.model_config, args.seq_len)))
    else:
        refuse(args.seq_len is not None, "--seq-len: expected only with --model_config")
        sys.stdout.write(training_budget_text(args.training_budget))
    return 0


if __name__ == "__main__":
    sys.exit(run("model_training_cost_analysis", main))
