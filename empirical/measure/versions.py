"""The versions that every result names: counts are exact for one version of `transformers`."""

from __future__ import annotations

import platform
from importlib.metadata import version

import torch


def versions() -> dict[str, str]:
    """Versions of what was run, and of CUDA and its driver where there is one."""
    found = {name: version(name) for name in ("torch", "transformers", "fvcore")} | {
        "python": platform.python_version()
    }
    if torch.version.cuda and torch.cuda.is_available():
        found["cuda"] = torch.version.cuda
        found["driver"] = _driver()
    return found


def _driver() -> str:
    """CUDA's own number for what the driver supports, such as 13.0."""
    number: int = torch._C._cuda_getDriverVersion()  # type: ignore[attr-defined]  # torch has it, its stubs lack it
    return f"{number // 1000}.{number % 1000 // 10}"
