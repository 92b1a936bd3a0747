"""One decoder layer of `transformers`, on the tape."""

from __future__ import annotations

from functools import partial
from typing import assert_never

from analytic.memory import ops
from analytic.memory.attention import attend
from analytic.memory.blocks import gated_ffn, rms_norm
from analytic.memory.implementation import Context
from analytic.memory.moe import moe_ffn
from analytic.memory.tape import Tape
from analytic.memory.tensors import Tensor
from analytic.model.spec import DenseFfn, LayerSpec, MoeFfn


def layer_in_training(t: Tape, layer: LayerSpec, x: Tensor, context: Context) -> Tensor:
    """A layer as a training step runs it: checkpointed, if the setup says so."""
    call = partial(decoder_layer, t, layer, context=context)
    match context.setup.checkpointing:
        case "none":
            return call(x)
        case "full":
            return t.checkpoint(call, x)
        case _:
            assert_never(context.setup.checkpointing)


def decoder_layer(t: Tape, layer: LayerSpec, x: Tensor, context: Context) -> Tensor:
    """`LlamaDecoderLayer.forward` and its copies in every family."""
    normed = rms_norm(t, x, "input_layernorm")
    attended = attend(t, layer.attention, normed, context)
    del normed
    x = ops.add(t, x, attended.output, "residual + attention")
    weights = attended.weights
    del attended
    normed = rms_norm(t, x, "post_attention_layernorm")
    out = _feed_forward(t, layer, normed, context)
    del normed
    out = ops.add(t, x, out, "layer output")
    del weights
    return out


def _feed_forward(t: Tape, layer: LayerSpec, x: Tensor, context: Context) -> Tensor:
    match layer.ffn:
        case DenseFfn(intermediate_size=width, bias=has_bias):
            return gated_ffn(t, x, width, "mlp", ranks=context.implementation.tp, has_bias=has_bias)
        case MoeFfn():
            return moe_ffn(t, layer.ffn, x, context)
        case _:
            assert_never(layer.ffn)
