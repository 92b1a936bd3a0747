"""The groups of parameters that FSDP2 gathers and reduces together, and what a rank holds of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from analytic.model.optimizer import FP32_BYTES
from analytic.model.params import layer_params
from analytic.model.spec import LatentAttention, LayerSpec, ModelSpec, MoeFfn
from analytic.model.training import TrainingSetup


@dataclass(frozen=True, slots=True)
class Shape:
    """Rows of a parameter, the dimension that is sharded, and elements of a row."""

    rows: int
    width: int


def layer_shapes(layer: LayerSpec, hidden_size: int) -> Iterator[Shape]:
    """Every parameter of a layer."""
    for name, numel in layer_params(layer, hidden_size).items():
        rows = _rows(name, numel, layer, hidden_size)
        yield Shape(rows, numel // rows)


def _rows(name: str, numel: int, layer: LayerSpec, hidden_size: int) -> int:
    attention, part = layer.attention, name.rpartition(".")[2]
    if isinstance(layer.ffn, MoeFfn) and name.startswith("mlp.experts."):
        return layer.ffn.num_experts
    if part.endswith("norm") or part in ("bias", "sinks"):
        return numel
    if part in ("o_proj", "down_proj"):
        return hidden_size
    if isinstance(attention, LatentAttention) and part in ("q_b_proj", "kv_b_proj"):
        rank = attention.q_lora_rank if part == "q_b_proj" else attention.kv_lora_rank
        assert rank is not None
        return numel // rank
    return numel // hidden_size


def embedding_shapes(spec: ModelSpec) -> Sequence[Shape]:
    return [Shape(spec.vocab_size, spec.hidden_size)]


def tail_shapes(spec: ModelSpec) -> Sequence[Shape]:
    return [Shape(spec.hidden_size, 1), Shape(spec.vocab_size, spec.hidden_size)]


@dataclass(frozen=True, slots=True)
class GroupBytes:
    """What one group of parameters takes, every size as the allocator rounds it.

    Attributes:
        stored_bytes: the rank's shards, padded to the size of the first. cast_bytes: the same in the type computed
            in, 0 where that is the stored one. gathered_bytes: the output of the all-gather.
        unsharded_bytes: the same, parameter by parameter. reducing_bytes: the input of the reduce-scatter.
        reduced_bytes: its output, which becomes the sharded gradients.
    """

    stored_bytes: int
    cast_bytes: int
    gathered_bytes: int
    unsharded_bytes: int
    reducing_bytes: int
    reduced_bytes: int


def group_bytes(shapes: Sequence[Shape], ranks: int, setup: TrainingSetup, *, is_mixed: bool) -> GroupBytes:
    """The sizes of a group over so many ranks.

    Args:
        is_mixed: stored and reduced in fp32, computed with in the setup's type.
    """
    computed, rounded = setup.itemsize, setup.rounded
    stored = FP32_BYTES if is_mixed else computed
    shards = [-(-shape.rows // ranks) * shape.width for shape in shapes]
    flat = sum(shards)
    return GroupBytes(
        stored_bytes=sum(rounded(numel * stored) for numel in shards),
        cast_bytes=rounded(flat * computed) if is_mixed else 0,
        gathered_bytes=rounded(ranks * flat * computed),
        unsharded_bytes=sum(rounded(ranks * numel * computed) for numel in shards),
        reducing_bytes=rounded(ranks * flat * stored),
        reduced_bytes=rounded(flat * stored),
    )
