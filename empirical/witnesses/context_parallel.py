"""torch's ring attention on one rank of a simulated world: what it moves and computes.

ring = RingCase(ranks=8, rank=3, batch=1, heads=32, kv_heads=8, tokens=1024, head_dim=128, rotation="alltoall")
(seen,) = in_own_process(observe_ring, [ring])
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor.experimental._context_parallel import _attention as ring_attention

from analytic.parallelism.communication import Collective
from analytic.parallelism.context_parallel import Rotation
from empirical.models.meta_world import checked, start_world
from empirical.witnesses.communication import CollectiveCounter
from empirical.witnesses.local_flops import LocalFlops
from empirical.witnesses.running_module import RunningModule

_MODULE = "torch.distributed.tensor.experimental._context_parallel._attention"
# private functions of torch, and the arguments for which they are called here
_SIGNATURES = {
    "set_rotate_method": "(rotate_method)",
    "_scaled_dot_product_ring_flash_attention": (
        "(mesh, query, key, value, dropout_p=0.0, is_causal=False, return_debug_mask=False, *, scale=None)"
    ),
    "_scaled_dot_product_ring_flash_attention_backward": (
        "(mesh, grad_out, query, key, value, out, logsumexp, cum_seq_q, cum_seq_k, max_q, max_k, dropout_p, is_causal, "
        "philox_seed, philox_offset, *, scale=None)"
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RingCase:
    """Causal attention of one layer over `ranks` ranks; `tokens` are those of one rank in one sequence."""

    ranks: int
    rank: int
    batch: int
    heads: int
    kv_heads: int
    tokens: int
    head_dim: int
    rotation: Rotation
    dtype: torch.dtype = torch.bfloat16


@dataclass(frozen=True, slots=True)
class RingObservation:
    """Collectives of the forward and of the backward pass, and the FLOPs of the forward pass."""

    forward: tuple[Collective, ...]
    backward: tuple[Collective, ...]
    forward_flops: int


def observe_ring(case: RingCase) -> RingObservation:
    """One forward and backward pass of a rank. To be run in a process of its own, or of other cases of that rank."""
    if not dist.is_initialized():
        start_world(case.ranks, case.rank)
    mesh = init_device_mesh("meta", (case.ranks,))
    axes = {str(mesh.get_group().group_name): "cp"}

    def tensor(heads: int) -> torch.Tensor:
        return torch.empty(case.batch, heads, case.tokens, case.head_dim, dtype=case.dtype, device="meta")

    q, k, v = tensor(case.heads), tensor(case.kv_heads), tensor(case.kv_heads)
    set_rotation, ring, ring_backward = (checked(f"{_MODULE}:{name}", it) for name, it in _SIGNATURES.items())
    ring_attention._cp_options.enable_load_balance = True
    set_rotation(case.rotation)
    with torch.no_grad():
        counter, flops = _counter(axes), LocalFlops()
        with counter, flops:
            out, logsumexp, *rest = ring(mesh, q, k, v, is_causal=True)
        forward, forward_flops = counter.collectives, flops.total
        counter, grad = _counter(axes), torch.empty_like(out)
        lengths, (seed, offset) = rest[:4], rest[4:6]
        with counter:
            ring_backward(mesh, grad, q, k, v, out, logsumexp, *lengths, 0.0, True, seed, offset)
    return RingObservation(forward, counter.collectives, forward_flops)


def _counter(axes: dict[str, str]) -> CollectiveCounter:
    return CollectiveCounter(axes, RunningModule(nn.Identity()))
