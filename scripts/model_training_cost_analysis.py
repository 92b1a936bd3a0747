"""The original exercise: parameters, one layer's forward TFLOPs and its peak memory, from a configuration."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from analytic.commandline import Parser, positive_integer, run
from analytic.exercise import (
    analyze,
    exercise_text,
    model_training_cost_analysis_deepseek,
    model_training_cost_analysis_llama,
)

__all__ = ["model_training_cost_analysis_deepseek", "model_training_cost_analysis_llama"]


def _arguments() -> argparse.Namespace:
    parser = Parser(prog="model_training_cost_analysis", description=__doc__)
    parser.add_argument("--model_config", type=Path, required=True, metavar="PATH", help="llama or deepseek_v3")
    parser.add_argument("--seq-len", type=positive_integer, metavar="N", help="default: the config's own")
    return parser.parse_args()


def main() -> int:
    args = _arguments()
    sys.stdout.write(exercise_text(analyze(args.model_config, args.seq_len)))
    return 0


if __name__ == "__main__":
    sys.exit(run("model_training_cost_analysis", main))
