"""Hypothesis in CI draws the same examples every time: a red run can be repeated."""

import os

import pytest
from hypothesis import settings

settings.register_profile("foretrain", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("foretrain")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite-golden", action="store_true", help="write tests/golden anew from what the verbs print")
