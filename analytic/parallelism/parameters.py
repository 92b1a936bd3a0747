"""The parameters of a model as tensors, as `transformers` holds them: shapes, and what tensor parallelism splits.

Names are those of `analytic.model.params`; the product of each shape is its count there. A tensor is described by
its first dimension, which FSDP and expert parallelism split, and the product of the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, assert_never, get_args

from analytic.errors import UsageError
from analytic.model.params import attention_vectors
from analytic.model.spec import (
    Attention,
    DenseFfn,
    FeedForward,
    GroupedQueryAttention,
    LatentAttention,
    LayerSpec,
    ModelSpec,
    MoeFfn,
)

Family = Literal["llama", "mistral", "qwen2", "qwen3", "mixtral", "qwen3_moe", "deepseek_v2", "deepseek_v3"]
Split = Literal["rows", "width"]

EXPERTS = "mlp.experts"


@dataclass(frozen=True, slots=True)
class ParameterTensor:
    """One parameter of `rows` x `width` elements.

    Attributes:
        split: what tensor parallelism cuts: the first dimension, one of the others, or nothing.
        is_expert: it holds routed experts, one a row.
    """

    name: str
    rows: int
    width: int
    split: Split | None = None
    is_expert: bool = False

    @property
    def numel(self) -> int:
        """Elements in all."""
        return self.rows * self.width


@dataclass(frozen=True, slots=True)
class Group:
    """Parameters that FSDP gathers and reduces together, `count` such groups in a row.

    Attributes:
        module: their dotted path, `layers.0-31`.
        prefix: of the tensors' names, in a breakdown.
        keeps_weights: gathered weights are kept after forward, whatever the layout says.
        is_alias: the tensors are stored and stepped by another group, and gathered and reduced here again.
    """

    module: str
    prefix: str
    count: int
    tensors: tuple[ParameterTensor, ...]
    keeps_weights: bool = False
    is_alias: bool = False

    @property
    def is_experts(self) -> bool:
        """Whether these are experts with a group of their own."""
        return self.tensors[0].is_expert


@dataclass(frozen=True)
class DistributedModel:
    """A model whose `transformers` class decides how it is split; tables of its parameters are made once.

    Attributes:
        family: the class, by its `model_type`: the plan of DeepSeek-V2 splits attention, that of V3 does not.

    Raises:
        UsageError: a family whose plans are not described here.
    """

    spec: ModelSpec
    family: str
    _groups: dict[bool, tuple[Group, ...]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.family not in get_args(Family):
            raise UsageError(
                f"model_type = {self.family!r}: no description of how transformers distributes it; "
                f"expected one of {', '.join(get_args(Family))}"
            )
        networks = (run.layer.ffn for run in self.spec.runs)
        if self.family.startswith("deepseek") and any(isinstance(f, MoeFfn) and f.shared is None for f in networks):
            raise UsageError("n_shared_experts = 0: transformers builds a network of width zero; expected 1 or more")

    @property
    def splits_attention(self) -> bool:
        """Whether tensor parallelism splits attention (`base_model_tp_plan`)."""
        return self.family != "deepseek_v3"

    @property
    def has_router_weights_in_fp32(self) -> bool:
        """Whether the weights of the routed experts stay in fp32, as softmax or sigmoid made them."""
        return self.family != "qwen3_moe"

    def groups(self, *, experts_apart: bool) -> tuple[Group, ...]:
        """FSDP's groups, in the order of forward: embedding, layers, final norm with the head.

        With expert parallelism each layer's experts are a group of their own. A tied embedding is with the final
        norm. Its table is gathered a second time as `lm_head`: `from_pretrained` shards the untied model and ties
        afterwards, so that the root module owns a parameter of that name, which is the embedding from then on
        (`transformers.initialization.no_tie_weights`, `FSDPParam.reset_sharded_param`).
        """
        if experts_apart not in self._groups:
            self._groups[experts_apart] = tuple(self._make_groups(experts_apart))
        return self._groups[experts_apart]

    def _make_groups(self, experts_apart: bool) -> Iterator[Group]:
        spec = self.spec
        embedding = ParameterTensor("embed_tokens", spec.vocab_size, spec.hidden_size, "rows")
        head = ParameterTensor("lm_head", spec.vocab_size, spec.hidden_size, "rows")
        norm = ParameterTensor("norm", spec.hidden_size, 1)
        if spec.tie_word_embeddings:
            yield Group("lm_head", "", 1, (head,), keeps_weights=True, is_alias=True)
        else:
            yield Group("embed_tokens", "", 1, (embedding,))
        for run in spec.runs:
            path = f"layers.{run.label}"
            tensors = tuple(layer_tensors(run.layer, spec.hidden_size, self.splits_attention))
            if experts_apart and run.layer.has_experts:
                yield Group(f"{path}.{EXPERTS}", path, run.count, tuple(t for t in tensors if t.is_expert))
                tensors = tuple(t for t in tensors if not t.is_expert)
            yield Group(path, path, run.count, tensors)
        last = embedding if spec.tie_word_embeddings else head
        yield Group(f"norm+{last.name}", "", 1, (norm, last), keeps_weights=True)


def layer_tensors(layer: LayerSpec, hidden_size: int, splits_attention: bool) -> Iterator[ParameterTensor]:
    """Parameters of one decoder layer, by the names of `layer_params`."""
    for t in _attention_tensors(layer.attention, hidden_size):
        yield ParameterTensor(f"self_attn.{t.name}", t.rows, t.width, t.split if splits_attention else None)
    for t in _ffn_tensors(layer.ffn, hidden_size):
        yield ParameterTensor(f"mlp.{t.name}", t.rows, t.width, t.split, t.is_expert)
    for slot in layer.norm_slots:
        yield ParameterTensor(slot.value, hidden_size, 1)


def _attention_tensors(a: Attention, h: int) -> Iterator[ParameterTensor]:
    match a:
        case GroupedQueryAttention(num_heads=heads, num_kv_heads=kv_heads, head_dim=d):
            yield ParameterTensor("q_proj", heads * d, h, "rows")
            yield ParameterTensor("k_proj", kv_heads * d, h, "rows")
            yield ParameterTensor("v_proj", kv_heads * d, h, "rows")
            yield ParameterTensor("o_proj", h, heads * d, "width")
        case LatentAttention(num_heads=heads, q_lora_rank=q_rank, kv_lora_rank=kv_rank):
            if q_rank is None:
                yield ParameterTensor("q_proj", heads * a.qk_head_dim, h, "rows")
            else:
                yield ParameterTensor("q_a_proj", q_rank, h)
                yield ParameterTensor("q_b_proj", heads * a.qk_head_dim, q_rank, "rows")
            yield ParameterTensor("kv_a_proj_with_mqa", kv_rank + a.qk_rope_head_dim, h)
            yield ParameterTensor("kv_b_proj", heads * (a.qk_nope_head_dim + a.v_head_dim), kv_rank, "rows")
            yield ParameterTensor("o_proj", h, heads * a.v_head_dim, "width")
        case _:
            assert_never(a)
    split_biases = ("q_proj.bias", "k_proj.bias", "v_proj.bias")
    for name, numel in attention_vectors(a, h).items():
        yield ParameterTensor(name, numel, 1, "rows" if name in split_biases else None)


def _ffn_tensors(f: FeedForward, h: int) -> Iterator[ParameterTensor]:
    match f:
        case DenseFfn():
            yield from _dense_tensors(f, h)
        case MoeFfn(num_experts=experts, expert_intermediate_size=width):
            yield ParameterTensor("gate", experts, h)
            yield ParameterTensor("experts.gate_up_proj", experts, 2 * width * h, "width", is_expert=True)
            yield ParameterTensor("experts.down_proj", experts, h * width, "width", is_expert=True)
            if f.shared is not None:
                for t in _dense_tensors(f.shared, h):
                    yield ParameterTensor(f"shared_experts.{t.name}", t.rows, t.width, t.split)
        case _:
            assert_never(f)


def _dense_tensors(f: DenseFfn, h: int) -> Iterator[ParameterTensor]:
    width = f.intermediate_size
    if f.gated:
        yield ParameterTensor("gate_proj", width, h, "rows")
    yield ParameterTensor("up_proj", width, h, "rows")
    yield ParameterTensor("down_proj", h, width, "width")
    if f.bias:
        if f.gated:
            yield ParameterTensor("gate_proj.bias", width, 1, "rows")
        yield ParameterTensor("up_proj.bias", width, 1, "rows")
        yield ParameterTensor("down_proj.bias", h, 1)
