"""The one description of a model that every formula and every builder reads.

Shapes live in `ModelSpec`; what changes outputs but no count (epsilons, the rotary base, how a
router scores) lives in `Numerics`, which only builders read. Attention kinds and feed-forward
kinds are closed unions of frozen dataclasses: a formula `match`es on them and ends in
`assert_never`, so that the type checker lists every formula that a new kind still lacks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from functools import cached_property
from itertools import groupby
from typing import ClassVar, Literal

from analytic.errors import SpecError
from analytic.limits import MAX_DIMENSION, MAX_LAYERS


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
class Norm:
    """RMSNorm (arXiv:1910.07467) or LayerNorm (arXiv:1607.06450), and which parameters it has.

    A LayerNorm has a weight and a bias as published; Cohere's has no bias, OLMo's neither (arXiv:2402.00838,
    section 2.1).
    """

    kind: Literal["rms", "layer"] = "rms"
    weight: bool = True
    bias: bool = False


RMS_NORM = Norm()
LAYER_NORM = Norm(kind="layer", bias=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class QkNorm:
    """A norm on queries and on keys.

    `head`: one vector of `head_dim` serves every head (Qwen3). `all_heads`: every head has its own
    (OLMo-2, which normalizes over all heads at once, and Cohere, over each, alike in their counts).
    """

    norm: Norm = RMS_NORM
    span: Literal["head", "all_heads"] = "head"


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupedQueryAttention:
    """Multi-head attention whose keys and values are shared by groups of query heads (arXiv:2305.13245).

    Multi-head attention is `num_kv_heads == num_heads`, multi-query attention is `num_kv_heads == 1`.
    `sinks`: a learned logit a head, to which no value belongs (gpt-oss, arXiv:2508.10925, section 2.3).
    `sliding_window` is how many positions, its own included, a query sees; None is all of them.
    """

    num_heads: int
    num_kv_heads: int
    head_dim: int
    qkv_bias: bool = False
    output_bias: bool = False
    qk_norm: QkNorm | None = None
    sinks: bool = False
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
    kind: ClassVar[str] = "mla"
    sliding_window: ClassVar[None] = None  # no published model restricts it to a window

    def __post_init__(self) -> None:
        _check_dimensions(self)
        if self.qk_rope_head_dim % 2:
            raise SpecError(f"qk_rope_head_dim = {self.qk_rope_head_dim}: expected an even number")

    @property
    def qk_head_dim(self) -> int:
        return self.qk_nope_head_dim + self.qk_rope_head_dim

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
    kind: ClassVar[str] = "dense"

    def __post_init__(self) -> None:
        _check_dimensions(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class MoeFfn:
    """A router, `num_experts` gated experts of which each token visits some, and shared ones that all visit.

    Attributes:
        shared: the shared experts, as `transformers` builds them: one network as wide as all of them.
        shared_first: they run before the routed ones, so that recomputation does not end with them.
        shared_gate: a sigmoid of one product with the hidden state scales their output (Qwen1.5-MoE).
        expert_bias, router_bias: biases on both expert matrices, and on the router (gpt-oss).
        score_correction: DeepSeek-V3's `e_score_correction_bias`, one value an expert, adjusted outside
            the optimizer and so a buffer (arXiv:2412.19437, section 2.1.2); ERNIE 4.5's class holds it as
            a parameter.
    """

    num_experts: int
    num_experts_per_token: int
    expert_intermediate_size: int
    shared: DenseFfn | None = None
    shared_first: bool = False
    shared_gate: bool = False
    expert_bias: bool = False
    router_bias: bool = False
    score_correction: Literal["buffer", "parameter"] | None = None
    kind: ClassVar[str] = "moe"

    def __post_init__(self) -> None:
        _check_dimensions(self)
        if self.num_experts_per_token > self.num_experts:
            raise SpecError(
                f"num_experts_per_token = {self.num_experts_per_token}: "
                f"expected at most num_experts = {self.num_experts}"
            )
        if self.shared_gate and self.shared is None:
            raise SpecError("shared_gate = true: expected shared experts")


Attention = GroupedQueryAttention | LatentAttention
FeedForward = DenseFfn | MoeFfn


class NormSlot(StrEnum):
    """Where a layer normalizes. The value is the canonical name of its parameters: Llama's and GLM-4's.

    A norm after a network comes before its residual addition (Gemma 2) or after it (OPT-350m): one count.
    """

    BEFORE_ATTENTION = "input_layernorm"
    BEFORE_FFN = "post_attention_layernorm"
    AFTER_ATTENTION = "post_self_attn_layernorm"
    AFTER_FFN = "post_mlp_layernorm"


PRE_NORM = (NormSlot.BEFORE_ATTENTION, NormSlot.BEFORE_FFN)
POST_NORM = (NormSlot.AFTER_ATTENTION, NormSlot.AFTER_FFN)
SANDWICH_NORM = (*PRE_NORM, *POST_NORM)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSpec:
    """One decoder layer.

    Attributes:
        parallel: attention and feed-forward network both read the layer's input (GPT-J, PaLM), one norm
            for both where `norm_slots` has one.
        residual_dropout: a dropout between the feed-forward network and the residual.
    """

    attention: Attention
    ffn: FeedForward
    norm: Norm = RMS_NORM
    norm_slots: tuple[NormSlot, ...] = PRE_NORM
    parallel: bool = False
    residual_dropout: bool = False

    @property
    def has_experts(self) -> bool:
        return isinstance(self.ffn, MoeFfn)

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

    Attributes:
        final_norm: None where the last layer normalizes its own output (OPT-350m).
        embedding_norm: a norm on the embeddings (BLOOM).
        embedding_size: width of embedding and head where two matrices without bias lead from it to
            `hidden_size` and back (OPT-350m); None is `hidden_size` itself.
        head_bias: a bias on the output head (Phi).
        num_positions: positions of a learned table, zero under rotary embeddings. `unused_positions`: rows
            of that table before the first position (OPT has two).
        has_rotary: rotary embeddings, which turn pairs of features; without them and without a table, a bias
            on scores that has no parameters (ALiBi, arXiv:2108.12409).
        mtp_layers: DeepSeek-V3's multi-token-prediction layers (arXiv:2412.19437, section 2.2), an extra that
            no count includes unless it says so.
    """

    hidden_size: int
    vocab_size: int
    layers: tuple[LayerSpec, ...]
    final_norm: Norm | None = RMS_NORM
    embedding_norm: Norm | None = None
    embedding_size: int | None = None
    head_bias: bool = False
    tie_word_embeddings: bool = False
    num_positions: int = 0
    unused_positions: int = 0
    has_rotary: bool = True
    mtp_layers: tuple[LayerSpec, ...] = ()

    def __post_init__(self) -> None:
        _check_dimensions(self, may_be_zero=frozenset({"num_positions", "unused_positions"}))
        if not 1 <= len(self.layers) <= MAX_LAYERS:
            raise SpecError(f"layers = {len(self.layers)}: expected from 1 to {MAX_LAYERS}")
        for layer in set(self.layers):
            attention = layer.attention
            if isinstance(attention, GroupedQueryAttention) and self.has_rotary and attention.head_dim % 2:
                raise SpecError(
                    f"head_dim = {attention.head_dim}: expected an even number, as rotary embeddings turn pairs"
                )

    def __hash__(self) -> int:  # of all layers it would take longer than what is looked up by it
        return hash((self.hidden_size, self.vocab_size, len(self.layers), self.layers[-1]))

    @property
    def embedding_width(self) -> int:
        """Features of the embedding and of the head."""
        return self.hidden_size if self.embedding_size is None else self.embedding_size

    @property
    def has_experts(self) -> bool:
        """Whether any layer is a mixture of experts."""
        return any(run.layer.has_experts for run in self.runs)

    @cached_property
    def kinds(self) -> Mapping[LayerSpec, LayerRun]:
        """Each kind of layer, and the first run of it. The last is the kind of the model's last layer."""
        first = {run.layer: run for run in reversed(self.runs)}
        return dict(reversed(first.items()))

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
