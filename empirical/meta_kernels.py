"""On the meta device, take the operators that CUDA takes where torch would take others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor


@contextmanager
def as_on_cuda() -> Iterator[None]:
    """Softmax of fp16 into fp32 reads fp16 directly (torch `aten/src/ATen/native/SoftMax.cpp`, `softmax`).

    The function is replaced, not intercepted by a mode: a `TorchFunctionMode` is off inside `backward`,
    where checkpointed layers run again.
    """
    plain = F.softmax

    def softmax(
        input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: torch.dtype | None = None
    ) -> Tensor:
        if input.is_meta and input.dtype is torch.float16 and dtype is torch.float32:
            fused: Tensor = torch.ops.aten._softmax(input, dim, True)
            return fused
        return plain(input, dim, _stacklevel, dtype)

    F.softmax = softmax
    try:
        yield
    finally:
        F.softmax = plain
