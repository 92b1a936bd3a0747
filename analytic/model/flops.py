"""How many FLOPs the matrix products of a model take, by module.

A multiply-add is 2 FLOPs. Counted: projections, QK^T and PV, router, experts, output head.
Excluded: softmax, norms, rotary embeddings, activations, and the embedding look-up, which is no
product. Terms are module paths, children excluded: `self_attn` itself is QK^T and PV.

Attention conventions:
    full: the whole S x S square (PaLM, arXiv:2204.02311, appendix B), which eager and sdpa execute.
    causal: the pairs that the mask lets through, S (S + 1) / 2, or fewer in a sliding window.
    half: S^2 / 2, the literature's "causal half" (FlashAttention-2, arXiv:2307.08691, section 4.1).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal, assert_never

from analytic.model.breakdown import Breakdown
from analytic.model.checkpointing import Checkpointing, recomputation
from analytic.model.params import (
    attention_matrices,
    dense_matrices,
    embedding_matrices,
    expert_matrices,
)
from analytic.model.spec import Attention, DenseFfn, FeedForward, LayerSpec, ModelSpec, MoeFfn

AttentionConvention = Literal["full", "causal", "half"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingFlops:
    """FLOPs of one training step on `tokens` tokens.

    Attributes:
        forward: one forward pass. backward: twice that, for the gradients of both factors.
        recompute, recompute_executed: the layers' forward passes again under checkpointing, as textbooks
            count it and as torch executes it (`Recomputation`).
    """

    tokens: int
    forward: int
    backward: int
    recompute: int
    recompute_executed: int

    @property
    def model_flops(self) -> int:
        """Forward and backward: the FLOPs of an MFU."""
        return self.forward + self.backward

    @property
    def hardware_flops(self) -> int:
        """Model FLOPs and executed recomputation: the FLOPs of an HFU."""
        return self.model_flops + self.recompute_executed

    @property
    def training_per_token(self) -> int:
        """Model FLOPs per token: an integer, as every term is a multiple of the sequence length."""
        return self.model_flops // self.tokens


def doubled_pairs(seq_len: int, convention: AttentionConvention, window: int | None = None) -> int:
    """Twice the number of (query, key) pairs that are counted in one sequence.

    >>> doubled_pairs(4, "full"), doubled_pairs(4, "causal"), doubled_pairs(4, "half")
    (32, 20, 16)
    >>> doubled_pairs(4, "full", window=2), doubled_pairs(4, "causal", window=2)
    (32, 14)
    """
    s, w = seq_len, min(seq_len, window or seq_len)
    match convention:
        case "full":
            return 2 * s * s
        case "causal":  # a query sees min(position, window) keys
            return w * (w + 1) + 2 * (s - w) * w
        case "half":
            return w * w + 2 * (s - w) * w
        case _:
            assert_never(convention)


def attention_flops(a: Attention, hidden_size: int, seq_len: int, convention: AttentionConvention) -> Breakdown:
    """One layer's attention, one sequence, forward; the empty term is QK^T and PV.

    >>> from analytic.model.spec import GroupedQueryAttention
    >>> attention = GroupedQueryAttention(num_heads=8, num_kv_heads=2, head_dim=32)
    >>> attention_flops(attention, 256, 64, "full")[""] == 4 * 64 * 64 * 8 * 32
    True
    """
    score = doubled_pairs(seq_len, convention, a.sliding_window) * a.score_width
    return Breakdown("flops", {"": score}) + _products(attention_matrices(a, hidden_size), seq_len)


def ffn_flops(f: FeedForward, hidden_size: int, tokens: int) -> Breakdown:
    """One layer's feed-forward network, forward: for an MoE the visited experts, the shared ones, the router."""
    match f:
        case DenseFfn():
            return _products(dense_matrices(f, hidden_size), tokens)
        case MoeFfn():
            visited = sum(expert_matrices(f, hidden_size, f.num_experts_per_token).values())
            gate = {"shared_expert_gate": hidden_size} if f.shared_gate else {}
            result = _products({"gate": hidden_size * f.num_experts, "experts": visited} | gate, tokens)
            if f.shared is not None:
                result += ffn_flops(f.shared, hidden_size, tokens).under("shared_experts")
            return result
        case _:
            assert_never(f)


def layer_flops(layer: LayerSpec, hidden_size: int, seq_len: int, convention: AttentionConvention) -> Breakdown:
    """One decoder layer, one sequence, forward."""
    attention = attention_flops(layer.attention, hidden_size, seq_len, convention)
    return attention.under("self_attn") + ffn_flops(layer.ffn, hidden_size, seq_len).under("mlp")


def forward_flops(
    spec: ModelSpec, seq_len: int, convention: AttentionConvention = "full", *, mtp: bool = False
) -> Breakdown:
    """The whole model, one sequence, forward, by run of equal layers; multi-token prediction only with `mtp`."""
    total = Breakdown("flops", {})
    for run in spec.runs:
        one = layer_flops(run.layer, spec.hidden_size, seq_len, convention)
        total += one.times(run.count).under(f"layers.{run.label}")
    total += head_flops(spec, seq_len) + _products(embedding_matrices(spec), seq_len)
    return total + mtp_flops(spec, seq_len, convention) if mtp else total


def head_flops(spec: ModelSpec, seq_len: int) -> Breakdown:
    """The output head, tied or not: logits of every position."""
    return _products({"lm_head": spec.embedding_width * spec.vocab_size}, seq_len)


def mtp_flops(spec: ModelSpec, seq_len: int, convention: AttentionConvention = "full") -> Breakdown:
    """The multi-token-prediction layers, one sequence, forward: projection, layer and the shared head of each."""
    h = spec.hidden_size
    total = Breakdown("flops", {})
    for i, layer in enumerate(spec.mtp_layers):
        block = layer_flops(layer, h, seq_len, convention).under("mtp_block")
        total += (_products({"eh_proj": 2 * h * h}, seq_len) + block + head_flops(spec, seq_len)).under(f"mtp.{i}")
    return total


def training_flops(
    spec: ModelSpec,
    *,
    seq_len: int,
    batch_size: int = 1,
    convention: AttentionConvention = "full",
    checkpointing: Checkpointing = "none",
    mtp: bool = False,
) -> TrainingFlops:
    """One training step: forward, backward and, under checkpointing, recomputation.

    Backward is twice forward: each product's gradient takes one product for either factor
    (arXiv:2001.08361, section 2.1). Attention kernels that recompute QK^T in their backward pass
    (flash) execute more; that is not model FLOPs.
    """
    forward = forward_flops(spec, seq_len, convention, mtp=mtp).total
    recompute = executed = 0
    for layer, count in Counter(spec.layers + (spec.mtp_layers if mtp else ())).items():
        one = layer_flops(layer, spec.hidden_size, seq_len, convention)
        again = recomputation(checkpointing, layer, one)
        recompute += again.textbook * count
        executed += again.executed * count
    return TrainingFlops(
        tokens=batch_size * seq_len,
        forward=forward * batch_size,
        backward=2 * forward * batch_size,
        recompute=recompute * batch_size,
        recompute_executed=executed * batch_size,
    )


def _products(matrices: dict[str, int], tokens: int) -> Breakdown:
    """Each weight of a matrix meets each token in one multiply-add."""
    return Breakdown("flops", {name: 2 * weights * tokens for name, weights in matrices.items()})
