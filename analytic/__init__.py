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

`load`, `count`, `fits`, `time`, `compare`, `plan` and `fit_law` are the verbs of the command `foretrain`, with the
same words and defaults; each result has a typed `value`, the `data` of `--json`, and `str()`, the command's answer.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analytic.api.fitting import fits
    from analytic.api.laws import fit_law
    from analytic.api.models import Model, count, load
    from analytic.api.plans import plan, plan_setup
    from analytic.api.result import Result
    from analytic.api.runs import compare, time
    from analytic.version import __version__

__all__ = [
    "Model",
    "Result",
    "__version__",
    "compare",
    "count",
    "fit_law",
    "fits",
    "load",
    "plan",
    "plan_setup",
    "time",
]

_MODULES = {
    "analytic.api.fitting": ("fits",),
    "analytic.api.laws": ("fit_law",),
    "analytic.api.models": ("Model", "count", "load"),
    "analytic.api.plans": ("plan", "plan_setup"),
    "analytic.api.result": ("Result",),
    "analytic.api.runs": ("compare", "time"),
    "analytic.version": ("__version__",),
}


def __getattr__(name: str) -> Any:
    """Each public name on first use (PEP 562), so that importing a part of the package imports that part alone."""
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'analytic' has no attribute {name!r}")
