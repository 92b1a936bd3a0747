"""FLOPs of the operators that one rank runs on its own shards, below DTensor.

torch's `FlopCounterMode` sees a DTensor's operator at its global shape and attention at its local one: its sum is
neither. This counts by the same formulas what reaches local tensors, and refuses what it does not know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch._guards import active_fake_mode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, shape_wrapper

from empirical.witnesses.flops import TORCH_FORMULAS, refuse_unknown
from empirical.witnesses.rank_tracker import wraps_local

# Communication and bookkeeping of torch's own; operators of the optimizer on lists of tensors.
_FREE_NAMESPACES = ("c10d", "_c10d_functional", "_c10d_functional_autograd", "_dtensor", "fsdp", "profiler")
_FREE_PREFIXES = ("_foreach_", "_fused_adamw_")
_FORMULAS = {**flop_registry, **{packet: shape_wrapper(formula) for packet, formula in TORCH_FORMULAS.items()}}


class LocalFlops(TorchDispatchMode):
    """Counts what is dispatched inside: `total`.

    Raises:
        UncountedOperatorError: at the end, naming each operator that has no formula.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0
        self._unknown: set[str] = set()

    def __exit__(self, *exc: Any) -> None:
        super().__exit__(*exc)
        refuse_unknown("the counter of a rank", self._unknown)

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
        if active_fake_mode() is not None:
            return out  # DTensor propagates a sharding, at global sizes
        packet = func._overloadpacket
        if (formula := _FORMULAS.get(packet)) is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=out)
        elif func.namespace not in _FREE_NAMESPACES and not packet.__name__.startswith(_FREE_PREFIXES):
            self._unknown.add(packet.__name__)
        return out
