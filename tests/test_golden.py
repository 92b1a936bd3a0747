"""The JSON of every verb: its key paths and their types, as files that a reader of JSON may rely on.

Values are proven elsewhere. `pytest tests/test_golden.py --rewrite-golden` writes the files anew.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.commands import facts

GOLDEN = Path(__file__).parent / "golden"
COMMANDS = {
    "count": "count deepseek-v3 --recompute full",
    "fits": "fits llama-3.2-1b --gpus 1xh100",
    "fits-many": "fits llama-3-8b --gpus 8xa100-80",
    "time": "time llama-3-8b --tokens 15T --gpus 512xh100=2.5",
    "compare": "compare llama-3-8b --tokens 1T --gpu h100=2.5 --gpu b200=4.5 --days 30",
    "plan": "plan --budget 200k --gpu h100=2.5 --gpu a100-80 --num-gpus 64 --dataset-tokens 500B",
    "plan-serving": "plan --budget 1M --gpu h100=2.5 --inference-tokens 1T --params 8B",
    "plan-allocation": "plan --budget 1M --gpu h100=2.5 --law deepseek",
    "plan-setup": "plan --setup configs/backward_scaling_config.json",
    "check-run": "check-run deepseek-v3",
    "law": "law show besiroglu",
    "law-moe": "law show ludziejewski",
    "law-allocation": "law show deepseek",
    "law-fit": "law fit configs/laws/runs/olmo-c4.csv --predict N=8B,D=160B",
    "law-fit-repeats": (
        "law fit configs/laws/runs/muennighoff.csv --form repeats --unique-column unique_tokens --predict N=8B,D=160B"
    ),
    **{f"list-{what}": f"list {what}" for what in ("models", "families", "gpus", "laws", "runs")},
}
# Below these, keys are names of weights, tensors and terms: of one model, and of any number.
OPEN = ("terms", "buffer_terms", "live", "categories", "derived", "fitted", "architecture", "allowance")


def paths(value: object, path: str = "") -> set[str]:
    """Every key path with the type at its end; the items of a list share one path.

    >>> sorted(paths({"a": [{"b": 1}, {"b": None}], "c": {"terms": {"x": 1.5}}}))
    ['a[].b: int', 'a[].b: null', 'c.terms{}: float']
    """
    if isinstance(value, dict):
        name = path.rpartition(".")[2]
        join = (lambda _: f"{path}{{}}") if name in OPEN else (lambda key: f"{path}.{key}".removeprefix("."))
        return {found for key, inner in value.items() for found in paths(inner, join(key))} or {f"{path}: object"}
    if isinstance(value, list):
        return {found for inner in value for found in paths(inner, f"{path}[]")} or {f"{path}[]"}
    return {f"{path}: {'null' if value is None else type(value).__name__}"}


@pytest.mark.parametrize("name", COMMANDS)
def test_key_paths_and_types(
    name: str, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(GOLDEN.parents[1])
    found = facts(capsys, *COMMANDS[name].split())
    assert found["schema"] == f"foretrain/{COMMANDS[name].split()[0]}/1"
    path, lines = GOLDEN / f"{name}.json", sorted(paths(found))
    if request.config.getoption("--rewrite-golden"):
        path.write_text(json.dumps(lines, indent=1) + "\n")
    assert lines == json.loads(path.read_text())


def test_every_golden_file_is_of_a_command() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == COMMANDS.keys()
