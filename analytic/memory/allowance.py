"""What a GPU holds that a predicted peak does not count: the allowance, line by line, each with its source.

These are estimates, not predictions. The formula of `megatron-te` counts cuBLAS workspaces itself, as torch allocates
them; the schedule of `transformers-fsdp2` and the formula of torchtitan leave them to this allowance.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from analytic.parallelism.layout import Axis, Layout
from analytic.parallelism.stacks import Stack

MIB = 2**20
_CONTEXT_BYTES = 300 * 10**6
_CUBLAS_BYTES = 32 * MIB
# One connection of one NCCL channel has a buffer for each protocol: src/init.cc, DEFAULT_BUFFSIZE, and
# DEFAULT_LL_BUFFSIZE and DEFAULT_LL128_BUFFSIZE with the constants of src/include/device.h.
_NCCL_CONNECTION_BYTES = 4 * MIB + 8 * 512 * 8 * 16 + 120 * 640 * 8 * 8
_NCCL_CHANNELS = 24
_FRAGMENTATION = 0.030  # median of reserved / allocated - 1 over the published peaks that state both


@dataclass(frozen=True, slots=True)
class AllowanceLine:
    """Bytes that are kept free, for what, and where the figure comes from."""

    name: str
    size_bytes: int
    source: str


def allowance(stack: Stack, layout: Layout, peak_bytes: int, *, has_experts: bool) -> tuple[AllowanceLine, ...]:
    """The lines of one rank whose predicted peak is `peak_bytes`."""
    source = f"{_FRAGMENTATION:.1%} of the peak: median of reserved over allocated in 21 published runs"
    fragmentation = AllowanceLine("fragmentation", round(_FRAGMENTATION * peak_bytes), source)
    return (*_lasting(stack, communicators(layout, has_experts=has_experts)), fragmentation)


@cache
def _lasting(stack: Stack, groups: int) -> tuple[AllowanceLine, ...]:
    """The lines that no peak changes."""
    lines = [
        AllowanceLine("CUDA context", _CONTEXT_BYTES, "about 300 MB with lazy loading: pytorch/pytorch issue 107667"),
        AllowanceLine(
            "NCCL buffers",
            groups * _NCCL_CHANNELS * _NCCL_CONNECTION_BYTES,
            f"{groups} communicators x {_NCCL_CHANNELS} channels (8 H100 in a node: NVIDIA/nccl issue 1367) x "
            f"{_NCCL_CONNECTION_BYTES / MIB:.2f} MiB (src/init.cc, computeBuffSizes)",
        ),
    ]
    if stack != "megatron-te":
        source = "compute capability 9.0: torch aten/src/ATen/cuda/CublasHandlePool.cpp, parseChosenWorkspaceSize"
        lines.insert(1, AllowanceLine("cuBLAS workspace", _CUBLAS_BYTES, source))
    return tuple(lines)


def communicators(layout: Layout, *, has_experts: bool) -> int:
    """NCCL communicators of a rank: one for each group of more than one rank, and one of the whole world.

    Context parallelism exchanges keys and values over a group of its own, and shards parameters with dp_shard.

    >>> communicators(Layout(), has_experts=False), communicators(Layout(dp_shard=4, tp=2), has_experts=False)
    (0, 3)
    """
    axes: tuple[Axis, ...] = ("dp_replicate", "tp", "pp", "cp", "ep", "etp")
    sizes: list[int] = [getattr(layout, axis) for axis in axes] + [layout.dp_shard * layout.cp]
    if has_experts and layout.ep * layout.etp > 1:
        sizes.append(layout.efsdp)
    return sum(int(size > 1) for size in sizes) + int(layout.num_gpus > 1)
