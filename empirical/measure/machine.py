"""The machine: its name and memory, and the state of its card as the driver reports it."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from analytic.errors import UsageError
from analytic.performance.calibration import Machine
from empirical.measure.versions import versions

SMI_FIELDS = {
    "sm_clock": "clocks.sm",
    "sm_clock_max": "clocks.max.sm",
    "power_draw": "power.draw",
    "power_limit": "power.limit",
    "temperature": "temperature.gpu",
    "throttle_reasons": "clocks_throttle_reasons.active",
}
SLOWED_DOWN = 0x8 | 0x20 | 0x40 | 0x80  # nvml.h: hardware slowdown, software and hardware thermal, power brake
CONTEXT_BYTES = 2 * 10**9  # assumed: more than what one CUDA context and its libraries take


def device_named(name: str | None) -> torch.device:
    """`cuda` or `cpu`; by default CUDA where there is one.

    Raises:
        UsageError: another name, or a device that is not there.
    """
    if name not in (None, "cpu", "cuda"):
        raise UsageError(f"device {name}: expected cuda or cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("device cuda: no CUDA device here")
    return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))


def this_machine(device: torch.device) -> Machine:
    """The device, the versions and the revision of this source."""
    if device.type == "cuda":
        name, memory = torch.cuda.get_device_name(device), torch.cuda.get_device_properties(device).total_memory
    else:
        name, memory = device.type, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Machine(device=name, memory_bytes=memory, versions=versions(), revision=_revision())


def _revision() -> str:
    """The commit of a checkout, marked `-dirty` where files differ from it; an installed package has none."""
    command = ("git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "no checkout"
    return done.stdout.strip()


def conditions(device: torch.device) -> dict[str, str]:
    """Clocks, power, temperature, and bytes held outside of our allocator; empty without a CUDA card."""
    if device.type != "cuda":
        return {}
    free, total = torch.cuda.mem_get_info(device)
    outside = total - free - torch.cuda.memory_reserved(device)
    return _smi(f"GPU-{torch.cuda.get_device_properties(device).uuid}") | {"bytes_outside_allocator": str(outside)}


def _smi(card: str) -> dict[str, str]:
    if (program := shutil.which("nvidia-smi")) is None:
        return {}
    query = f"--query-gpu={','.join(SMI_FIELDS.values())}"
    command = (program, f"--id={card}", query, "--format=csv,noheader")
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return {}
    values = [value.strip() for value in done.stdout.strip().split(",")]
    return dict(zip(SMI_FIELDS, values, strict=True)) if len(values) == len(SMI_FIELDS) else {}


def energy_joules(device: torch.device) -> float | None:
    """Energy that the card has used since its driver was loaded, by NVML; None where it cannot be read."""
    if device.type != "cuda":
        return None
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None
    return _nvml_joules(nvml, f"GPU-{torch.cuda.get_device_properties(device).uuid}")


def _nvml_joules(nvml: Any, card: str) -> float | None:
    """From `nvmlDeviceGetTotalEnergyConsumption`, in millijoules; each call returns 0 where it succeeds (nvml.h)."""
    handle, millijoules = ctypes.c_void_p(), ctypes.c_ulonglong()
    done = (
        nvml.nvmlInit_v2() == 0
        and nvml.nvmlDeviceGetHandleByUUID(card.encode(), ctypes.byref(handle)) == 0
        and nvml.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(millijoules)) == 0
    )
    return millijoules.value / 1e3 if done else None


def warnings_of(found: Mapping[str, str]) -> list[str]:
    """What makes a reading suspect: a card that slowed itself down, or that others use."""
    result = []
    reasons = found.get("throttle_reasons", "")
    if reasons.startswith("0x") and int(reasons, 16) & SLOWED_DOWN:
        result.append(f"the card was slowed down (reasons {reasons}, {found['temperature']} C, {found['power_draw']})")
    if (outside := int(found.get("bytes_outside_allocator", 0))) > CONTEXT_BYTES:
        result.append(f"{outside} bytes of the card are held outside this process's allocator: others use it")
    return result
