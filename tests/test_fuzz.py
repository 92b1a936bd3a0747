"""Mutated files and random command lines through the real entry points: an answer, or one line and status 2.

The draws are seeded, so that a red run can be repeated. Ten thousand take minutes and are marked `thorough`.
"""

from __future__ import annotations

import io
import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from decimal import Decimal
from pathlib import Path
from typing import Any, Never

import pytest

from analytic.commands.run import MOST_CHARACTERS
from analytic.io.files import configs_dir
from analytic.io.jsonc import read_jsonc
from analytic.performance.calibration_file import to_json
from empirical.commands.main import main
from tests.calibration_cases import calibration, explained, grid
from tests.fuzz_values import FIT, JSON_VALUES, NUMBERS, OPTIONS, TOKENS, TOML_VALUES, WORDS

ROOT = Path(__file__).parents[1]
PROCESS = (sys.executable, "-m", "empirical.commands.main")  # `main` as a process
STATUSES = (0, 1, 2)

COUNTS = (1, 1, 1, 1, 2, 3)  # of changes to a file

Case = list[str]  # a verb and its arguments
Draw = Callable[[random.Random, Path], Case]


def garbled(draw: random.Random, text: str) -> str:
    """A piece cut out, doubled, or overwritten."""
    begin = draw.randrange(len(text) + 1)
    end = min(len(text), begin + draw.choice((1, 1, 2, 10, 100)))
    piece = draw.choice(("", text[begin:end] * 2, *'{}[]",:=.#\n\0é\ud7ff0-', "//", "/*", "1e9", "null"))
    return text[:begin] + piece + text[end:]


def another(draw: random.Random, old: str, values: Sequence[str]) -> str:
    """What to put in the place of a value: for a number mostly another number, near it or far away."""
    if not re.fullmatch(r"-?[0-9]{1,30}(\.[0-9]+)?(e[+-]?[0-9]+)?", old) or draw.random() < 0.2:
        return draw.choice(values)
    factor = draw.choice((0.5, 2, 3, 10, 1e-3, 1e3, 1e-6, 1e6, 1e9, 1e-9, 1e-18, 1e18, 1e30, 1e-30))
    scaled = Decimal(old) * Decimal(factor)
    return draw.choice((*NUMBERS, *[str(int(scaled)) if old.lstrip("-").isdigit() else f"{scaled:f}"] * 10))


