"""A schedule of allocations and frees, recorded by executing a description of the model without data.

A `Tensor` here is a size and a name. Its storage is freed when the last reference goes, as in torch: what
a function of the model keeps alive in a local variable, its description keeps alive in one, too. What
autograd keeps alive is modelled by `Node`s: an operator records what it saves and which gradients its
backward allocates, and `Tape.backward` runs the nodes as torch's engine does (`csrc/autograd/engine.cpp`):
the latest first; what came in and what was saved is released when the node has run, and only then are its
results added to the gradients that wait.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from analytic.memory.tensors import (
    Category,
    Event,
    Flow,
    Frame,
    Gradient,
    Label,
    Node,
    Parameter,
    Saved,
    Storage,
    Tensor,
)


class _AllRestoredError(Exception):
    """Recomputation has restored the last saved tensor; torch's checkpoint stops it there (`early_stop`)."""


class Tape:
    """Executes descriptions of operators and records the events, in order.

    Attributes:
        itemsize: bytes of an element of the compute dtype. rounding: every storage is a multiple of it.
        is_accumulating: gradients exist already, so that a new one is added and freed.
        marks: (index into `events`, phase, region) where each begins.
    """

    def __init__(self, itemsize: int, *, rounding: int = 1, is_accumulating: bool = False) -> None:
        self.itemsize = itemsize
        self.rounding = rounding
        self.is_accumulating = is_accumulating
        self.events: list[Event] = []
        self.marks: list[tuple[int, str, str]] = []
        self._gradients: list[Storage] = []
        self.is_recording = True
        self._region = ""
        self._phase = ""
        self._nodes: list[Node] = []
        self._frame: Frame | None = None
        self._restoring: Frame | None = None
        self._waiting: dict[str, Gradient] = {}

    # Forward

    def mark(self, phase: str, region: str) -> None:
        """From here on, events belong to a region of the model in a phase of the step."""
        self._phase, self._region = phase, region
        self.marks.append((len(self.events), phase, region))

    def allocate(self, name: str, size_bytes: int, category: Category = Category.TEMPORARIES) -> Storage:
        r = self.rounding
        return Storage(self.events, Label(name, category), size_bytes if r == 1 else -(-size_bytes // r) * r)

    def new(
        self,
        name: str,
        numel: int,
        itemsize: int,
        node: Node | None = None,
        category: Category = Category.TEMPORARIES,
    ) -> Tensor:
        return Tensor(self.allocate(name, numel * itemsize, category), numel, itemsize, node)

    @property
    def is_saving(self) -> bool:
        """Whether what nodes save is really held: in a recorded pass that is not the checkpointed one."""
        return self.is_recording and self._frame is None

    def record(
        self, name: str, flows: Sequence[Flow], *, saves: Sequence[Tensor] = (), num_outputs: int = 1
    ) -> Node | None:
        """The backward node of an operator, or None where no gradient is wanted. To be called before `new`."""
        if not self.is_recording:
            return None
        wanted = [flow for flow in flows if flow.to is not None]
        if not wanted:
            return None
        node = Node(name, self._region, wanted, num_outputs)
        for tensor in saves:
            self.save(node, tensor)
        if self._restoring is None:
            self._nodes.append(node)
        return node

    def save(self, node: Node, tensor: Tensor) -> None:
        """The node holds a tensor for backward; under checkpointing, only room for it."""
        storage = tensor.storage
        if self._restoring is not None:
            self._restore(self._restoring, storage)
            return
        if self._frame is not None:
            slot = Saved(None)
            self._frame.slots.append(slot)
            node.frame = self._frame
        else:
            slot = Saved(storage)
            if storage is not None:
                storage.keep()
        node.saved.append(slot)

    def _restore(self, frame: Frame, storage: Storage | None) -> None:
        frame.slots[frame.filled].storage = storage
        frame.filled += 1
        if storage is not None:
            storage.keep()
        if frame.filled == len(frame.slots):
            raise _AllRestoredError

    def checkpoint(self, call: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """Run a call saving only its input; backward runs it again first (`use_reentrant=False`)."""
        self._frame = Frame(call, x)
        if x.storage is not None:
            x.storage.keep()
        out = call(x)
        self._frame = None
        return out

    # Backward

    def start_backward(self, out: Tensor, size_bytes: int) -> Storage:
        """A gradient of `out` arrives. Whoever keeps what is returned keeps it alive."""
        gradient = self.allocate("gradient of the output", size_bytes)
        self._deliver(Flow(out, size_bytes), Gradient(gradient, size_bytes, False))
        return gradient

    def backward(self) -> None:
        """Run every node, the latest first."""
        while self._nodes:
            self._run(self._nodes.pop())

    def _run(self, node: Node) -> None:
        if node.region != self._region:
            self.mark(self._phase, node.region)
        if not any(node.incoming):
            return
        frame = node.frame
        if frame is not None and not frame.filled:
            self._recompute(frame)
        outgoing = self._compute(node)
        if frame is not None:
            frame = None
            node.release()  # a restored tensor is a local variable of the backward function
        self._reduce(node, outgoing)
        _consume(node)
        node.release()
        outgoing.reverse()
        while outgoing:
            flow, gradient = outgoing.pop()
            self._deliver(flow, gradient)
            del gradient

    def _recompute(self, frame: Frame) -> None:
        self._restoring = frame
        with suppress(_AllRestoredError):
            frame.call(frame.input)
        self._restoring = None

    def _compute(self, node: Node) -> list[tuple[Flow, Gradient]]:
        """The gradients as the operator's backward function returns them."""
        outgoing = []
        for flow in node.flows:
            if flow.fresh:
                scratch = [self.allocate(f"{node.name}: scratch of backward", n) for n in flow.scratch]
                size_bytes = flow.unreduced_bytes or flow.size_bytes
                storage = self.allocate(f"{node.name}: gradient", size_bytes)
                gradient = Gradient(storage, size_bytes, flow.is_view)
                del storage
                del scratch
            else:
                (incoming,) = node.incoming
                assert incoming is not None
                gradient = Gradient(incoming.storage, flow.size_bytes, True) if flow.is_view else incoming
            outgoing.append((flow, gradient))
        return outgoing

    def _reduce(self, node: Node, outgoing: list[tuple[Flow, Gradient]]) -> None:
        for i, (flow, _) in enumerate(outgoing):
            if flow.unreduced_bytes:
                storage = self.allocate(f"{node.name}: gradient", flow.size_bytes)
                outgoing[i] = flow, Gradient(storage, flow.size_bytes, False)

    def _deliver(self, flow: Flow, gradient: Gradient) -> None:
        to, index = flow.to, flow.index
        assert to is not None
        if isinstance(to, Parameter):
            self._deliver_to_parameter(to, gradient)
            return
        waiting = to.incoming[index]
        to.incoming[index] = result = self._sum(to.name, waiting, gradient)
        if result is not waiting:
            result.buffers += 1

    def _sum(self, name: str, waiting: Gradient | None, gradient: Gradient) -> Gradient:
        """What waits after one more gradient has come (`csrc/autograd/input_buffer.cpp`, `accumulate`)."""
        if waiting is None:
            return gradient
        if waiting.buffers == 1 and not waiting.is_view:
            return waiting
        waiting.buffers -= 1
        return Gradient(self.allocate(f"{name}: sum of gradients", gradient.size_bytes), gradient.size_bytes, False)

    def _deliver_to_parameter(self, to: Parameter, gradient: Gradient) -> None:
        """Keep the gradient as `.grad`, or add it to that (`csrc/autograd/functions/accumulate_grad.h`)."""
        if to.uses > 1 and to.name not in self._waiting:
            self._waiting[to.name] = gradient
            return
        if to.uses > 1:
            gradient = self._sum(to.name, self._waiting.pop(to.name), gradient)
        label = gradient.storage.label
        label.name = f"{to.name}.grad"
        if not self.is_accumulating:
            label.category = Category.GRADIENTS
            self._gradients.append(gradient.storage)


def _consume(node: Node) -> None:
    """The incoming gradients end here, unless they are handed on or wait elsewhere, too."""
    for gradient in node.incoming:
        if gradient is not None:
            gradient.buffers -= 1
    node.incoming = []
