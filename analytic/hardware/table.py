"""The shipped tables of GPUs and prices, and any file in their format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from analytic.errors import FileError, UsageError, listed
from analytic.hardware.gpus import Gpu, read_gpu
from analytic.hardware.prices import Price, read_price
from analytic.io.files import configs_dir, read_toml
from analytic.io.keys import Keys
from analytic.io.located import located

Entry = TypeVar("Entry")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """The GPUs of a file by key, and the prices known for them."""

    gpus: Mapping[str, Gpu]
    prices: Mapping[str, Price]

    def find(self, name: str) -> Gpu:
        """The GPU of that key or alias, in any case.

        Raises:
            UsageError: no such GPU; the message lists those there are.
        """
        wanted = name.casefold()
        for gpu in self.gpus.values():
            if wanted == gpu.key or wanted in gpu.aliases:
                return gpu
        raise UsageError(f"no GPU {name!r}: expected one of {listed(self.gpus)}")

    def of_device(self, device_name: str) -> Gpu | None:
        """The GPU that calls itself so (`torch.cuda.get_device_name()`), or None: never a similar one."""
        wanted = device_name.removeprefix("NVIDIA ")
        return next((gpu for gpu in self.gpus.values() if wanted in gpu.device_names), None)


def load_hardware(*paths: Path) -> Hardware:
    """Read GPUs and prices; by default the shipped `gpus.toml` and `prices.toml`.

    Raises:
        FileError: naming the path, the entry, the key and what was expected.
    """
    gpus: dict[str, Gpu] = {}
    prices: dict[str, Price] = {}
    for path in paths or (configs_dir() / "gpus.toml", configs_dir() / "prices.toml"):
        tables = Keys(read_toml(path))
        gpus |= _entries(path, tables, "gpus", read_gpu)
        prices |= _entries(path, tables, "prices", read_price)
    if unknown := sorted(prices.keys() - gpus.keys()):
        raise FileError(f"prices of {listed(unknown)}: expected one of {listed(gpus)}")
    return Hardware(gpus=gpus, prices=prices)


def _entries(path: Path, tables: Keys, kind: str, read: Callable[[str, Keys], Entry]) -> dict[str, Entry]:
    """Every entry of the table `kind`, which a file may lack; errors name path and entry."""
    result = {}
    with located(path):
        tables.allow(("gpus", "prices"))
        section = tables.section(kind) or Keys({})
        for key in section.config:
            with located(f"{kind}.{key}"):
                result[key] = read(key, section.section(key) or Keys({}))
    return result
