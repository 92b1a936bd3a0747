"""Architectures that can be built: the family that a plan searches, and the member nearest a target.

One rule for every size, from published models, so that a plan's freedom is width, depth and the
width of the feed-forward network:

- head_dim 64 below a width of 2,048 and 128 from there on (GPT-3, arXiv:2005.14165; Llama);
- widths in multiples of 128, of 256 from 2,048 on, doubling with every octave; the feed-forward
  width likewise. Fewer, rounder sizes keep matrix products on whole tiles and heads divisible by 8;
- a width-to-depth ratio from 100 to 132: LLaMA-65B and Llama-2-70B have 102, Llama-3.1-405B has 130
  (arXiv:2302.13971, 2307.09288, 2407.21783); below a width of 2,048 from 36 (Qwen3-0.6B, arXiv:2505.09388).
  Within a much wider band the loss hardly depends on it (arXiv:2001.08361, figure 5);
- a feed-forward width from 8/3 (LLaMA) to 3.5 times the hidden size (Llama 3, Mixtral);
- up to 8 key-value heads (arXiv:2305.13245; Llama-2-70B, Llama 3);
- MoE: 8 experts of that width in every layer, 2 a token (Mixtral, arXiv:2401.04088).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from itertools import groupby
from typing import Literal, NamedTuple

from analytic.errors import UsageError
from analytic.model.flops import AttentionConvention, head_flops, layer_flops
from analytic.model.params import ParameterCounts, layer_params, parameter_counts
from analytic.model.spec import DenseFfn, GroupedQueryAttention, LayerSpec, ModelSpec, MoeFfn
from analytic.scaling.optimum import TabledCost

Kind = Literal["dense", "moe"]
ParamsMeasure = Literal["total", "active", "non_embedding"]

VOCAB_MULTIPLE = 128
WIDTH_MULTIPLE = 128
MAX_WIDTH = 2**15
SMALL_WIDTH = 2048
MIN_SMALL_WIDTH_TO_DEPTH, MIN_WIDTH_TO_DEPTH, MAX_WIDTH_TO_DEPTH = 36, 100, 132
MIN_FFN_RATIO, MAX_FFN_RATIO = Fraction(8, 3), Fraction(7, 2)
KV_HEADS = 8
EXPERTS, EXPERTS_PER_TOKEN = 8, 2
TOLERANCE = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """The architectures that one plan chooses from.

    `params` is what a candidate's N counts: `active` for a law of total parameters (a dense model's
    active parameters are its total), `non_embedding` for active ones without tables and output head.
    """

    kind: Kind
    vocab_size: int
    seq_len: int
    convention: AttentionConvention = "full"
    params: ParamsMeasure = "active"
    tied: bool = False

    @property
    def padded_vocab_size(self) -> int:
        """The vocabulary rounded up to a multiple of 128."""
        return -(-self.vocab_size // VOCAB_MULTIPLE) * VOCAB_MULTIPLE


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One shape of layer: N and training FLOPs per token are what is outside the layers plus so much for each."""

    hidden_size: int
    layer: LayerSpec
    depths: range
    params_outside: int
    params_each: int
    flops_outside: int
    flops_each: int

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """N and training FLOPs per token at every depth."""
        n, n_each, f, f_each = self.params_outside, self.params_each, self.flops_outside, self.flops_each
        return [(n + depth * n_each, f + depth * f_each) for depth in self.depths]


class Candidate(NamedTuple):
    """One architecture of a family: its N, its training FLOPs per token, its layer and its depth."""

    params: int
    flops_per_token: int
    hidden_size: int
    layer: LayerSpec
    depth: int


class Near(NamedTuple):
    """Architectures near a target, and the family they are of: tied where no untied one was near."""

    family: Family
    candidates: list[Candidate]
    within_tolerance: bool


@lru_cache(maxsize=16)
def shapes(family: Family) -> tuple[Shape, ...]:
    """Every layer shape of the family, counted by the exact formulas once; depths are arithmetic."""
    return tuple(_shapes(family))


def _shapes(family: Family) -> Iterator[Shape]:
    seq_len = family.seq_len
    for hidden_size in _widths():
        outside: tuple[int, int] | None = None
        for layer in _layers(family.kind, hidden_size):
            params_each = layer_params(layer, hidden_size, active_only=family.params != "total").total
            if outside is None:  # the same for every layer of this width
                one = build(family, hidden_size, layer, 1)
                outside = (
                    count_params(parameter_counts(one), family.params) - params_each,
                    3 * head_flops(one, seq_len).total // seq_len,
                )
            yield Shape(
                hidden_size=hidden_size,
                layer=layer,
                depths=_depths(hidden_size),
                params_outside=outside[0],
                params_each=params_each,
                flops_outside=outside[1],
                flops_each=3 * layer_flops(layer, hidden_size, seq_len, family.convention).total // seq_len,
            )


def candidates(family: Family) -> Iterator[Candidate]:
    """Every architecture of the family."""
    for shape in shapes(family):
        for depth, (params, flops) in zip(shape.depths, shape.sizes, strict=True):
            yield Candidate(params, flops, shape.hidden_size, shape.layer, depth)


