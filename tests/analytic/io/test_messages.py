"""Every kind of file that is read: an error names the file, the key, its value and what was expected."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analytic.errors import PlannerError
from analytic.hardware.table import load_hardware
from analytic.huggingface.config import load
from analytic.io.files import configs_dir
from analytic.performance.calibration_file import load_calibration, to_json
from analytic.planning.backward_file import load_setup
from analytic.planning.published_run import load_run
from analytic.scaling.law_file import load_laws
from tests.calibration_cases import calibration, explained, grid

HARDWARE = load_hardware()


def shipped(name: str) -> Callable[[], str]:
    return lambda: (configs_dir() / name).read_text(encoding="utf-8")


def timed() -> str:
    return json.dumps(to_json(calibration([explained(case) for case in grid((1024,))])))


# Reader, a good text, what stands in it, what to put there, and how an error shows key and value.
KINDS: dict[str, tuple[Callable[[Path], Any], Callable[[], str], str, str, str]] = {
    "model": (load, shipped("models/gpt2.json"), '"n_embd": 768', '"n_embd": 0', "n_embd = 0"),
    "backward file": (
        lambda path: load_setup(path, HARDWARE),
        shipped("backward_scaling_config.json"),
        '"num_gpus": 8',
        '"num_gpus": 0.5',
        "line [0-9]+: training_gear.num_gpus = 0.5",
    ),
    "published run": (
        lambda path: load_run(path, HARDWARE),
        shipped("runs/llama-65b.toml"),
        "gpu_hours = 1_022_362",
        "gpu_hours = 5e-324",
        r"hours\[0\]: gpu_hours = 5e-324",
    ),
    "run's price": (
        lambda path: load_run(path, HARDWARE),
        shipped("runs/llama-65b.toml"),
        "fp8 = false",
        "fp8 = false\nusd_per_gpu_hour = 5e-324",
        "usd_per_gpu_hour = 5e-324",
    ),
    "law": (load_laws, shipped("scaling_laws.toml"), "alpha = 0.34", "alpha = 5e-324", "laws.[a-z]+: alpha = 5e-324"),
    "law's range": (
        load_laws,
        shipped("scaling_laws.toml"),
        "params = [70e6, 16e9]",
        f"params = [1, 1{'0' * 400}]",
        r"laws.[a-z]+: fitted: params = \[1, 10+\.\.\.",
    ),
    "GPU": (load_hardware, shipped("gpus.toml"), "tdp_watts = 700", "tdp_watts = 0", "gpus.[a-z0-9-]+: tdp_watts = 0"),
    "calibration": (
        load_calibration,
        timed,
        '"micro_batch": 1',
        '"micro_batch": -1',
        r"readings\[[0-9]\]: micro_batch = -1",
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_value_is_named_with_its_file_and_key(kind: str, tmp_path: Path) -> None:
    read, text, old, new, said = KINDS[kind]
    shutil.copytree(configs_dir() / "models", tmp_path / "models")
    folder = tmp_path / "runs"
    folder.mkdir()
    path = folder / "bad"
    assert old in text(), "a case that changes nothing"
    path.write_text(text())
    read(path)
    path.write_text(text().replace(old, new, 1))
    with pytest.raises(PlannerError, match=rf"^{re.escape(str(path))}: {said}: expected "):
        read(path)
