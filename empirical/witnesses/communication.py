"""Collectives that a rank takes part in: axis, kind, module and bytes, by the shapes of their tensors.

Storages say too much: a view's is larger than what is sent. An operator of torch's communication libraries that is
not in the table is an error that names it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from analytic.parallelism.communication import Collective, Kind
from empirical.witnesses.rank_tracker import wraps_local
from empirical.witnesses.running_module import RunningModule

_c10d, _functional = torch.ops.c10d, torch.ops._c10d_functional
_Side = Callable[[tuple[Any, ...], Any], Any]


def _first(args: tuple[Any, ...], _: Any) -> Any:
    return args[0]


def _second(args: tuple[Any, ...], _: Any) -> Any:
    return args[1]


def _output(_: tuple[Any, ...], out: Any) -> Any:
    return out


# operator: its kind, the tensors whose bytes count (the larger side), and the position of its group
_COLLECTIVES: dict[Any, tuple[Kind, _Side, int]] = {
    _c10d._allgather_base_.default: ("all_gather", _first, 2),
    _c10d._reduce_scatter_base_.default: ("reduce_scatter", _second, 2),
    _c10d.allreduce_.default: ("all_reduce", _first, 1),
    _c10d.alltoall_base_.default: ("all_to_all", _second, 2),
    _c10d.broadcast_.default: ("broadcast", _first, 1),
    _c10d.send.default: ("send", _first, 1),
    _c10d.recv_.default: ("recv", _first, 1),
    _functional.all_gather_into_tensor.default: ("all_gather", _output, 2),
    _functional.reduce_scatter_tensor.default: ("reduce_scatter", _first, 3),
    _functional.all_reduce.default: ("all_reduce", _first, 2),
    _functional.all_reduce_.default: ("all_reduce", _first, 2),
    _functional.all_to_all_single.default: ("all_to_all", _first, 3),
    torch.ops._dtensor.shard_dim_alltoall.default: ("all_to_all", _first, 3),
}
_NAMESPACES = ("c10d", "_c10d_functional", "_c10d_functional_autograd", "_dtensor", "symm_mem")
_NO_COLLECTIVES = frozenset(("wait_tensor", "_wrap_tensor_autograd"))


class UnknownCollectiveError(RuntimeError):
    """An operator that communicates and that nobody counts, or a group that is no axis of the layout."""


class CollectiveCounter(TorchDispatchMode):
    """Counts what is dispatched inside.

    Raises:
        UnknownCollectiveError: at once, naming the operator.
    """

    def __init__(self, axes: Mapping[str, str], running: RunningModule) -> None:
        """`axes` gives the axis of each process group, by its name; `running` the module that communicates."""
        super().__init__()
        self._axes, self._running = axes, running
        self._counted: dict[tuple[Any, Kind, str, int], tuple[int, int]] = {}

    @property
    def collectives(self) -> tuple[Collective, ...]:
        """Equal ones as one, in the order in which the first of them ran."""
        return tuple(self._each())

    def _each(self) -> Iterator[Collective]:
        for (axis, kind, module, group_size), (count, size_bytes) in self._counted.items():
            yield Collective(
                axis=axis, kind=kind, module=module, group_size=group_size, count=count, size_bytes=size_bytes
            )

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if wraps_local(types):
            return NotImplemented
        out = func(*args, **(kwargs or {}))
        if func in _COLLECTIVES:
            self._count(func, args, out)
        elif func.namespace in _NAMESPACES and func._opname not in _NO_COLLECTIVES:
            raise UnknownCollectiveError(f"{func}: a collective that is not counted")
        return out

    def _count(self, func: Any, args: tuple[Any, ...], out: Any) -> None:
        kind, side, position = _COLLECTIVES[func]
        group = _group(args[position])
        if group.group_name not in self._axes:
            raise UnknownCollectiveError(f"{func}: group {group.group_name} of {group.size()} is no axis of the layout")
        key = (self._axes[group.group_name], kind, self._running.path, group.size())
        tensors = [t for t in tree_iter(side(args, out)) if isinstance(t, torch.Tensor)]
        count, size_bytes = self._counted.get(key, (0, 0))
        self._counted[key] = (count + 1, size_bytes + sum(t.numel() * t.element_size() for t in tensors))


def _group(group: Any) -> Any:
    """A process group, from its name, its TorchScript object or itself."""
    if isinstance(group, str):
        name: Any = group
        return torch._C._distributed_c10d._resolve_process_group(name)
    return dist.ProcessGroup.unbox(group) if isinstance(group, torch.ScriptObject) else group