@lru_cache(maxsize=16)
def frontier(family: Family) -> tuple[Candidate, ...]:
    """The architectures that no other beats in both N and FLOPs, by falling N.

    Every law's loss falls with N and with D = C / f, so that whatever the law and the budget its
    optimum over the family is one of these.
    """
    counted = shapes(family)
    rows = [
        (params, -flops, index, depth)
        for index, shape in enumerate(counted)
        for depth, (params, flops) in zip(shape.depths, shape.sizes, strict=True)
    ]
    rows.sort(reverse=True)
    best: list[Candidate] = []
    for params, minus_flops, index, depth in rows:
        if not best or -minus_flops < best[-1].flops_per_token:
            best.append(Candidate(params, -minus_flops, counted[index].hidden_size, counted[index].layer, depth))
    return tuple(best)


@lru_cache(maxsize=16)
def line(family: Family) -> TabledCost:
    """The family's cheapest FLOPs per token as a smooth function of N.

    The widest feed-forward network and the least depth of each width, where the fewest FLOPs go into
    attention and the head; depth taken as a real number, in which N and FLOPs are linear.
    """
    points = []
    for hidden_size, of_width in groupby(shapes(family), key=lambda shape: shape.hidden_size):
        *_, widest = of_width
        depth = hidden_size / MAX_WIDTH_TO_DEPTH
        points.append(
            (widest.params_outside + depth * widest.params_each, widest.flops_outside + depth * widest.flops_each)
        )
    return TabledCost(points)


def near(target_params: float, family: Family) -> Near:
    """The architectures within 1% of a target N, or the nearest one.

    Where no untied one comes so close, the output head may be tied to the embedding: at small sizes
    the two tables are much of the model.
    """

    def distance(candidate: Candidate) -> float:
        return abs(candidate.params - target_params)

    nearest = []
    for each in (family, replace(family, tied=True)):
        within = [c for c in candidates(each) if distance(c) <= TOLERANCE * target_params]
        if within:
            return Near(family=each, candidates=within, within_tolerance=True)
        nearest.append(Near(family=each, candidates=[min(candidates(each), key=distance)], within_tolerance=False))
    return min(nearest, key=lambda n: distance(n.candidates[0]))


def design(target_params: int, family: Family) -> ModelSpec:
    """The architecture of the family whose N is nearest a target.

    Raises:
        UsageError: no architecture within 1%; the message names the nearest.
    """
    found = near(target_params, family)
    nearest = min(found.candidates, key=lambda c: abs(c.params - target_params))
    if not found.within_tolerance:
        raise UsageError(
            f"no {family.kind} architecture within 1% of {target_params} parameters with a vocabulary of "
            f"{family.padded_vocab_size}: the nearest has {nearest.params}"
        )
    return build(found.family, nearest.hidden_size, nearest.layer, nearest.depth)


def build(family: Family, hidden_size: int, layer: LayerSpec, depth: int) -> ModelSpec:
    """The description of one architecture of the family."""
    return ModelSpec(
        hidden_size=hidden_size,
        vocab_size=family.padded_vocab_size,
        layers=(layer,) * depth,
        tie_word_embeddings=family.tied,
    )


def count_params(counts: ParameterCounts, measure: ParamsMeasure) -> int:
    """One figure of a model's parameters; `non_embedding` is of the active ones."""
    match measure:
        case "total":
            return counts.total
        case "active":
            return counts.active
        case "non_embedding":
            return counts.active - counts.embedding - counts.head


def _widths() -> Iterator[int]:
    width = WIDTH_MULTIPLE
    while width <= MAX_WIDTH:
        yield width
        width += _step(width)


def _step(width: int) -> int:
    """128 below 2,048, 256 below 4,096, and so on: 8 to 16 steps an octave."""
    return max(WIDTH_MULTIPLE, (1 << width.bit_length()) >> 4)


def _depths(hidden_size: int) -> range:
    least_ratio = MIN_SMALL_WIDTH_TO_DEPTH if hidden_size < SMALL_WIDTH else MIN_WIDTH_TO_DEPTH
    return range(-(-hidden_size // MAX_WIDTH_TO_DEPTH), hidden_size // least_ratio + 1)


def _layers(kind: Kind, hidden_size: int) -> Iterator[LayerSpec]:
    head_dim = 64 if hidden_size < SMALL_WIDTH else 128
    heads = hidden_size // head_dim
    attention = GroupedQueryAttention(num_heads=heads, num_kv_heads=math.gcd(heads, KV_HEADS), head_dim=head_dim)
    step = _step(hidden_size)
    for multiple in range(
        math.ceil(MIN_FFN_RATIO * hidden_size / step), math.floor(MAX_FFN_RATIO * hidden_size / step) + 1
    ):
        yield LayerSpec(attention=attention, ffn=_ffn(kind, multiple * step))


def _ffn(kind: Kind, intermediate_size: int) -> DenseFfn | MoeFfn:
    if kind == "dense":
        return DenseFfn(intermediate_size=intermediate_size)
    return MoeFfn(
        num_experts=EXPERTS, num_experts_per_token=EXPERTS_PER_TOKEN, expert_intermediate_size=intermediate_size
    )
