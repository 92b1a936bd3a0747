"""The commands that the documents show, and the figures of a benchmark: what they print today."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from analytic.defaults import DEFAULT_LAW
from analytic.hardware.table import load_hardware
from analytic.io.files import configs_dir
from analytic.performance.calibration_file import load_calibration
from analytic.planning.this_machine import CPU_FAMILY, machine_plan
from analytic.scaling import prior
from analytic.scaling.law_file import load_law
from empirical.proof.findings import Findings
from empirical.proof.report import verify_text
from tests.commands import printed

ROOT = Path(__file__).parents[1]
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
# Commands that are shown, and why they are not run.
NOT_RUN = {
    "foretrain prove llama-3-8b": "names the versions of one machine: CI proves every shipped model",
    "OMP_NUM_THREADS=1 foretrain prove --device cpu --train 1 --calibration-out configs/calibrations/cpu.json": (
        "trains for minutes, and its times are of one machine: the test below checks its figures"
    ),
}
LEFT_OUT = "..."


def blocks(path: Path) -> list[str]:
    """The text of each fenced block of a document."""
    return re.findall(r"^```[a-z]*\n(.*?)^```$", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


SHOWN = [
    pytest.param(block, id=f"{path.relative_to(ROOT)}: {block.splitlines()[0]}")
    for path in DOCUMENTS
    for block in blocks(path)
    if block.startswith("$ ") and "foretrain" in block.splitlines()[0]
]


def is_shown(lines: list[str], out: list[str]) -> bool:
    """Whether `lines` are `out`, in order, where a line `...` is any number of lines.

    >>> is_shown(["a", "...", "c"], ["a", "b", "b", "c"]), is_shown(["a", "c"], ["a", "b", "c"])
    (True, False)
    >>> is_shown(["...", "b"], ["a", "b", "c"]), is_shown(["b", "..."], ["a", "b"])
    (False, False)
    """
    pattern = "".join(r"(?:.*\n)*?" if line == LEFT_OUT else re.escape(line) + r"\n" for line in lines)
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in out)) is not None


@pytest.mark.parametrize("block", SHOWN)
def test_a_shown_command_prints_what_is_shown(
    block: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command, *lines = block.removeprefix("$ ").splitlines()
    if command in NOT_RUN:
        return
    monkeypatch.chdir(ROOT)
    program, *argv = shlex.split(command)
    assert program == "foretrain"
    out = printed(capsys, *argv).splitlines()
    assert is_shown(lines, out), "\n".join(out)


def test_what_is_not_run_is_shown() -> None:
    commands = {str(param.values[0]).splitlines()[0].removeprefix("$ ") for param in SHOWN}
    assert commands >= NOT_RUN.keys()


def test_the_benchmark_shows_the_plan_that_the_committed_cpu_calibration_makes() -> None:
    made = load_calibration(configs_dir() / "calibrations" / "cpu.json")
    planned = machine_plan(made, 1, CPU_FAMILY, load_law(DEFAULT_LAW), load_hardware())
    printed = verify_text(Findings(calibration=made, planned=planned), load_hardware(), {}).splitlines()
    (block,) = (b for b in blocks(ROOT / "docs" / "benchmarks" / "2026-11-24-cpu.md") if "a plan for this machine" in b)
    shown, _, against = block.partition("trained ")
    lines = [line for line in shown.split("...\n", 1)[1].splitlines() if line]
    assert len(lines) > 8
    assert [line for line in lines if line not in printed] == []
    rows = {re.split(r"  +", line.strip())[0]: line.split()[-3:] for line in against.splitlines() if line}
    assert rows["tokens per second"][0] == f"{planned.tokens_per_s:,.1f}"
    assert rows["tokens"][0] == f"{planned.plan.outcome.tokens:,}"
    assert planned.peak_bytes is not None
    assert rows["peak memory, bytes requested; planned: by the schedule"][0] == f"{planned.peak_bytes:,}"
    steps = int(against.split()[0])
    tokens, seconds = _number(rows["tokens"][1]), _number(rows["seconds"][1])
    assert tokens == steps * planned.case.setup.tokens
    assert _number(rows["tokens per second"][1]) == pytest.approx(tokens / seconds, rel=1e-3)
    flops = _number(rows["tokens per second"][1]) * planned.plan.outcome.candidate.flops_per_token
    peak = planned.plan.option.gpu.peak("bf16")
    assert _number(rows["MFU, full attention, %"][1]) == pytest.approx(100 * flops / peak, rel=1e-3)
    for name in ("tokens per second", "tokens", "peak memory, bytes requested; planned: by the schedule"):
        plan, actual, difference = rows[name]
        expected = 100 * (_number(actual) / _number(plan) - 1)
        assert float(difference.rstrip("%")) == pytest.approx(expected, abs=0.01)


def test_every_key_of_the_json_is_named_on_its_page() -> None:
    """Every key of every golden file. Below `breakdown` keys are names of weights and modules; a twin is one rule."""
    text = re.sub(r"^```.*?^```$", "", (ROOT / "docs" / "json.md").read_text(encoding="utf-8"), flags=re.M | re.S)
    named = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", text))))
    keys = {
        key.removesuffix("_float")
        for path in (ROOT / "tests" / "golden").glob("*.json")
        for line in json.loads(path.read_text())
        for key in re.findall(r"\w+", re.sub(r"^breakdown\..*|: \w+$", "", line))
    }
    assert len(keys) > 150
    assert sorted(keys - named) == []


def test_the_page_of_laws_shows_what_leaving_families_out_prints(capsys: pytest.CaptureFixture[str]) -> None:
    prior.main(["--leave-one-out", "1"])
    assert capsys.readouterr().out in blocks(ROOT / "docs" / "laws.md")


def _number(text: str) -> float:
    return float(text.replace(",", ""))
