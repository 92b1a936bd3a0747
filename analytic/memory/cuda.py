"""What CUDA takes beyond the schedule: known from sources, certain only once measured on a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from analytic.memory import ops
from analytic.spec import Attention, GroupedQueryAttention, ModelSpec
from analytic.training import TrainingSetup

MIB = 2**20
_CUBLAS_WHEN = "during each matrix product (torch 2.15), or kept, once for each handle and stream (torch 2.11)"


@dataclass(frozen=True, slots=True)
class CudaOnly:
    """Bytes that no witness without a GPU can see. They are in no predicted peak.

    Attributes:
        size_bytes: None where only a measurement can tell.
        when: the moments at which they are live.
    """

    name: str
    size_bytes: int | None
    when: str
    source: str


def cuda_only(spec: ModelSpec, setup: TrainingSetup) -> Iterator[CudaOnly]:
    """The lines to put beside a prediction."""
    if setup.attention_kernel == "flash":
        largest = max(flash_backward_bytes(layer.attention, setup) for layer in set(spec.layers))
        yield CudaOnly(
            "flash attention, inside its backward",
            largest,
            "backward of attention",
            "torch aten/src/ATen/native/transformers/cuda/flash_attn/flash_api.cpp, mha_bwd: softmax_d, dq_accum, "
            "dk_expanded, dv_expanded",
        )
    yield CudaOnly(
        "cuBLAS workspace, compute capability 9.0",
        32 * MIB,
        _CUBLAS_WHEN,
        "torch aten/src/ATen/cuda/CublasHandlePool.cpp, parseChosenWorkspaceSize",
    )
    yield CudaOnly(
        "cuBLAS workspace, other GPUs",
        4096 * 2 * 1024 + 16 * 8 * 1024,
        _CUBLAS_WHEN,
        "torch aten/src/ATen/cuda/CublasHandlePool.cpp, parseChosenWorkspaceSize (:4096:2:16:8)",
    )
    yield CudaOnly(
        "CUDA context",
        None,
        "always, outside the allocator",
        "torch.cuda.mem_get_info, less what the allocator reserves",
    )


def flash_backward_bytes(attention: Attention, setup: TrainingSetup) -> int:
    """Row sums and the gradient of q in fp32, both padded; keys' and values' gradients for every query head."""
    if isinstance(attention, GroupedQueryAttention):
        heads, head_dim, is_grouped = (
            attention.num_heads,
            attention.head_dim,
            attention.num_kv_heads < attention.num_heads,
        )
    else:
        heads, head_dim, is_grouped = attention.num_heads, attention.qk_head_dim, False
    padded_len = _padded(setup.seq_len, 128)
    padded_dim = _padded(head_dim, 32 if head_dim <= 128 else 64)
    rows = setup.micro_batch * heads * padded_len
    total = setup.rounded(rows * ops.FP32) + setup.rounded(rows * padded_dim * ops.FP32)
    if is_grouped:
        total += 2 * setup.rounded(setup.tokens * heads * head_dim * setup.itemsize)
    return total


def _padded(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
