"""FLOPs of a module as fvcore and torch's `FlopCounterMode` see them, by module, children excluded.

Two witnesses that share no code: fvcore counts multiply-adds on a `torch.jit` trace (times 2), torch
counts what is dispatched. Either knows three kinds of operator: counted, on the list of zeros below,
or unknown, which is an error that names it. A kernel that nobody counts must not pass for free.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, flop_registry

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # fvcore compiles a function with torch.jit, which is deprecated, on import
    from fvcore.nn import FlopCountAnalysis

# Operators that are no matrix product, in-place variants (`add_`) included. Excluded by convention:
# see analytic/flops.py.
# fmt: off
_MOVES = frozenset(  # creating, viewing, copying and moving
    (
        "_conj", "_local_scalar_dense", "_to_copy", "_unsafe_view", "alias", "arange", "as_strided", "broadcast_to",
        "cat", "chunk", "clone", "constant_pad_nd", "copy", "detach", "empty", "empty_like", "expand", "fill", "full",
        "lift_fresh", "new_empty", "new_empty_strided", "new_ones", "new_zeros", "numpy_T", "ones", "ones_like",
        "permute", "repeat", "repeat_interleave", "scalar_tensor", "select", "select_backward", "slice",
        "slice_backward", "split", "split_with_sizes", "squeeze", "stack", "t", "transpose", "unflatten", "unsqueeze",
        "view", "view_as", "view_as_complex", "view_as_real", "zeros", "zeros_like",
    )
)
_LOOKUPS = frozenset(  # looking up, sorting, comparing
    (
        "any", "bitwise_and", "bitwise_not", "embedding", "embedding_dense_backward", "eq", "gather", "ge", "gt",
        "histc", "index", "index_put", "index_select", "le", "logical_and", "logical_not", "logical_or", "lt",
        "__or", "masked_fill", "max", "maximum", "min", "ne", "scatter", "scatter_add", "sort", "topk", "tril",
        "triu", "where",
    )
)
_ELEMENTWISE = frozenset(  # elementwise arithmetic, activations, rotary angles
    (
        "abs", "add", "bernoulli", "clamp", "cos", "cumsum", "div", "exp", "exponential", "floor", "floor_divide",
        "gelu", "gelu_backward", "log", "log_sigmoid_forward", "mul", "native_dropout", "native_dropout_backward",
        "neg", "polar", "pow", "rand_like", "reciprocal", "relu", "rsqrt", "rsub", "sigmoid", "sigmoid_backward",
        "silu", "silu_backward", "sin", "sqrt", "square", "sub", "tanh", "tanh_backward", "threshold_backward",
        "uniform",
        "prim::PythonOp.GeLUFunction",  # BLOOM's own
    )
)
_REDUCTIONS = frozenset(  # sums over features: softmax, norms and the loss
    (
        "_log_softmax", "_log_softmax_backward_data", "_safe_softmax", "_softmax", "_softmax_backward_data", "mean",
        "native_layer_norm", "native_layer_norm_backward", "nll_loss_backward", "nll_loss_forward", "softmax", "sum",
    )
)
# fmt: on
ZERO_FLOP_OPERATORS = _MOVES | _LOOKUPS | _ELEMENTWISE | _REDUCTIONS


class UncountedOperatorError(RuntimeError):
    """An operator that is neither counted nor known to be free."""


def fvcore_flops(module: nn.Module, inputs: tuple[Tensor, ...]) -> dict[str, int]:
    """FLOPs of one forward pass by module path, by fvcore: its multiply-adds times 2.

    Raises:
        UncountedOperatorError: naming each operator that fvcore has no handler for.
    """
    analysis = FlopCountAnalysis(module, inputs).set_op_handle(**_FVCORE_HANDLERS)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    with torch.no_grad(), _quiet_trace():
        inclusive = {path: 2 * int(macs) for path, macs in analysis.by_module().items()}
    refuse_unknown("fvcore", {op.removeprefix("aten::") for op in analysis.unsupported_ops()})
    return _without_children(inclusive)


def flop_counter_flops(module: nn.Module, inputs: tuple[Tensor, ...]) -> dict[str, int]:
    """FLOPs of one forward pass by module path, by torch's `FlopCounterMode`.

    Raises:
        UncountedOperatorError: naming each operator that has no formula.
    """
    with torch.no_grad(), _counting() as counter:
        module(*inputs)
    return _by_path(counter, module)


def training_flops_by_counter(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[dict[str, int], int]:
    """FLOPs of a forward pass by module path, and of the backward pass after it, by `FlopCounterMode`.

    Raises:
        UncountedOperatorError: naming each operator that has no formula.
    """
    with _counting() as counter:
        out = module(*inputs)
        by_path, forward = _by_path(counter, module), counter.get_total_flops()
        out.backward(torch.empty_like(out))
    return by_path, counter.get_total_flops() - forward


def executed_flops(run: Callable[[], object]) -> int:
    """FLOPs of everything that `run` dispatches, backward passes and recomputation included.

    Raises:
        UncountedOperatorError: naming each operator that has no formula.
    """
    with _counting() as counter:
        run()
    return counter.get_total_flops()


@contextmanager
def _counting() -> Iterator[FlopCounterMode]:
    """Count what is dispatched inside, and refuse at the end what was not counted."""
    counter = _SeeingCounter(display=False, custom_mapping=TORCH_FORMULAS)
    with counter:
        yield counter
    uncounted = counter.seen - set(flop_registry) - set(TORCH_FORMULAS)
    refuse_unknown("FlopCounterMode", {op.__name__ for op in uncounted})


class _SeeingCounter(FlopCounterMode):
    """Remembers every operator that it is asked to count. A second dispatch mode would take as long again."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.seen: set[Any] = set()

    def _count_flops(self, func_packet: Any, out: Any, args: Any, kwargs: Any) -> Any:
        self.seen.add(func_packet)
        return super()._count_flops(func_packet, out, args, kwargs)


