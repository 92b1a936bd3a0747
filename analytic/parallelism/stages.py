"""The stages of a model's pipeline: their layers, their parameters, and what they send to each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

from analytic.errors import UsageError
from analytic.model.breakdown import Breakdown
from analytic.model.params import model_params
from analytic.model.spec import ModelSpec
from analytic.model.training import TrainingSetup
from analytic.parallelism.communication import Collective, Kind
from analytic.parallelism.layout import Layout
from analytic.parallelism.pipeline import Pipeline

_BEFORE_LAYERS = ("embed_tokens", "embed_positions", "embedding_norm", "project_in")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Consecutive layers, on the first stage with the embedding before them, on the last with norm and head after.

    Attributes:
        index: among all stages. rank: the pipeline rank that holds it. layers: their indices in the model.
    """

    index: int
    rank: int
    layers: range
    is_first: bool
    is_last: bool


def stages_of_model(spec: ModelSpec, layout: Layout, layers: Sequence[int] = ()) -> tuple[Stage, ...]:
    """Every stage, in depth order.

    Args:
        layers: of each stage; without them as even as possible, the first stages holding one more.

    Raises:
        UsageError: a pipeline that the schedule does not take, fewer layers than stages, layers that do not add up,
            or a tied head, whose weight would be on the first stage and on the last.
    """
    pipeline = Pipeline.of(layout)
    total, num_stages = len(spec.layers), pipeline.num_stages
    if total < num_stages:
        raise UsageError(
            f"pp = {layout.pp}, virtual_stages = {layout.virtual_stages}: expected at most {total} stages, one a layer"
        )
    if layout.pp > 1 and spec.tie_word_embeddings:
        raise UsageError(f"pp = {layout.pp}: torch pipelines do not sum the gradients of a tied head: expected pp = 1")
    if not layers:
        layers = [total // num_stages + (index < total % num_stages) for index in range(num_stages)]
    if len(layers) != num_stages or sum(layers) != total or min(layers) < 1:
        raise UsageError(
            f"layers of the stages {', '.join(map(str, layers))}: expected {num_stages} positive numbers that add up "
            f"to {total}"
        )
    bounds = pairwise(accumulate(layers, initial=0))
    return tuple(
        Stage(
            index=index,
            rank=pipeline.rank_of(index),
            layers=range(first, end),
            is_first=index == 0,
            is_last=index == num_stages - 1,
        )
        for index, (first, end) in enumerate(bounds)
    )


def stage_spec(spec: ModelSpec, stage: Stage) -> ModelSpec:
    """A model of the stage's layers. It still has embedding and head, whether or not the stage has them."""
    return replace(spec, layers=spec.layers[stage.layers.start : stage.layers.stop], mtp_layers=())


def stage_params(spec: ModelSpec, stage: Stage) -> Breakdown:
    """Parameters of a stage, its layers counted from its own first one."""
    terms = model_params(stage_spec(spec, stage))
    return Breakdown("params", {term: n for term, n in terms.items() if _is_held(term, stage)})


def _is_held(term: str, stage: Stage) -> bool:
    if term.startswith("layers."):
        return True
    is_before = term.removesuffix(".bias") in _BEFORE_LAYERS
    return stage.is_first if is_before else stage.is_last


def pipeline_collectives(
    spec: ModelSpec, setup: TrainingSetup, layout: Layout, rank: int, layers: Sequence[int] = ()
) -> tuple[Collective, ...]:
    """What a rank sends to the ranks of other stages and receives from them in one step.

    Of each micro-batch the hidden state goes down and its gradient comes back, both in the compute type. The module
    is the last layer before the boundary.
    """
    own = layout.coordinate(rank, "pp")
    stages = stages_of_model(spec, layout, layers)
    return tuple(
        collective
        for stage in stages
        if stage.rank == own
        for collective in _of_stage(stage, stages, layout, hidden_state_bytes(spec, setup, layout))
    )


def hidden_state_bytes(spec: ModelSpec, setup: TrainingSetup, layout: Layout) -> int:
    """The hidden state of one micro-batch on one rank: its part of the sequence, whole on every tensor-parallel rank.

    Raises:
        UsageError: a sequence that the context-parallel ranks cannot share.
    """
    if setup.seq_len % layout.cp:
        raise UsageError(f"cp = {layout.cp}: expected a divisor of seq_len = {setup.seq_len}")
    return setup.tokens // layout.cp * spec.hidden_size * setup.itemsize


def _of_stage(stage: Stage, stages: tuple[Stage, ...], layout: Layout, size_bytes: int) -> Iterator[Collective]:
    def moved(kind: Kind, module: int) -> Collective:
        return Collective(
            axis="pp",
            kind=kind,
            module=f"layers.{module}",
            group_size=layout.pp,
            count=layout.micro_batches,
            size_bytes=layout.micro_batches * size_bytes,
        )

    if not stage.is_first and stages[stage.index - 1].rank != stage.rank:
        yield moved("recv", stage.layers.start - 1)
        yield moved("send", stage.layers.start - 1)
    if not stage.is_last and stages[stage.index + 1].rank != stage.rank:
        yield moved("send", stage.layers.stop - 1)
        yield moved("recv", stage.layers.stop - 1)
