"""What CUDA takes beyond the schedule: known from sources, certain only once measured on a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import assert_never

from analytic.memory import ops
from analytic.model.spec import Attention, GroupedQueryAttention, LatentAttention, ModelSpec
from analytic.model.training import TrainingSetup

MIB = 2**20
_CUBLAS_WHEN = "during each matrix product (torch 2.15), or kept, once for each handle and stream (torch 2.11)"


@dataclass(frozen=True, slots=True)
class Heads:
    """Shapes at the attention kernel. `is_row_major`: q, k, v lie in memory token by token, not head by head."""

    num: int
    num_kv: int
    qk_dim: int
    v_dim: int
    is_row_major: bool


def heads_of(a: Attention) -> Heads:
    """What the kernel is called with: queries of latent attention are concatenated, and so lie head by head."""
    match a:
        case GroupedQueryAttention():
            return Heads(a.num_heads, a.num_kv_heads, a.head_dim, a.head_dim, is_row_major=True)
        case LatentAttention():
            return Heads(a.num_heads, a.num_heads, a.qk_head_dim, a.v_head_dim, is_row_major=False)
        case _:
            assert_never(a)


@dataclass(frozen=True, slots=True)
class CudaOnly:
    """Bytes that no witness without a GPU can see.

    They are in no predicted peak, but for those of flash attention where the setup counts kernel bytes.

    Attributes:
        size_bytes: None where it has to be measured.
        when: the moments at which they are live.
    """

    name: str
    size_bytes: int | None
    when: str
    source: str


def cuda_only(spec: ModelSpec, setup: TrainingSetup) -> Iterator[CudaOnly]:
    """The lines that go with a prediction."""
    if setup.attention_kernel == "flash":
        sizes = [flash_backward_bytes(heads_of(layer.attention), setup) for layer in set(spec.layers)]
        largest = max(sum(setup.rounded(size_bytes) for size_bytes in one) for one in sizes)
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
    if spec.has_experts:
        yield CudaOnly(
            "sorting rows by expert, and adding gradients by index",
            None,
            "forward and backward of experts",
            "torch aten/src/ATen/native/cuda/Sort.cu; Indexing.cu, index_put_with_sort_kernel",
        )
    yield CudaOnly(
        "CUDA context",
        None,
        "always, outside the allocator",
        "torch.cuda.mem_get_info, less what the allocator reserves",
    )


def flash_backward_bytes(heads: Heads, setup: TrainingSetup) -> tuple[int, ...]:
    """Row sums and the gradient of q in fp32, both padded; keys' and values' gradients for every query head.

    From the source named in `cuda_only`.
    """
    rows = setup.micro_batch * heads.num * _padded(setup.seq_len, 128)
    padded_dim = _padded(heads.qk_dim, 32 if heads.qk_dim <= 128 else 64)
    expanded = setup.tokens * heads.num * heads.qk_dim * setup.itemsize
    grouped = (expanded, expanded) if heads.num_kv < heads.num else ()
    return (rows * ops.FP32, rows * padded_dim * ops.FP32, *grouped)


def _padded(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