def containers(value: Any) -> list[Any]:
    """Every object and list in a JSON value that has anything in it."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [value, *(found for each in inner for found in containers(each))] if inner else []


def mutated_json(draw: random.Random, value: Any) -> str:
    """The text of a value with up to three of its keys and items replaced, left out, or renamed."""
    value, spelled = json.loads(json.dumps(value)), {}
    for i in range(draw.choice(COUNTS)):
        inside = draw.choice(containers(value) or [value])
        if not inside:
            break
        key = draw.choice(list(inside)) if isinstance(inside, dict) else draw.randrange(len(inside))
        old, change = inside[key], draw.random()
        if change < 0.8:
            inside[key] = f"@{i}@"
            spelled[f'"@{i}@"'] = another(draw, json.dumps(old), JSON_VALUES)
        elif change < 0.9:
            del inside[key]
        elif isinstance(inside, dict):
            inside[draw.choice(("", "x", "\ud800", str(key) * 2))] = inside.pop(key)
    text = json.dumps(value, indent=draw.choice((None, 1)))
    for placeholder, literal in spelled.items():
        text = text.replace(placeholder, literal)
    return garbled(draw, text) if draw.random() < 0.1 else text


def mutated_toml(draw: random.Random, text: str) -> str:
    """Up to three lines with another value, left out or doubled."""
    lines = text.splitlines()
    for _ in range(draw.choice(COUNTS)):
        place = draw.choice([i for i, line in enumerate(lines) if line] or [0])
        key, equals, old = lines[place].partition(" = ")
        if equals and draw.random() < 0.9:
            new = another(draw, old.replace("_", ""), TOML_VALUES)
            lines[place] = f"{key} = {new}"
        else:
            lines[place : place + 1] = draw.choice(([], [lines[place]] * 2))
    text = "\n".join(lines)
    return garbled(draw, text) if draw.random() < 0.1 else text


def file(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    return str(path)


def some(draw: random.Random, *arguments: str) -> list[str]:
    return [argument for argument in arguments if draw.random() < 0.3]


def model_config(draw: random.Random, folder: Path) -> Case:
    shipped = draw.choice(sorted((folder / "models").glob("*.json")))
    path = file(folder, "config.json", mutated_json(draw, json.loads(shipped.read_text(encoding="utf-8"))))
    verbs = (
        ["count", path],
        ["count", path, "-v"],
        ["fits", path, "--gpus", "1xh100"],
        ["time", path, "--gpus", "8xt4"],
    )
    return [*draw.choice(verbs), *some(draw, "--json")]


def backward_file(draw: random.Random, folder: Path) -> Case:
    if draw.random() < 0.2:
        text = garbled(draw, (folder / "backward_scaling_config.json").read_text(encoding="utf-8"))
    else:
        text = mutated_json(draw, read_jsonc(folder / "backward_scaling_config.json")[0])
    return ["plan", "--setup", file(folder, "setup.json", text), *some(draw, "--json", "-v")]


def published_run(draw: random.Random, folder: Path) -> Case:
    shipped = draw.choice(sorted((folder / "runs").glob("[!m]*.toml")))
    path = file(folder / "runs", "mutated.toml", mutated_toml(draw, shipped.read_text(encoding="utf-8")))
    return ["check-run", path, *some(draw, "--json")]


def law(draw: random.Random, folder: Path) -> Case:
    tables = re.split(r"(?m)^(?=\[\w+\.)", (folder / "scaling_laws.toml").read_text(encoding="utf-8"))[1:]
    text = mutated_toml(draw, draw.choice(tables).replace("laws.", "laws.my_", 1))
    path = file(folder, "law.toml", text)
    limited = ["--dataset-tokens", draw.choice(TOKENS)]
    plan = ["plan", "--budget", "1e5", "--law", path]
    return [*draw.choice((["law", "show", path], plan, [*plan, *limited])), *some(draw, "--json")]


def some_runs(draw: random.Random, text: str) -> str:
    """A few lines of a file of runs, up to three of its cells replaced; sometimes a piece of it garbled."""
    header, *lines = [line for line in text.splitlines() if not line.startswith("#")]
    kept = draw.sample(lines, min(len(lines), draw.choice((1, 3, 5, 7, 12, 30))))
    for _ in range(draw.choice((0, 0, 0, 0, 1, 2))):
        place = draw.randrange(len(kept))
        cells = kept[place].split(",")
        column = draw.randrange(len(cells))
        cells[column] = another(draw, cells[column], TOML_VALUES)
        kept[place] = ",".join(cells)
    if draw.random() < 0.2:
        kept += draw.choice((kept, [kept[0]] * 9, [""], ["# a comment"]))
    written = "\n".join([header, *kept]) + "\n"
    return garbled(draw, written) if draw.random() < 0.1 else written


def law_fit(draw: random.Random, folder: Path) -> Case:
    shipped = draw.choice(sorted((folder / "laws" / "runs").glob("*.csv")))
    path = file(folder, "runs.csv", some_runs(draw, shipped.read_text(encoding="utf-8")))
    options = []
    for option in draw.sample(list(FIT), draw.randint(0, 3)):
        values = FIT[option] if draw.random() < 0.3 else FIT[option][:1]  # the first of each is a good one
        options += [option, *draw.sample(values, min(len(values), 1))]
    if draw.random() < 0.1:
        options.insert(draw.randrange(len(options) + 1), draw.choice(WORDS))
    return ["law", "fit", path, *options, *some(draw, "--json", "-v")]


def calibration_file(draw: random.Random, folder: Path) -> Case:
    text = mutated_json(draw, to_json(calibration([explained(case) for case in grid((1024, 2048))])))
    path = file(folder, "calibration.json", text)
    setup = read_jsonc(folder / "backward_scaling_config.json")[0]
    setup["training_efficiency"]["expected_mfu"] = {"calibration": "calibration.json"}
    setup["training_gear"]["gpu_type"] = "H200"
    if draw.random() < 0.1:
        return ["plan", "--budget", "1e5", "--gpu", "h200", "--calibration", path, *some(draw, "--json")]
    return ["plan", "--setup", file(folder, "calibrated.json", json.dumps(setup)), *some(draw, "--json")]


def command_line(draw: random.Random, folder: Path) -> Case:
    verb = draw.choice(list(OPTIONS))
    arguments = ["--budget", draw.choice(OPTIONS["plan"]["--budget"])] if verb == "plan" else [draw.choice(MODELS)]
    for option in draw.sample(list(OPTIONS[verb]), draw.randint(0, 3)):
        values = OPTIONS[verb][option]
        arguments += [option, draw.choice(values)] if values else [option]
    arguments += some(draw, "--json")
    if draw.random() < 0.3:
        arguments.insert(draw.randrange(len(arguments) + 1), draw.choice(WORDS))
    if draw.random() < 0.02:
        verb = draw.choice(("list", "law", "law show", "--help", "--version", *WORDS))
    return [verb, *arguments]


MODELS = ("gpt2", "llama-3-8b", "deepseek-v3", "Mixtral-8x7B", "llama-3.2-1b", "qwen3-30b-a3b")
DRAWS: tuple[Draw, ...] = (model_config, backward_file, published_run, law, law_fit, calibration_file, command_line)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what is shipped, in which files may be written; relative paths end up next to it."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(configs_dir(), tmp_path / "configs"))


def strict(constant: str) -> Never:
    raise AssertionError(f"{constant} in JSON that was printed")


def check(case: Case, status: int, out: str, err: str) -> None:
    assert status in STATUSES, case
    if status == 0 or (status == 1 and "--strict" in case):  # an answer that is not good enough
        assert err == "", case
        if "--json" in case and not out.startswith(("usage:", "foretrain ")):
            json.loads(out, parse_constant=strict)
    else:
        assert out == "", case
        assert re.fullmatch(rf".{{1,{MOST_CHARACTERS}}}\n", err), (case, err)


def fuzz(draw: Draw, inputs: int, folder: Path) -> None:
    """In this process, streams replaced: what escapes a command fails the test."""
    source = random.Random(draw.__name__)
    statuses = set()
    for _ in range(inputs):
        case = draw(source, folder)
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            try:
                status = main(case)
            except BaseException as escaped:
                escaped.add_note(f"{case}")
                raise
        check(case, status, out.getvalue(), err.getvalue())
        statuses.add(status)
    assert statuses >= {0, 2}, "draws that are all good or all bad try nothing"


@pytest.mark.parametrize("draw", DRAWS)
def test_a_few_mutants_of_each_kind(draw: Draw, folder: Path) -> None:
    fuzz(draw, 200 // len(DRAWS) + 1, folder)


@pytest.mark.thorough
@pytest.mark.parametrize("draw", DRAWS)
def test_thousands_of_mutants_of_each_kind(draw: Draw, folder: Path) -> None:
    fuzz(draw, 10_000 // len(DRAWS) + 1, folder)


@pytest.mark.thorough
@pytest.mark.parametrize("draw", DRAWS)
def test_mutants_through_whole_processes(draw: Draw, folder: Path) -> None:
    """Interpreter and streams included; an argument that no process can be given is left to the test above."""
    source = random.Random(f"{draw.__name__}, processes")
    for _ in range(40):
        case = draw(source, folder)
        given = [argument for argument in case if not re.search("[\0\ud800]", argument)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": source.choice(("utf-8", "ascii"))}
        done = subprocess.run([*PROCESS, *given], capture_output=True, text=True, check=False, env=environment)
        check(case, done.returncode, done.stdout, done.stderr)
