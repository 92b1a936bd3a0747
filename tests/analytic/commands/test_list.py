"""`list`: every model, family, GPU, law and run that is known, each once."""

from __future__ import annotations

import pytest

from analytic.hardware.table import load_hardware
from analytic.huggingface.families import FAMILIES, SAME_WEIGHTS_AS
from analytic.huggingface.shipped import find_model, shipped_models
from analytic.io.files import configs_dir
from analytic.scaling.law_file import load_all_laws
from tests.commands import facts, printed, refusal


def rows(text: str) -> list[list[str]]:
    """The lines of the one table, below its heading, split into words."""
    return [line.split() for line in text.split("\n\n")[1].splitlines()[1:]]


def test_families_are_listed_with_their_shipped_shapes(capsys: pytest.CaptureFixture[str]) -> None:
    lines = rows(printed(capsys, "list", "families"))
    assert [words[0] for words in lines] == sorted((*FAMILIES, *SAME_WEIGHTS_AS))
    (llama,) = (words for words in lines if words[0] == "llama")
    assert llama == ["llama", "LlamaForCausalLM", "gqa+dense", "yes", "llama-3.2-1b", *["1,235,814,400"] * 2]
    assert len(facts(capsys, "list", "families")["families"]) == len(lines)


def test_models_are_listed_by_names_that_are_found(capsys: pytest.CaptureFixture[str]) -> None:
    names = [words[0] for words in rows(printed(capsys, "list", "models"))]
    assert [find_model(name) for name in names] == [find_model(name) for name in shipped_models()]
    models = {model["name"]: model for model in facts(capsys, "list", "models")["models"]}
    assert list(models) == names
    assert models["llama-3-8b"]["params"] == 8_030_261_248
    assert (models["mixtral-8x7b"]["params"], models["mixtral-8x7b"]["active"]) == (
        46_702_792_704,
        12_879_925_248,
    )


def test_gpus_laws_and_runs_are_all_listed(capsys: pytest.CaptureFixture[str]) -> None:
    hardware = load_hardware()
    gpus = facts(capsys, "list", "gpus")["gpus"]
    assert [gpu["name"] for gpu in gpus] == list(hardware.gpus)
    assert [words[0] for words in rows(printed(capsys, "list", "gpus"))] == list(hardware.gpus)
    assert [law["name"] for law in facts(capsys, "list", "laws")["laws"]] == list(load_all_laws())
    runs = {run["name"] for run in facts(capsys, "list", "runs")["runs"]}
    assert runs == {path.stem for path in (configs_dir() / "runs").glob("*.toml")}


def test_what_is_not_listed_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "choose from" in refusal(capsys, "list", "model")
    assert "required" in refusal(capsys, "list")
