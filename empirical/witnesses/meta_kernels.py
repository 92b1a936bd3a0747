"""On the meta device, take the operators that CUDA takes where torch would take others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

aten = torch.ops.aten


@contextmanager
def as_on_cuda() -> Iterator[None]:
    """Softmax of fp16 into fp32 reads fp16 directly, and scaled dot products without a mask are flash attention.

    From torch `aten/src/ATen/native/SoftMax.cpp`, `softmax`, and `transformers/attention.cpp`, which on meta
    takes the unfused kernel. The functions are replaced, not intercepted by a mode: a `TorchFunctionMode`
    is off inside `backward`, where checkpointed layers run again.
    """
    plain_softmax, plain_attention = F.softmax, F.scaled_dot_product_attention

    def softmax(
        input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: torch.dtype | None = None
    ) -> Tensor:
        if input.is_meta and input.dtype is torch.float16 and dtype is torch.float32:
            fused: Tensor = aten._softmax(input, dim, True)
            return fused
        return plain_softmax(input, dim, _stacklevel, dtype)

    def attention(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        if query.is_meta and attn_mask is None and query.dtype is not torch.float32:
            out: Tensor = aten._scaled_dot_product_flash_attention(
                query, key, value, dropout_p, is_causal, False, scale=scale
            )[0]
            return out
        return plain_attention(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)

    F.softmax, F.scaled_dot_product_attention = softmax, attention
    try:
        yield
    finally:
        F.softmax, F.scaled_dot_product_attention = plain_softmax, plain_attention
