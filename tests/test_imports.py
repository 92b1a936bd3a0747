"""The direction of imports: each package imports those before it, and nothing imports upward or in a circle."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Each line may import from the lines above it and from its own package; packages on one line not from each other.
ORDER = (
    ("analytic.errors", "analytic.limits", "analytic.version"),
    ("analytic.units",),
    ("analytic.io", "analytic.model"),
    ("analytic.parallelism", "analytic.huggingface", "analytic.hardware", "analytic.scaling"),
    ("analytic.memory",),
    ("analytic.performance",),
    ("analytic.planning",),
    ("analytic.report",),
    ("analytic.api",),
    ("analytic.commands", "analytic.exercise"),
    ("empirical.models",),
    ("empirical.witnesses",),
    ("empirical.measure",),
    ("empirical.proof",),
    ("empirical.commands",),
    ("scripts",),
)
RANKS = {package: rank for rank, packages in enumerate(ORDER) for package in packages}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def package_of(module: str) -> str:
    return next((package for package in RANKS if f"{module}.".startswith(f"{package}.")), module)


def imports_of(path: Path) -> Iterator[str]:
    """Modules of this project that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("analytic", "empirical"):
            assert node.module is not None
            for name in node.names:
                is_module = (ROOT / node.module.replace(".", "/") / f"{name.name}.py").exists()
                yield f"{node.module}.{name.name}" if is_module else node.module
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.split(".")[0] in ("analytic", "empirical"))


def sources() -> list[Path]:
    return sorted(path for root in ("analytic", "empirical", "scripts") for path in (ROOT / root).rglob("*.py"))


def test_no_import_runs_upward() -> None:
    upward = []
    for path in sources():
        own = package_of(module_name(path))
        if own == "analytic":  # the public interface stands on everything below it
            continue
        for imported in imports_of(path):
            other = package_of(imported)
            if other != own and not (other in RANKS and own in RANKS and RANKS[other] < RANKS[own]):
                upward.append(f"{module_name(path)} imports {imported}")
    assert not upward


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {module_name(path): set(imports_of(path)) for path in sources()}
    list(TopologicalSorter(graph).static_order())  # raises CycleError, naming the circle


@pytest.mark.parametrize("package", ["analytic"])
def test_the_formulas_import_neither_torch_nor_numpy(package: str) -> None:
    """Every module of the package in a fresh interpreter; numpy and scipy are for fits, inside their functions."""
    modules = [module_name(path) for path in (ROOT / package).rglob("*.py") if "plot" not in path.stem]
    program = "import importlib, sys\n" + "".join(f"importlib.import_module({name!r})\n" for name in modules)
    program += "print([name for name in ('torch', 'transformers', 'numpy', 'scipy') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
