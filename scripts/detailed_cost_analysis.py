"""The original exercise in detail: every term of a model, the witnesses, or a machine's time turned into tokens."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from analytic.commands.options import Parser, add_flags, refuse
from analytic.commands.run import run
from analytic.exercise.budget import backward_analysis
from analytic.exercise.model_cost import analyze, detailed_text


def _arguments() -> argparse.Namespace:
    parser = Parser(prog="detailed_cost_analysis", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--model_config", type=Path, metavar="PATH", help="llama or deepseek_v3")
    what.add_argument("--backward_config", type=Path, metavar="PATH", help="a machine, its hours and an architecture")
    what.add_argument("--validate", action="store_true", help="Llama-7B and DeepSeek-V3 against every witness")
    add_flags(parser, "seq_len", help_of={"seq_len": "default: the config's own"})
    args: argparse.Namespace = parser.parse_args()
    return args


def main() -> int:
    args = _arguments()
    if args.validate:
        from empirical.proof.validate import validate  # torch takes seconds to import: only where it is needed

        return validate(args.seq_len)
    if args.backward_config is not None:
        refuse(args.seq_len is not None, "--seq-len: the file states dataset_constraints.sequence_length")
        sys.stdout.write(backward_analysis(args.backward_config))
    else:
        sys.stdout.write(detailed_text(analyze(args.model_config, args.seq_len)))
    return 0


if __name__ == "__main__":
    sys.exit(run("detailed_cost_analysis", main))
