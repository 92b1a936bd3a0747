"""The architecture of a backward file: a published configuration by name or path, or its keys, read or not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from analytic.errors import PlannerError
from analytic.hardware.table import load_hardware
from analytic.huggingface.config import load
from analytic.huggingface.shipped import find_model
from analytic.planning.backward_file import Setup, load_setup

MACHINE: dict[str, Any] = {
    "training_gear": {"gpu_type": "h100", "num_gpus": 8, "available_hours": 24, "dtype": "bf16"},
    "training_efficiency": {"expected_mfu": 0.4, "batch_size": 1, "gradient_accumulation_steps": 1},
    "dataset_constraints": {"dataset_size": 10**12, "max_epochs": 1, "sequence_length": 4096},
    "scaling_law": {"base": "besiroglu"},
    "output_options": {},
}
QWEN, LLAMA = find_model("qwen3-8b"), find_model("llama-3-8b")


def setup_of(folder: Path, **architecture: object) -> Setup:
    path = folder / "setup.json"
    path.write_text(json.dumps(architecture | MACHINE))
    return load_setup(path, load_hardware())


def test_a_configuration_by_its_shipped_name_or_its_path(tmp_path: Path) -> None:
    (tmp_path / "own.json").write_bytes(QWEN.read_bytes())
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "config.json").write_bytes(QWEN.read_bytes())
    for config in ("Qwen/Qwen3-8B", "own.json", "folder", str(QWEN)):
        assert setup_of(tmp_path, config=config).spec == load(QWEN).spec


def test_the_keys_of_a_published_configuration_are_taken_and_the_unread_are_noted(tmp_path: Path) -> None:
    raw = json.loads(LLAMA.read_text()) | {"my_own_key": 3}
    setup = setup_of(tmp_path, architecture=raw)
    assert setup.spec == load(LLAMA).spec
    (note,) = setup.notes
    assert note.startswith("keys that nothing is counted from: ")
    assert "my_own_key" in note


@pytest.mark.parametrize(
    ("architecture", "said"),
    [
        ({"config": "qwen3-9b"}, "config = 'qwen3-9b': no model 'qwen3-9b': did you mean qwen3-8b"),
        ({"config": "none.json"}, "none.json: No such file"),
        ({"config": 3}, "config = 3: expected a string"),
        ({}, "missing architecture, or config: expected exactly one of the two"),
        ({"config": "gpt2", "architecture": {}}, "missing architecture, or config: expected exactly one of the two"),
    ],
)
def test_what_is_no_architecture(architecture: dict[str, object], said: str, tmp_path: Path) -> None:
    with pytest.raises(PlannerError) as refused:
        setup_of(tmp_path, **architecture)
    assert said in str(refused.value)
    assert str(refused.value).startswith(f"{tmp_path / 'setup.json'}: line 1: ")
