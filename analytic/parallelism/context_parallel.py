"""Context parallelism: what ranks that share a sequence send around, and the attention FLOPs of each.

For torch's ring attention (torch 2.15, `torch.distributed.tensor.experimental._context_parallel._attention`), on the
idea of arXiv:2310.01889. The sequence is cut into 2 cp chunks and rank r holds chunks r and 2 cp - 1 - r, so that each
rank computes the same part of causal attention. Keys and values go around the ring; in backward their gradients do so,
too, in fp32.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, assert_never

from analytic.errors import UsageError
from analytic.model.breakdown import Breakdown
from analytic.model.flops import doubled_pairs
from analytic.model.optimizer import FP32_BYTES
from analytic.model.spec import Attention, GroupedQueryAttention, LatentAttention, ModelSpec
from analytic.model.training import TrainingSetup
from analytic.parallelism.communication import Collective
from analytic.parallelism.layout import Layout

# How keys and values reach the other ranks: one hop at a time, or all at once. Their gradients always hop.
Rotation = Literal["alltoall", "allgather"]
CHUNKS_PER_RANK = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class RingAttention:
    """Causal attention of one layer over `ranks` ranks, load-balanced; on one rank, forward and backward.

    Attributes:
        tokens: of one rank in one sequence, S / cp. batch: sequences.
        key_value_width: elements of keys and values of one token.
        score_width: multiply-adds of QK^T and PV for one pair of positions.

    >>> ring = RingAttention(ranks=8, batch=1, tokens=1024, key_value_width=2 * 8 * 128, score_width=2 * 32 * 128)
    >>> [one.size_bytes for one in ring.forward(itemsize=2, rotation="alltoall", module="layers.0.self_attn")]
    [29360128]
    """

    ranks: int
    batch: int
    tokens: int
    key_value_width: int
    score_width: int

    @property
    def _key_values(self) -> int:
        return self.batch * self.tokens * self.key_value_width

    def forward(self, *, itemsize: int, rotation: Rotation, module: str) -> tuple[Collective, ...]:
        """Keys and values make cp - 1 hops, or are gathered once."""
        return self._rotated(self._key_values * itemsize, rotation, module)

    def backward(self, *, itemsize: int, rotation: Rotation, module: str) -> tuple[Collective, ...]:
        """The same again, and cp hops of the gradients of keys and values, which so come home."""
        if self.ranks == 1:
            return ()
        gradients = self._collective("all_to_all", module, self.ranks, self._key_values * FP32_BYTES)
        return *self._rotated(self._key_values * itemsize, rotation, module), gradients

    @property
    def forward_flops(self) -> int:
        """QK^T and PV: the rank's own keys in full, of those of each other rank one half.

        It is either all queries with half of the keys, or half of the queries with all keys.
        """
        own = 2 * self.batch * self.tokens**2 * self.score_width
        return own + (self.ranks - 1) * own // 2

    @property
    def causal_flops(self) -> int:
        """The pairs of positions that a causal mask lets through, in the whole sequence on all ranks."""
        return self.batch * doubled_pairs(self.ranks * self.tokens, "causal") * self.score_width

    @property
    def excess_flops(self) -> int:
        """How much more the ranks compute than the causal mask needs: the masked half of each rank's own block."""
        return self.ranks * self.forward_flops - self.causal_flops

    def _rotated(self, size_bytes: int, rotation: Rotation, module: str) -> tuple[Collective, ...]:
        if self.ranks == 1:
            return ()
        match rotation:
            case "alltoall":
                return (self._collective("all_to_all", module, self.ranks - 1, size_bytes),)
            case "allgather":
                return (self._collective("all_gather", module, 1, self.ranks * size_bytes),)
            case _:
                assert_never(rotation)

    def _collective(
        self, kind: Literal["all_to_all", "all_gather"], module: str, count: int, size_bytes: int
    ) -> Collective:
        return Collective(
            axis="cp", kind=kind, module=module, group_size=self.ranks, count=count, size_bytes=count * size_bytes
        )


def ring_attention(attention: Attention, setup: TrainingSetup, layout: Layout) -> RingAttention:
    """The ring of one layer's attention.

    Raises:
        UsageError: a sequence that does not split into two chunks a rank, heads that tensor parallelism does not
            divide, or a sliding window, which torch's ring does not know.
    """
    chunks = CHUNKS_PER_RANK * layout.cp
    if setup.seq_len % chunks:
        raise UsageError(f"cp = {layout.cp}: expected seq_len = {setup.seq_len} to be a multiple of 2 x cp = {chunks}")
    if attention.sliding_window is not None and setup.seq_len >= attention.sliding_window:
        raise UsageError(f"cp = {layout.cp}: torch's ring attention has no sliding window: expected cp = 1")
    heads, width = _key_values(attention)
    if heads % layout.tp:
        raise UsageError(f"tp = {layout.tp}: expected a divisor of {heads} key-value heads")
    return RingAttention(
        ranks=layout.cp,
        batch=setup.micro_batch,
        tokens=setup.seq_len // layout.cp,
        key_value_width=heads // layout.tp * width,
        score_width=attention.score_width // layout.tp,
    )


def context_collectives(
    spec: ModelSpec, setup: TrainingSetup, layout: Layout, rotation: Rotation = "allgather"
) -> tuple[Collective, ...]:
    """What one rank moves in a step, by run of equal layers; `allgather` is torch's default.

    Under checkpointing, attention runs forward twice.
    """
    forward_passes = 2 if setup.checkpointing == "full" else 1
    found = []
    for run in spec.runs:
        ring, module = ring_attention(run.layer.attention, setup, layout), f"layers.{run.label}.self_attn"
        forward = ring.forward(itemsize=setup.itemsize, rotation=rotation, module=module)
        backward = ring.backward(itemsize=setup.itemsize, rotation=rotation, module=module)
        for one, passes in (*((c, forward_passes) for c in forward), *((c, 1) for c in backward)):
            times = passes * run.count * layout.micro_batches
            found.append(replace(one, count=times * one.count, size_bytes=times * one.size_bytes))
    return tuple(found)


def excess_by_layer(spec: ModelSpec, setup: TrainingSetup, layout: Layout) -> Breakdown:
    """FLOPs that the ranks compute forward beyond what the causal mask needs, of one micro-batch, by run of layers."""
    terms = {
        f"layers.{run.label}.self_attn": run.count * ring_attention(run.layer.attention, setup, layout).excess_flops
        for run in spec.runs
    }
    return Breakdown("flops", terms)


def _key_values(attention: Attention) -> tuple[int, int]:
    """Heads of keys and values as the kernel gets them, and the elements of a key and a value together."""
    match attention:
        case GroupedQueryAttention(num_kv_heads=heads, head_dim=dim):
            return heads, 2 * dim
        case LatentAttention(num_heads=heads):
            return heads, attention.qk_head_dim + attention.v_head_dim
        case _:
            assert_never(attention)
