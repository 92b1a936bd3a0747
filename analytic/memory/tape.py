"""A schedule of allocations and frees, recorded by executing a description of the model without data.

A `Tensor` here is a shape and a name. Its storage is freed when the last reference goes, as in torch: what
a function of the model keeps alive in a local variable, its description keeps alive in one, too. What
autograd keeps alive is modelled by `Node`s: an operator records what it saves and which gradients its
backward allocates, and `Tape.backward` runs the nodes that a tensor leads to as torch's engine does
(`csrc/autograd/engine.cpp`): the latest first; what came in and what was saved is released when the node has
run, and only then are its results added to the gradients that wait. Nodes are alive as long as a tensor or a
later node leads to them, so that several graphs can be alive at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from analytic.memory.tensors import (
    AllRestoredError,
    Category,
    Event,
    Flow,
    Frame,
    Gradient,
    Label,
    Leaf,
    Node,
    Parameter,
    Saved,
    Shape,
    Storage,
    Tensor,
)


class Hooks:
    """What is called while a tape runs, in program order; a subclass may allocate and free there.

    A module's forward is not entered again when a checkpoint recomputes it.
    """

    def forward_entered(self, t: Tape, module: str) -> None:
        """A module is about to be called."""

    def forward_left(self, t: Tape, module: str) -> None:
        """A module has returned."""

    def backward_entered(self, t: Tape, module: str) -> None:
        """The gradients of a module's outputs are there, and its first node is about to run."""

    def backward_left(self, t: Tape, module: str) -> None:
        """A module's last node has run, and the gradients of its inputs are there."""

    def gradient_ready(self, t: Tape, parameter: Parameter) -> None:
        """All that a backward pass adds to a parameter's gradient has been added."""


