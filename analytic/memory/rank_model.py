"""What the schedules of a model's ranks share, whatever the layout: the single GPU's schedule, and FSDP2's groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from analytic.memory.fsdp_overlay import TapeSegment, tape_segment
from analytic.memory.implementation import Implementation
from analytic.memory.model import EMBEDDING, LOSS
from analytic.memory.step import Segment, passes_of
from analytic.memory.tensors import Event
from analytic.model.optimizer import FP32_BYTES
from analytic.model.spec import ModelSpec
from analytic.model.training import TrainingSetup
from analytic.parallelism.parameters import DistributedModel, Family, ParameterTensor

GroupKey = object  # a kind of layer, or the region of the first or of the last group


@dataclass(frozen=True, slots=True)
class RankModel:
    """A model on the tape, and its parameters as FSDP2 groups them.

    Attributes:
        tape: forward and backward on one GPU.
        groups: each with how often the model has it. A tied model's first group is the head's table, which is stored
            by its last one.
        parameters: that the optimizer steps, each with how often the model has it.
    """

    tape: tuple[TapeSegment, ...]
    groups: tuple[tuple[GroupKey, tuple[ParameterTensor, ...], int], ...]
    parameters: tuple[tuple[ParameterTensor, int], ...]


@lru_cache(maxsize=64)
def rank_model(
    spec: ModelSpec, implementation: Implementation, setup: TrainingSetup, *, is_sharded: bool, is_mixed: bool
) -> RankModel:
    """Made once for a setup, without its optimizer. Under FSDP2 a tied head has a table and a gradient of its own."""
    last_module = "norm" if spec.tie_word_embeddings else "lm_head"
    on_tape = replace(spec, tie_word_embeddings=False) if is_sharded else spec
    passes: Iterable[Segment] = passes_of(on_tape, implementation, setup)
    if is_mixed:
        biases, size_bytes = _replicated_biases(implementation), setup.rounded(spec.hidden_size * FP32_BYTES)
        passes = [replace(one, events=list(_with_casts(one.events, biases, size_bytes))) for one in passes]
    tape = tuple(tape_segment(segment, last_module) for segment in passes)
    first, *layers, last = DistributedModel(spec, family_of(implementation)).groups(experts_apart=False)
    tensors: dict[GroupKey, tuple[ParameterTensor, ...]] = {EMBEDDING: first.tensors, LOSS: last.tensors}
    counts: Counter[GroupKey] = Counter(tensors.keys())
    for run, group in zip(spec.runs, layers, strict=True):
        tensors[run.layer] = group.tensors
        counts[run.layer] += group.count
    parameters: Counter[ParameterTensor] = Counter()
    for key, of_group in tensors.items():
        if not (key == EMBEDDING and first.is_alias):
            parameters.update(dict.fromkeys(of_group, counts[key]))
    groups = tuple((key, of_group, counts[key]) for key, of_group in tensors.items())
    return RankModel(tape, groups, tuple(parameters.items()))


def _replicated_biases(implementation: Implementation) -> set[str]:
    """Gradients of the biases of modules whose weight tensor parallelism splits by its width."""
    of_attention = {"self_attn.o_proj.bias.grad"} if implementation.attention_ranks > 1 else set()
    return of_attention | ({"mlp.down_proj.bias.grad"} if implementation.tp > 1 else set())


def _with_casts(events: Iterable[Event], names: set[str], size_bytes: int) -> Iterator[Event]:
    """Gradients that autograd casts to fp32, of `size_bytes` then.

    FSDP2 leaves others in the type computed in, but one that may be partial over tensor-parallel ranks is to be summed
    in fp32 (torch 2.15, `FSDPParam.may_reduce_grad_outside_dp`).
    """
    for label, size in events:
        yield label, size
        if label.name in names:
            yield label, size_bytes
            yield label, -size


def family_of(implementation: Implementation) -> Family:
    """The family whose plans a class follows; those of dense models with a schedule are alike."""
    return "llama" if implementation.router is None else implementation.router.kind
