"""Activation checkpointing: which layers run again in backward, and the FLOPs of that.

`full` wraps each layer in `torch.utils.checkpoint`, non-reentrant as is its default. Another policy is one more name
and one more case in each function here; mypy lists whatever else lacks it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, assert_never

from analytic.model.breakdown import Breakdown
from analytic.model.spec import DenseFfn, LayerSpec, MoeFfn, NormSlot

Checkpointing = Literal["none", "full"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recomputation:
    """FLOPs that a layer's backward spends on running its forward pass again.

    Attributes:
        textbook: the whole forward pass.
        executed: what torch runs of it. It stops at the last tensor to restore, so that a layer that ends in a
            projection does not repeat that one.
    """

    textbook: int
    executed: int


def recomputes_layers(checkpointing: Checkpointing) -> bool:
    """Whether each layer's forward pass runs again in backward."""
    match checkpointing:
        case "none":
            return False
        case "full":
            return True
        case _:
            assert_never(checkpointing)


def recomputation(checkpointing: Checkpointing, layer: LayerSpec, forward: Breakdown) -> Recomputation:
    """What one layer recomputes, from the FLOPs of its forward pass."""
    match checkpointing:
        case "none":
            return Recomputation(textbook=0, executed=0)
        case "full":
            executed = forward.total - last_projection_flops(layer, forward)
            return Recomputation(textbook=forward.total, executed=executed)
        case _:
            assert_never(checkpointing)


def last_projection_flops(layer: LayerSpec, forward: Breakdown) -> int:
    """FLOPs of the layer's closing projection where nothing after it is saved for backward, else 0.

    A routed expert's output is multiplied by its router weight, and a dropout keeps its mask: both
    come after the projection, so that recomputation must run it, and so does a norm. The residual
    addition saves nothing.
    """
    if layer.residual_dropout or NormSlot.AFTER_FFN in layer.norm_slots:
        return 0
    match layer.ffn:
        case DenseFfn():
            return forward["mlp.down_proj"]
        case MoeFfn():
            return 0 if layer.ffn.shared_first else forward.terms.get("mlp.shared_experts.down_proj", 0)
        case _:
            assert_never(layer.ffn)
