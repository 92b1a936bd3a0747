"""Parameters and buffers of a built module -> counts by the formula's own terms."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from analytic.model.spec import ModelSpec
from empirical.models.names import Counted, Term, by_run


def count_params(model: nn.Module, spec: ModelSpec, term_of: Callable[[str], Term]) -> Counted:
    """Every parameter by name, a tied one once."""
    return by_run("params", spec, ((term_of(path), p.numel()) for path, p in model.named_parameters()))


def count_buffers(model: nn.Module, spec: ModelSpec, term_of: Callable[[str], Term]) -> Counted:
    """Every buffer that a checkpoint would hold, by name."""
    saved = model.state_dict().keys()
    buffers = ((path, buffer) for path, buffer in model.named_buffers() if path in saved)
    return by_run("params", spec, ((term_of(path), buffer.numel()) for path, buffer in buffers))
