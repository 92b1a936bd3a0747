"""Live bytes of one rank: the storage tracker, for FSDP2's resized storages, DTensors and pending collectives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch._guards import active_fake_mode
from torch.distributed._functional_collectives import AsyncCollectiveTensor
from torch.distributed.tensor import DTensor

from empirical.models.meta_world import watching_resizes
from empirical.witnesses.tracker import LiveTensor, StorageTracker

_functional = torch.ops._c10d_functional


def wraps_local(types: Sequence[type]) -> bool:
    """Whether an operator got a DTensor or the pending result of a collective, which turn it into local operators."""
    return any(issubclass(kind, (DTensor, AsyncCollectiveTensor)) for kind in types)


class RankTracker(StorageTracker):
    """Follows resized storages, looks inside of tensors that wrap others, and treats collectives as a device does.

    On meta torch has other kernels for what surrounds a collective: waiting would copy, and a pending result would
    have bytes of its own.
    """

    def __enter__(self) -> RankTracker:
        self._unwrapped: Any = None
        self._watching = ExitStack()
        self._watching.enter_context(watching_resizes(self._resized))
        super().__enter__()
        return self

    def __exit__(self, *exc: Any) -> None:
        self._watching.close()
        super().__exit__(*exc)

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if wraps_local(types):
            self._unwrapped = func
            return NotImplemented
        if active_fake_mode() is not None:
            return func(*args, **(kwargs or {}))  # DTensor propagates a sharding, at global sizes
        if self.device_type == "meta" and func is _functional.wait_tensor.default:
            return args[0]
        if self.device_type == "meta" and func is _functional._wrap_tensor_autograd.default:
            return AsyncCollectiveTensor(args[0])
        if func is self._unwrapped:
            self._unwrapped = None
            return self._out_of_place(func, types, args, kwargs)
        return super().__torch_dispatch__(func, types, args, kwargs)

    def _out_of_place(self, func: Any, types: Sequence[type], args: tuple[Any, ...], kwargs: Any) -> Any:
        """An operator of a tensor that wraps others, in which autograd never writes (`isTensorSubclassLike`)."""
        is_in_place, self.is_in_place = self.is_in_place, False
        try:
            return super().__torch_dispatch__(func, types, args, kwargs)
        finally:
            self.is_in_place = is_in_place

    def _add(self, tensor: torch.Tensor, source: str) -> None:
        if not isinstance(tensor, AsyncCollectiveTensor):  # what it wraps is known
            super()._add(tensor, source)

    def _resized(self, storage: torch.UntypedStorage) -> None:
        key = id(storage)
        if (old := self._live.get(key)) is None:
            return
        size_bytes = -(-storage.nbytes() // self.rounding) * self.rounding
        resized = LiveTensor(old.source, old.shape, old.dtype, size_bytes)
        self._live[key] = resized
        self.events.append((resized, size_bytes - old.size_bytes))
        self.current_bytes += size_bytes - old.size_bytes
        self._note(f"resize of {old}")