class Tape:
    """Executes descriptions of operators and records the events, in order.

    Attributes:
        itemsize: bytes of an element of the compute dtype. rounding: every storage is a multiple of it.
        is_accumulating: gradients exist already, in the base, so that a new one is added and freed.
        marks: (index into `events`, phase, region) where each begins.
    """

    def __init__(
        self, itemsize: int, *, rounding: int = 1, is_accumulating: bool = False, hooks: Hooks | None = None
    ) -> None:
        self.itemsize = itemsize
        self.rounding = rounding
        self.is_accumulating = is_accumulating
        self.events: list[Event] = []
        self.marks: list[tuple[int, str, str]] = []
        self.is_recording = True
        self._hooks = hooks or Hooks()
        self._parameters: dict[tuple[str, str], Parameter] = {}
        self._region = ""
        self._phase = ""
        self._module = ""
        self._num_nodes = 0
        self._frames: list[Frame] = []

    # Forward

    def mark(self, phase: str, region: str) -> None:
        """From here on, events belong to a region of the model in a phase of the step."""
        self._phase, self._region = phase, region
        self.marks.append((len(self.events), phase, region))

    @contextmanager
    def module(self, name: str) -> Iterator[None]:
        """What is run inside is a module's forward."""
        self._module = name
        self._hooks.forward_entered(self, name)
        yield
        self._hooks.forward_left(self, name)
        self._module = ""

    def parameter(self, name: str, out: int, width: int = 1) -> Parameter:
        """The weight [out, width] of that name in the module at hand: one object, however often it is called for."""
        key = self._module, name
        if (known := self._parameters.get(key)) is None:
            known = self._parameters[key] = Parameter(name, out, width)
        return known

    def allocate(self, name: str, size_bytes: int, category: Category = Category.TEMPORARIES) -> Storage:
        r = self.rounding
        return Storage(self.events, Label(name, category), size_bytes if r == 1 else -(-size_bytes // r) * r)

    def new(
        self,
        name: str,
        shape: Shape,
        itemsize: int,
        node: Node | None = None,
        category: Category = Category.TEMPORARIES,
    ) -> Tensor:
        rows, width = shape
        return Tensor(self.allocate(name, rows * width * itemsize, category), rows, width, itemsize, node)

    def like(self, x: Tensor, name: str, node: Node | None = None) -> Tensor:
        """A new tensor of the shape and type of x."""
        return Tensor(self.allocate(name, x.size_bytes), x.rows, x.width, x.itemsize, node)

    @property
    def is_saving(self) -> bool:
        """Whether what nodes save is really held: in a recorded pass that is not the checkpointed one."""
        return self.is_recording and (not self._frames or self._frames[-1].is_restoring)

    def record(
        self, name: str, flows: Sequence[Flow], *, saves: Sequence[Tensor] = (), num_outputs: int = 1
    ) -> Node | None:
        """The backward node of an operator, or None where no gradient is wanted. To be called before `new`."""
        if not self.is_recording:
            return None
        wanted = [flow for flow in flows if flow.to is not None]
        if not wanted:
            return None
        self._num_nodes += 1
        node = Node(self._num_nodes, name, self._region, self._module, wanted, num_outputs)
        for tensor in saves:
            self.save(node, tensor)
        return node

    def save(self, node: Node, tensor: Tensor) -> None:
        """The node holds a tensor for backward; under checkpointing, only room for it."""
        if not self._frames:
            node.saved.append(Saved(tensor.storage))
            return
        frame = self._frames[-1]
        if frame.is_restoring:
            frame.restore(tensor.storage)
            return
        node.saved.append(frame.reserve())
        node.frame = frame

    def checkpoint(self, call: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """Run a call saving only its input; backward runs it again first (`use_reentrant=False`).

        A checkpointed call inside another one leaves its input to the outer one, which saves it or restores it.
        """
        outer = self._frames[-1] if self._frames else None
        if outer is None:
            held = Saved(x.storage)
        elif outer.is_restoring:
            held = Saved(None)
            outer.restore(x.storage)
        else:
            held = outer.reserve()
        self._frames.append(Frame(call, x, held, outer))
        out = call(x)
        self._frames.pop()
        return out

    # Backward

    def start_backward(self, out: Tensor, received: Storage | None = None) -> Storage:
        """A gradient of `out` arrives. Whoever keeps what is returned keeps it alive.

        `received`: it exists already, and its owner keeps it, so that nothing is added to it in place.
        """
        size_bytes = out.size_bytes
        gradient = received or self.allocate("gradient of the output", size_bytes)
        self._deliver(Flow(out, size_bytes), Gradient(gradient, size_bytes, received is not None))
        return gradient

    def backward(self, out: Tensor) -> None:
        """Run every node that the gradient of `out` reaches, the latest first."""
        assert isinstance(out.node, Node)
        nodes = _graph(out.node)
        while nodes:
            node = nodes.pop()
            if node.module != self._module:
                self._leave_backward()
                self._module = node.module
                if node.module:
                    self._hooks.backward_entered(self, node.module)
            self._run(node)
        self._leave_backward()

    def check_balance(self, *held: Storage) -> None:
        """What was allocated and is not freed is the gradients of the parameters, and what the caller holds.

        Raises:
            AssertionError: something else is still referenced, or something of that is not.
        """
        grads = [parameter.grad for parameter in self._parameters.values()]
        expected = sum(storage.size_bytes for storage in (*grads, *held) if storage is not None)
        live = sum(size_bytes for _, size_bytes in self.events)
        if live != expected:
            raise AssertionError(f"{live} bytes are live at the end of a schedule: expected {expected}")

    def _leave_backward(self) -> None:
        module, self._module = self._module, ""
        if module:
            self._hooks.backward_left(self, module)

    def _run(self, node: Node) -> None:
        if node.region != self._region:
            self.mark(self._phase, node.region)
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
        if frame.outer is not None and not frame.outer.filled:
            self._recompute(frame.outer)
        like = frame.input
        x = Tensor(frame.held.storage, like.rows, like.width, like.itemsize, like.node, like.index)
        if frame.outer is not None:
            frame.held.storage = None  # the outer frame lets go of what it restored once that is fetched
        frame.is_restoring = True
        self._frames.append(frame)
        with suppress(AllRestoredError):
            frame.call(x)
        while self._frames.pop() is not frame:  # it may stop inside an inner call
            pass

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
        to = flow.to
        assert to is not None
        if isinstance(to, Leaf):
            self._deliver_to_leaf(to, gradient)
            return
        waiting = to.incoming[flow.index]
        to.incoming[flow.index] = self._sum(to.name, waiting, gradient)

    def _sum(self, name: str, waiting: Gradient | None, gradient: Gradient) -> Gradient:
        """What waits after one more gradient has come (`csrc/autograd/input_buffer.cpp`, `accumulate`)."""
        if waiting is None:
            gradient.buffers += 1
            return gradient
        if waiting.buffers == 1 and not waiting.is_view:
            return waiting
        waiting.buffers -= 1
        total = Gradient(self.allocate(f"{name}: sum of gradients", gradient.size_bytes), gradient.size_bytes, False)
        total.buffers = 1
        return total

    def _deliver_to_leaf(self, to: Leaf, gradient: Gradient) -> None:
        part = None
        if to.gradient is not None and isinstance(to, Parameter):
            own_bytes = to.numel * self.itemsize
            if own_bytes < gradient.size_bytes:  # that of a whole table: DTensor copies this rank's rows to add them
                part = self.allocate(f"{to.name}: rows of this rank", own_bytes)
                gradient = Gradient(gradient.storage, own_bytes, True)
        to.gradient = total = self._sum(to.name, to.gradient, gradient)
        del part
        to.due -= 1
        if to.due or not isinstance(to, Parameter):
            return
        to.gradient = None
        self._accumulate(to, total.storage)

    def _accumulate(self, to: Parameter, storage: Storage) -> None:
        """Keep the gradient as `.grad`, or add it to that (`csrc/autograd/functions/accumulate_grad.h`)."""
        label = storage.label
        label.name = f"{to.name}.grad"
        if to.grad is None and not self.is_accumulating:
            label.category = Category.GRADIENTS
            to.grad = storage
        self._hooks.gradient_ready(self, to)


def _graph(root: Node) -> list[Node]:
    """Every node that a gradient of the root reaches, the latest last; leaves are set to wait for all of theirs."""
    found, remaining = {root}, [root]
    while remaining:
        for flow in remaining.pop().flows:
            to = flow.to
            if isinstance(to, Leaf):
                to.due += 1
            elif to is not None and to not in found:
                found.add(to)
                remaining.append(to)
    return sorted(found, key=lambda node: node.number)


def _consume(node: Node) -> None:
    """The incoming gradients end here, unless they are handed on or wait elsewhere, too."""
    for gradient in node.incoming:
        if gradient is not None:
            gradient.buffers -= 1
    node.incoming = []
