"""How long the commands take, as whole processes, and as ratios against a stated baseline."""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench_laws import law_rows, simulated_file

from analytic.commands.options import FLAGS, Parser, add_flags, reader
from analytic.commands.run import run
from analytic.errors import UsageError
from analytic.hardware.table import load_hardware
from analytic.huggingface.config import load
from analytic.io.files import configs_dir, model_config_paths
from analytic.memory.implementation import Implementation, implementation_of
from analytic.memory.layer import layer_memory
from analytic.memory.step import step_memory
from analytic.model.training import TrainingSetup, planned_setup
from analytic.planning.architectures import Family, frontier, shapes
from analytic.planning.layouts import Space, layouts
from analytic.planning.many_gpus import STACKS
from analytic.planning.rank_fit import Question, rank_setup
from analytic.report.text import table

ROOT = Path(__file__).resolve().parents[1]
MANY = ("fits", "llama-3.1-405b", "--gpus", "1024xh100")
BASELINE = ("-c", "import json, argparse, dataclasses")


def _run(*arguments: str) -> float:
    """Wall seconds of one run of this interpreter, with its bytecode cached as an installed package's is."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    begun = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, cwd=ROOT, env=environment)
    return time.perf_counter() - begun


def _timed(name: str, repeats: int, *arguments: str) -> dict[str, object]:
    _run(*arguments)  # a first run warms the caches of files and of bytecode
    seconds = [_run(*arguments) for _ in range(repeats)]
    return {"what": name, "median_s": statistics.median(seconds), "min_s": min(seconds), "max_s": max(seconds)}


def _search(repeats: int) -> dict[str, object]:
    """Count every architecture of a family by the exact formulas and keep those that nothing beats, on one core."""
    family = Family(kind="dense", vocab_size=32_000, seq_len=4096)
    seconds = []
    for _ in range(repeats):
        shapes.cache_clear()
        begun = time.perf_counter()
        frontier(family)
        seconds.append(time.perf_counter() - begun)
    count, median = sum(len(shape.depths) for shape in shapes(family)), statistics.median(seconds)
    return {
        "what": f"search of {count:,} architectures, {count / median:,.0f} a second",
        "median_s": median,
        "architectures_per_s": count / median,
    }


def _schedules(repeats: int) -> Iterator[dict[str, object]]:
    """One layer's memory schedule, and that of a training step of Llama-3.1-405B's 126 layers, in this process."""
    config = load(configs_dir() / "models" / "llama-3.1-405b.json")
    setup = TrainingSetup(seq_len=4096, checkpointing="full")
    implementation = implementation_of(config, setup.seq_len)
    assert isinstance(implementation, Implementation)
    spec = config.spec
    layer = partial(layer_memory, spec.layers[0], spec.hidden_size, implementation, setup)
    for name, run_once in (
        ("memory schedule of a layer, all five figures", layer),
        ("memory schedule of a step of 126 layers", partial(step_memory, spec, implementation, setup)),
    ):
        seconds = []
        for _ in range(repeats):
            begun = time.perf_counter()
            run_once()
            seconds.append(time.perf_counter() - begun)
        yield {"what": name, "median_s": statistics.median(seconds)}


def _layouts(repeats: int) -> dict[str, object]:
    """Every layout of Llama-3.1-405B on 1,024 GPUs and each stack, checked and fitted: in CPU time."""
    config = load(configs_dir() / "models" / "llama-3.1-405b.json")
    setup = rank_setup(planned_setup(config.spec, 4096, 1, "bf16"))
    gpu = load_hardware().find("h100")
    question = Question(config=config, setup=setup, recompute=None, memory_bytes=gpu.memory_bytes)
    space = Space(num_gpus=1024, node_gpus=gpu.link_gpus)
    pairs = [(layout, stack) for stack in STACKS for layout in layouts(config.spec, setup, stack, space)]
    seconds = []
    for _ in range(repeats):
        begun = time.process_time()
        for layout, stack in pairs:
            with suppress(UsageError):  # what model or stack refuse is among them
                question.fit(layout, stack)
        seconds.append(time.process_time() - begun)
    median = statistics.median(seconds)
    return {
        "what": f"fit of {len(pairs):,} layouts, {len(pairs) / median:,.0f} a CPU second; at first {seconds[0]:.4f} s",
        "median_s": median,
        "layouts_per_s": len(pairs) / median,
        "first_s": seconds[0],
    }


def _arguments() -> argparse.Namespace:
    parser = Parser(prog="bench", description=__doc__)
    parser.add_argument("--repeats", type=reader(FLAGS["jobs"].read), default=5, metavar="N")
    parser.add_argument("--skip-verify", action="store_true", help="leave out the run over every config (a minute)")
    add_flags(parser, "json")
    args: argparse.Namespace = parser.parse_args()
    return args


def main() -> int:
    args = _arguments()
    foretrain = ("-m", "empirical.commands.main")
    rows = [
        _timed("an interpreter that imports json, argparse, dataclasses (the baseline)", args.repeats, *BASELINE),
        _timed("foretrain count llama-3-8b", args.repeats, *foretrain, "count", "llama-3-8b"),
        _timed("foretrain count deepseek-v3 -v", args.repeats, *foretrain, "count", "deepseek-v3", "-v"),
        _timed("foretrain plan --budget 5M", args.repeats, *foretrain, "plan", "--budget", "5M"),
        _timed(f"foretrain {' '.join(MANY)}", args.repeats, *foretrain, *MANY),
        _layouts(args.repeats),
        _search(args.repeats),
        *_schedules(args.repeats),
        *law_rows(args.repeats),
    ]
    with simulated_file(240) as path:
        fitted = "foretrain law fit, 240 runs, its backtests and the intervals of N"
        rows.append(_timed(fitted, args.repeats, *foretrain, "law", "fit", path))
    if not args.skip_verify:
        models = len(model_config_paths())
        seconds = _run("scripts/verify.py", "--json")
        rows.append({"what": f"foretrain prove, all {models} models, one run", "median_s": seconds})
        rows.append({"what": "foretrain prove, per model", "median_s": seconds / models})
    baseline = rows[0]["median_s"]
    for row in rows:
        row["ratio"] = row["median_s"] / baseline  # type: ignore[operator]  # both are floats
    if args.json:
        print(json.dumps(rows, indent=2))
    else:
        text = [(str(row["what"]), f"{row['median_s']:.4f} s", f"{row['ratio']:.2f} x") for row in rows]
        print("\n".join(table([("", "median", "of the baseline"), *text])))
    return 0


if __name__ == "__main__":
    sys.exit(run("bench", main))
