"""Live bytes of one rank: the storage tracker, for FSDP2's resized storages and for DTensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch._guards import active_fake_mode
from torch.distributed.tensor import DTensor

from empirical.models.meta_world import watching_resizes
from empirical.witnesses.tracker import LiveTensor, StorageTracker


class RankTracker(StorageTracker):
    """Follows resized storages, looks at a DTensor's local tensor, and waits for collectives without a copy."""

    def __enter__(self) -> RankTracker:
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
        if any(issubclass(kind, DTensor) for kind in types):
            return NotImplemented  # DTensor turns it into operators on local tensors first
        if active_fake_mode() is not None:
            return func(*args, **(kwargs or {}))  # DTensor propagates a sharding, at global sizes
        if func is torch.ops._c10d_functional.wait_tensor.default and self.device_type == "meta":
            return args[0]  # on meta it would make a copy; on a device it returns its argument
        return super().__torch_dispatch__(func, types, args, kwargs)

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
