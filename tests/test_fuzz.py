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
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, Never

import pytest

from analytic.commands.run import MOST_CHARACTERS
from analytic.io.files import configs_dir
from analytic.io.jsonc import read_jsonc
from analytic.performance.calibration_file import to_json
from empirical.commands.main import main
from tests.calibration_cases import calibration, explained, grid

ROOT = Path(__file__).parents[1]
COMMAND = (sys.executable, "-m", "empirical.commands.main")
STATUSES = (0, 1, 2)

# What a value is replaced by, as it is spelled in a file.
NUMBERS = (
    *("0", "-1", "1", "2", "3", "7", "64", "0.5", "-0.0", "1.5", "1e-9", "5e-324", "1e-300", "1e308", "1.7e308"),
    *("2147483648", "9223372036854775808", "1000000000000000000", "1" + "0" * 400, "9" * 5000),
)
JSON_VALUES = (
    *NUMBERS,
    *(
        "1e999",
        "-1e999",
        "NaN",
        "Infinity",
        "-Infinity",
        "true",
        "false",
        "null",
        '""',
        '"x"',
        '"\\ud800"',
        '"\\u0000"',
    ),
    *("[]", "{}", "[1]", '{"a": 1}', "[" * 40 + "]" * 40, "[" * 60 + "]" * 60, "[" * 900 + "]" * 900),
    *('"' + "x" * 400 + '"', '"bf16"', '"fp8"', '"llama"', '"full_attention"', "[0, 1, 2]", "[true, null]"),
)
TOML_VALUES = (
    *NUMBERS,
    *("inf", "-inf", "nan", "true", "false", '""', '"x"', "[]", "{}", "[1]", "[1, 2]", "[-1, 5e-324]", "[1, 1e308]"),
    *("1979-05-27", "07:32:00", "0x" + "f" * 5000, "[" * 60 + "]" * 60, "{a = 1}", '"' + "x" * 400 + '"', "'h100'"),
    *("1_0", "1e400", "[1e-300, 1e300]", "[1, 1" + "0" * 400 + "]"),
)
WORDS = (
    *NUMBERS,
    *(
        "",
        "x",
        "-",
        "--",
        "nan",
        "inf",
        "1e999",
        "h100",
        "h100=2",
        "h100=5e-324",
        "t4",
        "v100-32=1e6",
        "h100=0.4",
        "=1",
    ),
    *("full", "causal", "half", "none", "bf16", "fp16", "fp32", "fp8", "dense", "moe", "eager", "flash", "adamw"),
    *("hoffmann", "besiroglu", "80", "a100-80", "/dev/null", "/", "\ud800", "\0", "é", "\x1b[2J", "a\nb", "x" * 5000),
)
OPTIONS = {
    "count": (
        *("--seq-len", "--batch-size", "--micro-batch", "--dtype", "--optimizer", "--attention-kernel", "--precision"),
        *("--attention", "--checkpointing", "--recompute", "--rounding", "--master-weights", "--accumulating"),
        *("--mtp", "--json", "--help", "--nonsense", "-v"),
    ),
    "fits": ("--gpus", "--reserve", "--seq-len", "--micro-batch", "--recompute", "--precision", "--json", "-v"),
    "time": ("--tokens", "--gpus", "--mfu", "--dtype", "--seq-len", "--attention", "--json", "-v"),
    "compare": ("--tokens", "--gpu", "--mfu", "--dtype", "--seq-len", "--num-gpus", "--days", "--json"),
    "plan": (
        *("--budget", "--gpu", "--mfu", "--dtype", "--law", "--kind", "--vocab-size", "--seq-len", "--attention"),
        *("--days", "--num-gpus", "--dataset-tokens", "--max-epochs", "--micro-batch", "--json", "--setup"),
        *("--calibration", "--write-config", "--help", "-v"),
    ),
}

Case = tuple[str, list[str]]  # verb, arguments
Draw = Callable[[random.Random, Path], Case]


def garbled(draw: random.Random, text: str) -> str:
    """A piece cut out, doubled, or overwritten."""
    begin = draw.randrange(len(text) + 1)
    end = min(len(text), begin + draw.choice((1, 1, 2, 10, 100)))
    piece = draw.choice(("", text[begin:end] * 2, *'{}[]",:=.#\n\0é\ud7ff0-', "//", "/*", "1e9", "null"))
    return text[:begin] + piece + text[end:]


