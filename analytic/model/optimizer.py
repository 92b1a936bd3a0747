"""The optimizer of a training step: its states, the copies that its step makes, its passes over memory.

Another optimizer is one more name and one more case here; mypy lists whatever else lacks it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal, assert_never

Optimizer = Literal["adamw_fused", "adamw_foreach", "none"]

FP32_BYTES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerCost:
    """What an optimizer holds and moves. Elements are of the type that it works on.

    Attributes:
        name: the algorithm, for print.
        states: tensors of the parameter's shape, kept from step to step.
        scalars: fp32 numbers that each parameter tensor has on the device, likewise kept.
        copies: temporaries of the step, of the shape of all parameters at once.
        passes: elements read or written per parameter in one step, at the least.
    """

    name: str
    states: tuple[str, ...] = ()
    scalars: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()
    passes: int = 0

    def state_bytes(self, numel: int, itemsize: int) -> dict[str, int]:
        """The states of one parameter tensor, by name.

        >>> cost_of("adamw_fused").state_bytes(100, 2)
        {'exp_avg': 200, 'exp_avg_sq': 200, 'step': 4}
        """
        return dict.fromkeys(self.states, numel * itemsize) | dict.fromkeys(self.scalars, FP32_BYTES)


@cache
def cost_of(optimizer: Optimizer) -> OptimizerCost:
    """What `torch.optim` holds and moves.

    AdamW reads parameter, gradient and two moments, and writes all but the gradient: seven passes. Fused, its step
    count is on the device (`torch/optim/adamw.py`); foreach copies a moment (`torch/optim/adam.py`,
    `_multi_tensor_adam`), whose passes are not counted.
    """
    moments, passes = ("exp_avg", "exp_avg_sq"), 7
    match optimizer:
        case "adamw_fused":
            return OptimizerCost(name="AdamW", states=moments, scalars=("step",), passes=passes)
        case "adamw_foreach":
            return OptimizerCost(name="AdamW", states=moments, copies=("exp_avg_sq_sqrt",), passes=passes)
        case "none":
            return OptimizerCost(name="no optimizer")
        case _:
            assert_never(optimizer)
