"""Peak live bytes of a torch program, followed storage by storage, without a GPU and without data.

The tracker is a `TorchDispatchMode`: it sees every operator, notes each new storage that comes out of it
and learns from a weak reference when the storage dies. On the meta device no byte is really allocated, so
that a training step of a full-size model is followed in seconds. It shares no code with the schedules of
`analytic.memory`, whose witness it is.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch._prims_common import is_non_overlapping_and_dense_or_false
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

aten = torch.ops.aten

_IN_PLACE_IN_BACKWARD = {
    aten.index_put.default: aten.index_put_.default,
    aten.scatter_add.default: aten.scatter_add_.default,
    aten.scatter.src: aten.scatter_.src,
}


@dataclass(frozen=True, slots=True)
class LiveTensor:
    """One storage: where it came from (an operator, or what the caller named it), and the first tensor on it."""

    source: str
    shape: tuple[int, ...]
    dtype: str
    size_bytes: int

    def __str__(self) -> str:
        return f"{self.source} {list(self.shape)} {self.dtype}"


TrackedEvent = tuple[LiveTensor, int]  # the storage, and its bytes: positive where allocated, negative where freed


@dataclass(frozen=True, slots=True)
class TrackedPeak:
    """The most that was live at once, after which operator, and what it was made of."""

    peak_bytes: int
    moment: str
    live: tuple[LiveTensor, ...]


class StorageTracker(TorchDispatchMode):
    """Follows live storages; `peak` and `current_bytes` may be read at any time.

    A dispatch mode keeps autograd from writing in place where it does in real training, and the tracker does
    it in its stead. The engine sums gradients in place if the first is an ordinary dense tensor of which its
    buffer holds the only reference (torch `csrc/autograd/input_buffer.cpp`, `can_accumulate_inplace`). The
    backward of indexing, `gather` and `topk` adds into zeros that it has just made
    (`csrc/autograd/FunctionsManual.cpp`, `areAnyTensorSubclassLike`).
    """

    def __init__(self, device: torch.device, *, rounding: int = 1, is_in_place: bool = True) -> None:
        """Storages on other devices than `device` do not count; each that does, as a multiple of `rounding` bytes.

        `is_in_place` False: leave what autograd does under a dispatch mode as it is.
        """
        super().__init__()
        self.device_type = device.type
        self.rounding = rounding
        self.is_in_place = is_in_place
        self.events: list[TrackedEvent] = []
        self.current_bytes = 0
        self._live: dict[int, LiveTensor] = {}
        self._references: dict[int, weakref.ref[torch.UntypedStorage]] = {}
        self._sole = _sole_reference_counts()
        self.reset_peak()

    def reset_peak(self) -> None:
        """Start a new phase: the peak is what is live now."""
        self._peak_bytes, self._moment, self._peak_live = self.current_bytes, "start", dict(self._live)

    @property
    def peak(self) -> TrackedPeak:
        return TrackedPeak(self._peak_bytes, self._moment, tuple(self._peak_live.values()))

    def register(self, source: str, tensor: torch.Tensor) -> None:
        """Count a tensor that exists before the tracked code runs, under a name."""
        self._add(tensor, source)
        self._note(source)

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if self.is_in_place and torch._C._current_graph_task_id() != -1:
            if self._engine_would_add_in_place(func, args, kwargs):
                return args[0].add_(args[1])
            func = _IN_PLACE_IN_BACKWARD.get(func, func)
        out = func(*args, **(kwargs or {}))
        name = str(func)
        for tensor in tree_iter(out):
            if isinstance(tensor, torch.Tensor):
                self._add(tensor, name)
        self._note(name)
        return out

    def _add(self, tensor: torch.Tensor, source: str) -> None:
        storage = tensor.untyped_storage()
        key = id(storage)  # the storage keeps its Python object for as long as it lives
        if key in self._references or tensor.device.type != self.device_type:
            return
        size_bytes = -(-storage.nbytes() // self.rounding) * self.rounding
        self._references[key] = weakref.ref(storage, self._forget(key))
        live = LiveTensor(source, tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."), size_bytes)
        self._live[key] = live
        self.events.append((live, size_bytes))
        self.current_bytes += size_bytes

    def _forget(self, key: int) -> Callable[[object], None]:
        def forget(_: object) -> None:
            del self._references[key]
            live = self._live.pop(key)
            self.events.append((live, -live.size_bytes))
            self.current_bytes -= live.size_bytes

        return forget

    def _note(self, moment: str) -> None:
        if self.current_bytes > self._peak_bytes:
            self._peak_bytes, self._moment, self._peak_live = self.current_bytes, moment, dict(self._live)

    def _engine_would_add_in_place(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None) -> bool:
        if func is not aten.add.Tensor or kwargs:
            return False
        first, second = args
        return (
            not torch.is_grad_enabled()
            and isinstance(second, torch.Tensor)
            and first.shape == second.shape
            and first.dtype == second.dtype
            and is_non_overlapping_and_dense_or_false(first)
            and _reference_counts(first) <= self._sole
        )


def _reference_counts(tensor: torch.Tensor) -> tuple[int, int]:
    """References to the tensor and to its storage, as a dispatch handler sees them."""
    storage_count: int = torch._C._storage_Use_Count(tensor.untyped_storage()._cdata)
    return tensor._use_count(), storage_count


def _sole_reference_counts() -> tuple[int, int]:
    """What the counts are for a gradient that only the engine's buffer holds: read off a case where it is so."""
    seen: list[tuple[int, int]] = []

    class Probe(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is aten.add.Tensor:
                seen.append(_reference_counts(args[0]))
            return func(*args, **(kwargs or {}))

    weight = torch.empty(2, 2, device="meta", requires_grad=True)
    once = torch.empty(2, 2, device="meta", requires_grad=True) * 2
    out = (once * 3 + once @ weight) * 2  # `once` gets two gradients, both fresh tensors
    with Probe():
        out.backward(torch.empty_like(out))
    (counts,) = seen
    return counts