def containers(value: Any) -> list[Any]:
    """Every object and list in a JSON value that has anything in it."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [value, *(found for each in inner for found in containers(each))] if inner else []


def mutated_json(draw: random.Random, value: Any) -> str:
    """The text of a value with up to three of its keys and items replaced, left out, or renamed."""
    value, spelled = json.loads(json.dumps(value)), {}
    for i in range(draw.randint(1, 3)):
        inside = draw.choice(containers(value) or [value])
        if not inside:
            break
        key = draw.choice(list(inside)) if isinstance(inside, dict) else draw.randrange(len(inside))
        change = draw.random()
        if change < 0.75:
            inside[key] = f"@{i}@"
            spelled[f'"@{i}@"'] = draw.choice(JSON_VALUES)
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
    for _ in range(draw.randint(1, 3)):
        place = draw.randrange(len(lines))
        key, equals, _value = lines[place].partition(" = ")
        if equals and draw.random() < 0.8:
            lines[place] = f"{key} = {draw.choice(TOML_VALUES)}"
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
    verb, *arguments = draw.choice((["count"], ["count", "--mtp"], ["fits", "--gpus", "1x80GiB"]))
    return verb, [path, *arguments, *some(draw, "--json", "-v")]


def backward_file(draw: random.Random, folder: Path) -> Case:
    if draw.random() < 0.2:
        text = garbled(draw, (folder / "backward_scaling_config.json").read_text(encoding="utf-8"))
    else:
        text = mutated_json(draw, read_jsonc(folder / "backward_scaling_config.json")[0])
    return "plan", ["--setup", file(folder, "setup.json", text), *some(draw, "--json")]


def published_run(draw: random.Random, folder: Path) -> Case:
    shipped = draw.choice(sorted((folder / "runs").glob("*.toml")))
    path = file(folder / "runs", "mutated", mutated_toml(draw, shipped.read_text(encoding="utf-8")))
    return "check-run", [path, *some(draw, "--json", "-v")]


def law(draw: random.Random, folder: Path) -> Case:
    tables = re.split(r"(?m)^(?=\[laws\.)", (folder / "scaling_laws.toml").read_text(encoding="utf-8"))[1:]
    text = mutated_toml(draw, draw.choice(tables).replace("[laws.", "[laws.my_", 1))
    path = file(folder, "law.toml", text)
    verb, *arguments = draw.choice((["plan", "--budget", "1e5", "--law", path], ["law", "show", path]))
    return verb, [*arguments, *some(draw, "--json", "-v")]


def calibration_file(draw: random.Random, folder: Path) -> Case:
    text = mutated_json(draw, to_json(calibration([explained(case) for case in grid((1024, 2048))])))
    path = file(folder, "calibration.json", text)
    setup = read_jsonc(folder / "backward_scaling_config.json")[0]
    setup["training_efficiency"]["expected_mfu"] = {"calibration": "calibration.json"}
    setup["training_gear"]["gpu_type"] = "H200"
    if draw.random() < 0.1:
        return "plan", ["--budget", "1e5", "--gpu", "h200", "--calibration", path, *some(draw, "--json")]
    return "plan", ["--setup", file(folder, "calibrated.json", json.dumps(setup)), *some(draw, "--json")]


def command_line(draw: random.Random, folder: Path) -> Case:
    command = draw.choice(list(OPTIONS))
    first = ["--budget", draw.choice(WORDS)] if command == "plan" else [str(folder / "models" / "gpt2.json")]
    first += {"fits": ["--gpus", "1xh100"], "time": ["--tokens", "1T", "--gpus", "8xh100"]}.get(command, [])
    first += ["--tokens", "1T", "--gpu", "h100"] if command == "compare" else []
    arguments = first if draw.random() < 0.9 else []
    for _ in range(draw.randint(1, 3)):
        arguments += [draw.choice(OPTIONS[command]), *draw.choices(WORDS, k=draw.choice((0, 1, 1, 1, 1)))]
    return command, arguments


DRAWS: tuple[Draw, ...] = (model_config, backward_file, published_run, law, calibration_file, command_line)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what is shipped, in which files may be written; relative paths end up beside it."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(configs_dir(), tmp_path / "configs"))


def strict(constant: str) -> Never:
    raise AssertionError(f"{constant} in JSON that was printed")


def check(case: Case, status: int, out: str, err: str) -> None:
    assert status in STATUSES, case
    if status == 0:
        assert err == "", case
        if "--json" in case[1] and "--help" not in case[1]:
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
                status = main([case[0], *case[1]])
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
        command, arguments = case = draw(source, folder)
        given = [argument for argument in arguments if not re.search("[\0\ud800]", argument)]
        encoding = source.choice(("utf-8", "ascii"))
        environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH": str(ROOT)}
        done = subprocess.run([*COMMAND, command, *given], capture_output=True, text=True, check=False, env=environment)
        check(case, done.returncode, done.stdout, done.stderr)
