"""The house itself: sizes of modules and functions, the paths in the guide for contributors, links between pages."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MOST_LINES, MOST_FUNCTION_LINES, MOST_README_LINES = 350, 60, 150
PAGES = sorted((ROOT / "docs").rglob("*.md"))
GUIDE = ROOT / ".github" / "CONTRIBUTING.md"


def sources() -> list[Path]:
    return sorted(
        path for root in ("analytic", "empirical", "scripts", "tests") for path in (ROOT / root).rglob("*.py")
    )


def test_no_module_is_too_long() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in sources()}
    assert {path: length for path, length in lengths.items() if length > MOST_LINES} == {}


def functions(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield node.name, node.end_lineno - node.lineno + 1


def test_no_function_is_too_long() -> None:
    found = {f"{path.relative_to(ROOT)}:{name}": n for path in sources() for name, n in functions(path)}
    assert {name: length for name, length in found.items() if length > MOST_FUNCTION_LINES} == {}


def test_the_guide_maps_changes_to_paths_that_exist() -> None:
    section = GUIDE.read_text(encoding="utf-8").split("## Where each change goes")[1].split("###")[0]
    rows = re.findall(r"^\| (.+?) \| `(.+?)`.* \|$", section, re.MULTILINE)
    assert len(rows) >= 20
    assert [path for _, path in rows if not (ROOT / path).exists()] == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= MOST_README_LINES


@pytest.mark.parametrize("page", [ROOT / "README.md", GUIDE, *PAGES], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    local = [link for link in links if not link.startswith("http")]
    assert [link for link in local if not (page.parent / link).exists()] == []


def test_every_page_is_linked() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    top = [page for page in PAGES if page.parent.name == "docs" and page.name != "README.md"]
    assert [page.name for page in top if f"({page.name})" not in index] == []
    assert "(benchmarks/)" in index