def _by_path(counter: FlopCounterMode, module: nn.Module) -> dict[str, int]:
    root = type(module).__name__  # with which the counter begins every path
    inclusive = {
        path.removeprefix(root).removeprefix("."): sum(by_operator.values())
        for path, by_operator in counter.get_flop_counts().items()
    }
    inclusive[""] = inclusive.pop("Global", 0)  # everything, what no module claims included
    return _without_children(inclusive)


def refuse_unknown(witness: str, uncounted: set[str]) -> None:
    unknown = {name for name in uncounted if name.rstrip("_") not in ZERO_FLOP_OPERATORS}
    if unknown:
        raise UncountedOperatorError(f"{witness} met operators it does not count: {', '.join(sorted(unknown))}")


def _without_children(inclusive: Mapping[str, int]) -> dict[str, int]:
    """From FLOPs including submodules to those of each module's own operators, zeros left out."""
    own = dict(inclusive)
    for path, flops in inclusive.items():
        parent = path
        while parent:
            parent = parent.rpartition(".")[0]
            if parent in own:
                own[parent] -= flops
                break
    return {path: flops for path, flops in own.items() if flops}


# fvcore handlers: (inputs, outputs) of one traced operator -> multiply-adds.


def _sizes(value: Any) -> list[int]:
    sizes: list[int] = value.type().sizes()
    return sizes


def _sdpa_macs(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """QK^T and PV over the full square: batch and heads, S x S, d_qk + d_v."""
    q, k, v = (_sizes(x) for x in inputs[:3])
    return Counter(sdpa=math.prod(q[:-1]) * k[-2] * (q[-1] + v[-1]))


def _grouped_mm_macs(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """Each row [in] meets one expert's matrix [E,in,out]."""
    rows, weight = _sizes(inputs[0]), _sizes(inputs[1])
    return Counter(grouped_mm=rows[-2] * rows[-1] * weight[-1])


def _baddbmm_macs(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    batch, n, k = _sizes(inputs[1])
    return Counter(baddbmm=batch * n * k * _sizes(inputs[2])[-1])


def _nothing(inputs: list[Any], outputs: list[Any]) -> int:
    return 0


_FVCORE_HANDLERS: dict[str, Callable[[list[Any], list[Any]], Any]] = {
    "aten::scaled_dot_product_attention": _sdpa_macs,
    "aten::_grouped_mm": _grouped_mm_macs,
    "aten::baddbmm": _baddbmm_macs,
    # fvcore's own handler guesses 5 an element; None would not disable it
    "aten::layer_norm": _nothing,
}


def _grouped_mm_flops(rows: Any, weight: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    """Forward, or the gradient of the rows: [T,in] x [E,in,out]; of the weights: [in,T] x [T,out]."""
    flops: int = 2 * rows[-2] * rows[-1] * weight[-1]
    return flops


TORCH_FORMULAS = {torch.ops.aten._grouped_mm: _grouped_mm_flops}


@contextmanager
def _quiet_trace() -> Iterator[None]:
    """`torch.jit.trace` warns of its deprecation and of values it takes for constants; both are known here."""
    jit_log = logging.getLogger("torch.jit")
    level = jit_log.level
    jit_log.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    jit_log.setLevel(level)
