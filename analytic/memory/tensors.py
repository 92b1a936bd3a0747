"""What a schedule is made of: storages, tensors, gradients, and the nodes that autograd runs backward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
Shape = tuple[int, int]  # rows, and the width of a row


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


class Leaf:
    """A tensor that ends a graph, where its gradient is kept: a parameter, or what came in from outside.

    Attributes:
        gradient: what has arrived in this backward pass. due: how many gradients are still to arrive in it.
    """

    __slots__ = ("due", "gradient", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.gradient: Gradient | None = None
        self.due = 0


class Parameter(Leaf):
    """A trainable weight [out, width], itself part of the base; a vector is `out` alone.

    Attributes:
        grad: its gradient, once there is one above the base.
    """

    __slots__ = ("grad", "out", "width")

    def __init__(self, name: str, out: int, width: int = 1) -> None:
        super().__init__(name)
        self.out = out
        self.width = width
        self.grad: Storage | None = None

    @property
    def numel(self) -> int:
        return self.out * self.width


class Tensor:
    """A tensor of rows: its storage (None: part of the base), and the node or leaf that its gradient goes to."""

    __slots__ = ("index", "itemsize", "node", "rows", "storage", "width")

    def __init__(
        self,
        storage: Storage | None,
        rows: int,
        width: int,
        itemsize: int,
        node: Node | Leaf | None = None,
        index: int = 0,
    ) -> None:
        self.storage = storage
        self.rows = rows
        self.width = width
        self.itemsize = itemsize
        self.node = node
        self.index = index

    @property
    def size_bytes(self) -> int:
        return self.rows * self.width * self.itemsize


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
        target: Node | Leaf | None
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
        if storage is not None:
            storage.keep()


class AllRestoredError(Exception):
    """Recomputation has restored the last saved tensor; torch's checkpoint stops it there (`early_stop`)."""


class Frame:
    """One checkpointed call (`torch.utils.checkpoint._CheckpointFrame`): its input, and what it would have saved.

    Attributes:
        input: what the call was given, without its storage. held: that storage; a frame inside another one, `outer`,
            holds it only once the outer one is recomputed.
    """

    __slots__ = ("call", "filled", "held", "input", "is_restoring", "outer", "slots")

    def __init__(self, call: Callable[[Tensor], Tensor], x: Tensor, held: Saved, outer: Frame | None) -> None:
        self.call = call
        self.input = Tensor(None, x.rows, x.width, x.itemsize, x.node, x.index)
        self.held = held
        self.outer = outer
        self.slots: list[Saved] = []
        self.filled = 0
        self.is_restoring = False

    def reserve(self) -> Saved:
        """Room for what the call would save."""
        slot = Saved(None)
        self.slots.append(slot)
        return slot

    def restore(self, storage: Storage | None) -> None:
        """Fill the next of what it would have saved.

        Raises:
            AllRestoredError: that was the last.
        """
        self.slots[self.filled].storage = storage
        self.filled += 1
        if storage is not None:
            storage.keep()
        if self.filled == len(self.slots):
            raise AllRestoredError


class Node:
    """What backward does at one operator: the gradients it hands on, and what it holds until then.

    Attributes:
        number: nodes are numbered as they are recorded. region, module: where in the model it belongs.
    """

    __slots__ = ("flows", "frame", "incoming", "module", "name", "number", "region", "saved")

    def __init__(self, number: int, name: str, region: str, module: str, flows: list[Flow], num_outputs: int) -> None:
        self.number = number
        self.name = name
        self.region = region
        self.module = module
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
