"""`foretrain` itself: its verbs, its version, its answers of at most eight lines, and what it imports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from analytic.commands.run import run
from analytic.version import __version__
from empirical.commands.main import VERBS, main
from tests.commands import printed
from tests.test_golden import COMMANDS

ROOT = Path(__file__).parents[3]
MOST_LINES = 8
HEAVY = ("torch", "transformers", "numpy", "scipy", "matplotlib", "rich", "fvcore")


def test_without_a_verb_every_verb_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in ([], ["--help"], ["-h"], ["help"]):
        assert main(argv) == 0
        out = capsys.readouterr().out
        assert [line.split()[0] for line in out.splitlines() if line.startswith("  ")] == list(VERBS)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "--version") == f"foretrain {__version__}\n"


@pytest.mark.parametrize(
    ("verb", "hint"), [("cuont", "did you mean count?"), ("checkrun", "did you mean check-run?"), ("zzz", "'zzz': exp")]
)
def test_an_unknown_verb_gets_the_nearest(verb: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"foretrain: no verb '{verb}'")
    assert hint in captured.err
    assert captured.err.endswith(f"expected one of {', '.join(VERBS)}\n")


@pytest.mark.parametrize(
    "command",
    [
        *(command for name, command in COMMANDS.items() if not name.startswith("list")),
        "count gpt2",
        "count kimi-k2",
        "fits gpt2 --gpus 1xh100",
        "fits llama-2-70b --gpus 8xa100-80",
        "fits llama-3-8b --gpus 1xt4",
        "time deepseek-v3 --tokens 14.8T --gpus 2048xh800 --mfu 39%",
        "plan --budget 1M --kind moe",
    ],
)
def test_the_answer_is_at_most_eight_lines(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    lines = printed(capsys, *command.split()).splitlines()
    assert 0 < len([line for line in lines if not line.startswith("warning: ")]) <= MOST_LINES


@pytest.mark.parametrize("command", [*COMMANDS.values()], ids=list(COMMANDS))
def test_a_verb_imports_nothing_heavy(command: str) -> None:
    """In a fresh interpreter. A law is fitted with numpy."""
    allowed = ("numpy",) if command.startswith("law fit") else ()
    heavy = [name for name in HEAVY if name not in allowed]
    program = (
        "import sys; from empirical.commands.main import main; "
        f"status = main({command.split()!r}); "
        f"loaded = [name for name in {heavy!r} if name in sys.modules]; "
        "sys.exit(f'imported: {loaded}' if loaded else status)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")


def test_it_runs_from_elsewhere_with_the_models_that_are_shipped(tmp_path: Path) -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from empirical.commands.main import main; sys.exit(main())"
    )
    for argv in (["count", "llama-7b"], ["law", "show", "hoffmann"], ["check-run", "llama-65b"]):
        done = subprocess.run(
            [sys.executable, "-c", program, *argv, "--json"], capture_output=True, text=True, check=False, cwd=tmp_path
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout)["schema"] == f"foretrain/{argv[0]}/1"


@pytest.mark.parametrize("program", ["verify.py", "model_training_cost_analysis.py"])
def test_scripts_exit_with_the_status_of_their_command(program: str, tmp_path: Path) -> None:
    argv = ["missing.json"] if program == "verify.py" else ["--model_config", "missing.json"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / program), *argv],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


def test_an_interrupt_is_one_line_and_status_130(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> int:
        raise KeyboardInterrupt

    assert run("foretrain count", interrupted) == 130
    assert capsys.readouterr().err == "foretrain count: interrupted\n"
