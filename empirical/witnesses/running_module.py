"""Which module of a model is running, in forward, in backward, and where a checkpointed layer runs again.

In forward it is the module last called. Each node of autograd's graph is marked with the module that made it, so that
its backward belongs to the same module.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_iter

from empirical.models.meta_world import watching_groups

_MARK = "foretrain_module"


class RunningModule:
    """Read `path` inside the context: a module's path, or the modules of an FSDP2 group while it gathers or reduces."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._running: list[str] = []
        self._inputs: list[set[Any]] = []

    def __enter__(self) -> RunningModule:
        self._watching = ExitStack()
        self._watching.enter_context(watching_groups(self._running.append, self._running.pop))
        for path, module in self._model.named_modules():
            before = module.register_forward_pre_hook(functools.partial(self._before, path), with_kwargs=True)
            # a checkpointed layer that runs again is left by an exception as soon as all that is needed is there
            after = module.register_forward_hook(self._after, always_call=True)
            self._watching.callback(before.remove)
            self._watching.callback(after.remove)
        return self

    def __exit__(self, *_: Any) -> None:
        self._watching.close()

    @property
    def path(self) -> str:
        """The path, empty for the model itself."""
        if self._running:
            return self._running[-1]
        node: Any = torch._C._current_autograd_node()
        return str(node.metadata.get(_MARK, "")) if node is not None else ""

    def _before(self, path: str, _: nn.Module, args: Any, kwargs: Any) -> None:
        self._running.append(path)
        self._inputs.append(set(_nodes((args, kwargs))))

    def _after(self, _: nn.Module, __: Any, output: Any) -> None:
        path, known = self._running.pop(), self._inputs.pop()
        nodes = list(_nodes(output))
        while nodes:
            node = nodes.pop()
            if node in known or _MARK in node.metadata:
                continue
            node.metadata[_MARK] = path
            nodes += [below for below, _ in node.next_functions if below is not None]


def _nodes(values: Any) -> Iterator[Any]:
    for tensor in tree_iter(values):
        if isinstance(tensor, Tensor) and tensor.grad_fn is not None:
            yield tensor.grad_fn
