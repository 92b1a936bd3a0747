"""The one description of a model that every formula and every builder reads.

Shapes live in `ModelSpec`; what changes outputs but no count (epsilons, the rotary base, how a
router scores) lives in `Numerics`, which only builders read. Attention kinds and feed-forward
kinds are closed unions of frozen dataclasses: a formula `match`es on them and ends in
`assert_never`, so that the type checker lists every formula that a new kind still lacks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from enum import StrEnum
from functools import cached_property
from itertools import groupby
from typing import Literal

from analytic.errors import SpecError

MAX_LAYERS = 10_000
MAX_DIMENSION = 2**24  # 64 times the widest vocabulary published; keeps every tensor below 2**63 elements


def _check_dimensions(described: object, *, may_be_zero: frozenset[str] = frozenset()) -> None:
    """Every int field of a dataclass is a dimension: positive (or zero where allowed) and not absurd."""
    for field in fields(described):  # type: ignore[arg-type]  # callers pass dataclass instances
        value = getattr(described, field.name)
        if type(value) is not int:
            continue
        least = 0 if field.name in may_be_zero else 1
        if not least <= value <= MAX_DIMENSION:
            raise SpecError(f"{field.name} = {value}: expected an integer from {least} to {MAX_DIMENSION}")


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupedQueryAttention:
    """Multi-head attention whose keys and values are shared by groups of query heads (arXiv:2305.13245).

    Multi-head attention is `num_kv_heads == num_heads`, multi-query attention is `num_kv_heads == 1`.
    `qk_norm` is an RMSNorm over `head_dim` on every query and key head (Qwen3). `sliding_window` is
    how many positions, its own included, a query sees; None is all of them.
    """

    num_heads: int
    num_kv_heads: int
    head_dim: int
    qkv_bias: bool = False
    output_bias: bool = False
    qk_norm: bool = False
    sliding_window: int | None = None

    def __post_init__(self) -> None:
        _check_dimensions(self)
        if self.num_heads % self.num_kv_heads:
            raise SpecError(f"num_heads = {self.num_heads}: expected a multiple of num_kv_heads = {self.num_kv_heads}")

    @property
    def kind(self) -> str:
        if self.num_kv_heads == self.num_heads:
            return "mha"
        return "mqa" if self.num_kv_heads == 1 else "gqa"

    @property
    def score_width(self) -> int:
        """Multiply-adds of QK^T and PV for one pair of positions: heads * (d_qk + d_v)."""
        return self.num_heads * 2 * self.head_dim


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentAttention:
    """Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434, section 2.1).

    Queries and keys have `qk_nope_head_dim + qk_rope_head_dim` features a head, values `v_head_dim`.
    Keys and values are expanded from one latent vector of `kv_lora_rank`; queries from one of
    `q_lora_rank`, or straight from the hidden state where that is None (DeepSeek-V2-Lite). `bias`
    is on the two down-projections and the output projection, where `transformers` puts it.
    """

    num_heads: int
    q_lora_rank: int | None
    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int
    bias: bool = False

    def __post_init__(self) -> None:
        _check_dimensions(self)
        if self.qk_rope_head_dim % 2:
            raise SpecError(f"qk_rope_head_dim = {self.qk_rope_head_dim}: expected an even number")

    @property
    def kind(self) -> str:
        return "mla"

    @property
    def qk_head_dim(self) -> int:
        return self.qk_nope_head_dim + self.qk_rope_head_dim

    @property
    def sliding_window(self) -> None:
        """No published model restricts latent attention to a window."""
        return None

    @property
    def score_width(self) -> int:
        """Multiply-adds of QK^T and PV for one pair of positions: heads * (d_qk + d_v)."""
        return self.num_heads * (self.qk_head_dim + self.v_head_dim)


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseFfn:
    """A feed-forward network: down(act(gate x) * up x) if gated (arXiv:2002.05202), else down(act(up x))."""

    intermediate_size: int
    gated: bool = True
    bias: bool = False

    def __post_init__(self) -> None:
        _check_dimensions(self)

    @property
    def kind(self) -> str:
        return "dense"


@dataclass(frozen=True, slots=True, kw_only=True)
class MoeFfn:
    """A router, `num_experts` gated experts of which each token visits some, and shared ones that all visit.

    The shared experts are one gated network of `shared_intermediate_size` (0: none), as `transformers`
    builds them. `router_bias_buffer`: DeepSeek-V3's `e_score_correction_bias`, one value an expert,
    adjusted outside the optimizer and so a buffer, not a parameter (arXiv:2412.19437, section 2.1.2).
    """

    num_experts: int
    num_experts_per_token: int
    expert_intermediate_size: int
    shared_intermediate_size: int = 0
    router_bias_buffer: bool = False

    def __post_init__(self) -> None:
        _check_dimensions(self, may_be_zero=frozenset({"shared_intermediate_size"}))
        if self.num_experts_per_token > self.num_experts:
            raise SpecError(
                f"num_experts_per_token = {self.num_experts_per_token}: "
                f"expected at most num_experts = {self.num_experts}"
            )

    @property
    def kind(self) -> str:
        return "moe"

    @property
    def shared(self) -> DenseFfn | None:
        """The shared experts as the one dense network that they are."""
        return DenseFfn(intermediate_size=self.shared_intermediate_size) if self.shared_intermediate_size else None


Attention = GroupedQueryAttention | LatentAttention
FeedForward = DenseFfn | MoeFfn


@dataclass(frozen=True, slots=True, kw_only=True)
class Norm:
    """RMSNorm (arXiv:1910.07467; a weight) or LayerNorm (arXiv:1607.06450; a weight and a bias)."""

    kind: Literal["rms", "layer"] = "rms"


class NormSlot(StrEnum):
    """Where a layer normalizes. The value is the canonical name of its parameter: Llama's."""

    BEFORE_ATTENTION = "input_layernorm"
    BEFORE_FFN = "post_attention_layernorm"


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSpec:
    """One decoder layer. `residual_dropout`: a dropout between the feed-forward network and the residual."""

    attention: Attention
    ffn: FeedForward
    norm: Norm = Norm()
    norm_slots: tuple[NormSlot, ...] = (NormSlot.BEFORE_ATTENTION, NormSlot.BEFORE_FFN)
    residual_dropout: bool = False

    @property
    def kind(self) -> str:
        """`gqa+dense`, `mla+moe` and so on, for print."""
        return f"{self.attention.kind}+{self.ffn.kind}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRun:
    """`count` equal layers in a row, the first at index `first`."""

    first: int
    count: int
    layer: LayerSpec

    @property
    def label(self) -> str:
        """`3-60`, or `3` for a single layer."""
        return str(self.first) if self.count == 1 else f"{self.first}-{self.first + self.count - 1}"

    @property
    def indices(self) -> range:
        return range(self.first, self.first + self.count)


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """A decoder-only language model: embedding, layers in depth order, final norm, output head.

    `num_positions` is the number of rows of a learned position table: zero under rotary embeddings.
    `mtp_layers` are DeepSeek-V3's multi-token-prediction layers (arXiv:2412.19437, section 2.2): an
    extra that no count includes unless it says so.
    """

    hidden_size: int
    vocab_size: int
    layers: tuple[LayerSpec, ...]
    final_norm: Norm = Norm()
    tie_word_embeddings: bool = False
    num_positions: int = 0
    mtp_layers: tuple[LayerSpec, ...] = ()

    def __post_init__(self) -> None:
        _check_dimensions(self, may_be_zero=frozenset({"num_positions"}))
        if not 1 <= len(self.layers) <= MAX_LAYERS:
            raise SpecError(f"layers = {len(self.layers)}: expected from 1 to {MAX_LAYERS}")
        for layer in set(self.layers):
            attention = layer.attention
            if isinstance(attention, GroupedQueryAttention) and not self.num_positions and attention.head_dim % 2:
                raise SpecError(
                    f"head_dim = {attention.head_dim}: expected an even number, as rotary embeddings turn pairs"
                )

    @cached_property
    def runs(self) -> tuple[LayerRun, ...]:
        """The layers as runs of equal ones, in depth order."""
        return tuple(self._runs())

    def _runs(self) -> Iterator[LayerRun]:
        first = 0
        for layer, equal in groupby(self.layers):
            count = sum(1 for _ in equal)
            yield LayerRun(first=first, count=count, layer=layer)
            first += count


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """How a router turns logits into weights; none of it changes a count.

    `num_groups` > 1 is group-limited routing: experts outside the best `groups_per_token` groups are
    masked, a group's score being its best expert (`max`, DeepSeek-V2) or the sum of its two best
    (`top2`, DeepSeek-V3). `normalize` divides the chosen weights by their sum; `scale` multiplies them.
    """

    scoring: Literal["softmax", "sigmoid"] = "softmax"
    normalize: bool = True
    scale: float = 1.0
    num_groups: int = 1
    groups_per_token: int = 1
    group_score: Literal["max", "top2"] = "max"
    fp32_logits: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Numerics:
    """What builders need beyond shapes. `rope_type` other than `default` is a scaling variant."""

    norm_eps: float = 1e-6
    latent_norm_eps: float = 1e-6
    rope_theta: float = 10_000.0
    rope_type: str = "default"
    rope_interleaved: bool = False
    activation: str = "silu"
    routing: Routing = Routing()
