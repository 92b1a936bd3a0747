"""Plan LLM pretraining with formulas that are proven against the real model. Imports neither torch nor transformers.

>>> import analytic as ft
>>> model = ft.load("llama-3-8b")
>>> model.params.total
8030261248
>>> ft.fits(model, "8xh100")["fits"]
True
>>> round(ft.time(model, tokens="15T", gpus="512xh100=2.5", mfu=0.4)["usd"])
1355283
>>> ft.plan(gpus="64xh100", hours="3w").value.schedule.num_gpus
64

`load`, `count`, `fits`, `time`, `compare` and `plan` are the verbs of the command `foretrain`, with the same words
and defaults; each result has a typed `value`, the `data` of `--json`, and `str()`, the command's answer.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analytic.api import Model, Result, compare, count, fits, load, plan, plan_setup, time
    from analytic.version import __version__

__all__ = ["Model", "Result", "__version__", "compare", "count", "fits", "load", "plan", "plan_setup", "time"]


def __getattr__(name: str) -> Any:
    """Each public name on first use (PEP 562), so that importing a part of the package imports that part alone."""
    if name not in __all__:
        raise AttributeError(f"module 'analytic' has no attribute {name!r}")
    return getattr(import_module("analytic.version" if name == "__version__" else "analytic.api"), name)
