"""What a schedule is made of: storages, tensors, gradients, and the nodes that autograd runs backward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Category(StrEnum):
    """What a live tensor is for. Activations are what autograd or a checkpoint holds for backward."""

    PARAMETERS = "parameters"
    GRADIENTS = "gradients"
    OPTIMIZER = "optimizer states"
    INPUTS = "inputs"
    ACTIVATIONS = "activations"
    TEMPORARIES = "temporaries"


class Label:
    """Name and category of one storage. A temporary becomes an activation once it is saved for backward."""

    __slots__ = ("category", "name")

    def __init__(self, name: str, category: Category) -> None:
        self.name = name
        self.category = category


Event = tuple[Label, int]  # the label, and the bytes: positive where allocated, negative where freed


class Storage:
    """Bytes that are live until the last reference goes."""

    __slots__ = ("_events", "label", "size_bytes")

    def __init__(self, events: list[Event], label: Label, size_bytes: int) -> None:
        self._events = events
        self.label = label
        self.size_bytes = size_bytes
        events.append((label, size_bytes))

    def __del__(self) -> None:
        self._events.append((self.label, -self.size_bytes))

    def keep(self) -> None:
        """It is held for backward."""
        if self.label.category is Category.TEMPORARIES:
            self.label.category = Category.ACTIVATIONS


@dataclass(frozen=True, slots=True)
class Parameter:
    """A trainable weight: itself part of the base, its gradient scheduled. A tied weight has two `uses`."""

    name: str
    numel: int
    uses: int = 1


class Tensor:
    """A tensor: its size, its storage (None: part of the base), and the node that its gradient goes to."""

    __slots__ = ("index", "itemsize", "node", "numel", "storage")

    def __init__(
        self, storage: Storage | None, numel: int, itemsize: int, node: Node | None = None, index: int = 0
    ) -> None:
        self.storage = storage
        self.numel = numel
        self.itemsize = itemsize
        self.node = node
        self.index = index


class Gradient:
    """A gradient on its way. `is_view`: it shares its storage, so that the engine never adds to it in place."""

    __slots__ = ("buffers", "is_view", "size_bytes", "storage")

    def __init__(self, storage: Storage, size_bytes: int, is_view: bool) -> None:
        self.storage = storage
        self.size_bytes = size_bytes
        self.is_view = is_view
        self.buffers = 0


class Flow:
    """A gradient of `size_bytes` that a node hands on; not `fresh`: the incoming one itself, or a part of it.

    Attributes:
        is_view: it shares its storage with another tensor object, so that it is never added to in place.
        unreduced_bytes: the size it is computed in before the engine sums or casts it to its tensor's own
            shape and type (`csrc/autograd/engine.cpp`, `validate_outputs`); 0 where it has them at once.
        scratch: sizes of what is allocated to compute it, and freed as soon as it is there.
    """

    __slots__ = ("fresh", "index", "is_view", "scratch", "size_bytes", "to", "unreduced_bytes")

    def __init__(
        self,
        to: Tensor | Parameter,
        size_bytes: int,
        *,
        fresh: bool = True,
        is_view: bool = False,
        unreduced_bytes: int = 0,
        scratch: Sequence[int] = (),
    ) -> None:
        target: Node | Parameter | None
        target, self.index = (to, 0) if isinstance(to, Parameter) else (to.node, to.index)
        self.to = target
        self.size_bytes = size_bytes
        self.fresh = fresh
        self.is_view = is_view
        self.unreduced_bytes = unreduced_bytes
        self.scratch = scratch


class Saved:
    """One tensor that a node holds for backward; under checkpointing empty until recomputation fills it."""

    __slots__ = ("storage",)

    def __init__(self, storage: Storage | None) -> None:
        self.storage = storage


class Frame:
    """One checkpointed call (`torch.utils.checkpoint._CheckpointFrame`): its input, and what it would have saved."""

    __slots__ = ("call", "filled", "input", "slots")

    def __init__(self, call: Callable[[Tensor], Tensor], x: Tensor) -> None:
        self.call = call
        self.input = x
        self.slots: list[Saved] = []
        self.filled = 0


class Node:
    """What backward does at one operator: the gradients it hands on, and what it holds until then."""

    __slots__ = ("flows", "frame", "incoming", "name", "region", "saved")

    def __init__(self, name: str, region: str, flows: list[Flow], num_outputs: int) -> None:
        self.name = name
        self.region = region
        self.flows = flows
        self.incoming: list[Gradient | None] = [None] * num_outputs
        self.saved: list[Saved] = []
        self.frame: Frame | None = None

    def release(self) -> None:
        """Let go of what is saved; the last node to do so ends the checkpoint and frees its input."""
        for slot in self.saved:
            slot.storage = None
        self.saved = []
        self.frame = None
