"""Hypothesis in CI draws the same examples every time: a red run can be repeated."""

import os

from hypothesis import settings

settings.register_profile("trainmeter", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("trainmeter")
