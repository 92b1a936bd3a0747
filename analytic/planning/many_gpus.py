"""Does a model train on several GPUs: in a layout that was given, or in any that model, stack and node allow."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

from analytic.errors import UsageError
from analytic.memory.implementation import NotPredicted
from analytic.memory.static import least_states
from analytic.parallelism.layout import Layout, PipelineSchedule, check_size
from analytic.parallelism.stacks import Stack
from analytic.planning.layouts import Space, is_mixed, micro_batches_of
from analytic.planning.rank_fit import Enumerated, Question, RankFit, enumerate_fits, fewest_gpus

STACKS: tuple[Stack, ...] = get_args(Stack)  # the first that fits is the answer
RANK_AXES = ("dp_replicate", "dp_shard", "tp", "pp", "cp")


@dataclass(frozen=True, slots=True, kw_only=True)
class ManyGpus:
    """The answer.

    Attributes:
        gpu: a name, or the memory itself. is_given: the layout was asked for, and none was enumerated.
        chosen: the layout given; or the best that fits, or the one that is nearest to it. None where none is predicted.
        more: where nothing fits, what fits on the fewest GPUs of those tried.
    """

    question: Question
    gpu: str
    num_gpus: int
    is_given: bool
    chosen: RankFit | None
    enumerated: Enumerated
    more: RankFit | None

    @property
    def fits(self) -> bool | None:
        """None where it is not predicted and the states alone do not decide it."""
        if self.chosen is not None:
            return self.chosen.fits
        return False if self.least_states > self.num_gpus * self.question.memory_bytes else None

    @property
    def least_states(self) -> int:
        """Bytes of parameters, gradients and optimizer states that all GPUs hold together at the least."""
        setup = self.question.setup
        return sum(least_states(self.question.config.spec, replace(setup, has_master_weights=is_mixed(setup))).values())

    @property
    def missing(self) -> str | None:
        """Why no layout is predicted."""
        if self.chosen is not None:
            return None
        return "; ".join((*self.enumerated.not_predicted, *self.enumerated.refused)) or "no layout divides the GPUs"

    @property
    def alternatives(self) -> Sequence[RankFit]:
        """The other layouts that fit."""
        return [fit for fit in self.enumerated.fitting if fit is not self.chosen]


def fit_on_many(
    question: Question,
    space: Space,
    *,
    gpu: str,
    given: Mapping[str, int | str],
    stacks: Sequence[Stack] = STACKS,
) -> ManyGpus:
    """Fit a training step into several GPUs.

    Args:
        given: sizes of axes, `pipeline_schedule`, `virtual_stages`: with any of them, the others are 1 and
            dp_shard is what is left.

    Raises:
        UsageError: a layout that no stack runs.
    """
    found = _one_layout(question, space, given, stacks) if given else enumerate_fits(question, space, stacks)
    chosen = found.fitting[0] if found.fitting else found.closest
    needs_more = not given and chosen is not None and not chosen.fits
    return ManyGpus(
        question=question,
        gpu=gpu,
        num_gpus=space.num_gpus,
        is_given=bool(given),
        chosen=chosen,
        enumerated=found,
        more=fewest_gpus(question, space, stacks) if needs_more else None,
    )


def _one_layout(
    question: Question, space: Space, given: Mapping[str, int | str], stacks: Sequence[Stack]
) -> Enumerated:
    """The layout given, on the first stack that runs it."""
    layout = _completed(question, space, given)
    refused, unknown = [], []
    for stack in stacks:
        try:
            fit = question.fit(layout, stack)
        except UsageError as error:
            refused.append(f"{stack}: {error}" if len(stacks) > 1 else str(error))
            continue
        if isinstance(fit, NotPredicted):
            unknown.append(f"{stack}: {fit.reason}")
            continue
        return Enumerated(fitting=[fit] if fit.fits else [], closest=fit, tried=1, refused=(), not_predicted=())
    if not unknown:
        raise UsageError("; ".join(refused))
    return Enumerated(fitting=[], closest=None, tried=0, refused=refused, not_predicted=unknown)


def _completed(question: Question, space: Space, given: Mapping[str, int | str]) -> Layout:
    """The layout of what was given: one rank along every other axis, and FSDP over what is left.

    Raises:
        UsageError: what is no size, or sizes whose product is not the number of GPUs.
    """
    for name in set(given) - {"pipeline_schedule"}:
        check_size(name, given[name])
    sizes: dict[str, Any] = {name: given[name] for name in RANK_AXES if name in given}
    product = math.prod(sizes.values())
    if "dp_shard" not in sizes and space.num_gpus % product == 0:
        sizes["dp_shard"] = space.num_gpus // product
        product = space.num_gpus
    if product != space.num_gpus:
        axes, values = (" x ".join(map(str, parts)) for parts in (sizes, sizes.values()))
        several = f" = {product}" if len(sizes) > 1 else ""
        expected = "the number of GPUs" if "dp_shard" in given else "a divisor of the number of GPUs"
        raise UsageError(f"{axes} = {values}{several}: expected {expected}, {space.num_gpus}")
    pp = sizes.get("pp", 1)
    if pp == 1 and "pipeline_schedule" in given:
        raise UsageError(f"pipeline_schedule = {given['pipeline_schedule']}: expected pp > 1 with it")
    virtual = int(given.get("virtual_stages", 1))
    schedule: PipelineSchedule = "interleaved-1f1b" if virtual > 1 else "1f1b"
    data_ranks = sizes.get("dp_replicate", 1) * sizes["dp_shard"]
    return Layout(
        **sizes,
        ep=int(given.get("ep", 1)),
        etp=int(given.get("etp", 1)),
        virtual_stages=virtual,
        pipeline_schedule=given.get("pipeline_schedule", schedule),  # type: ignore[arg-type]  # Layout checks it
        micro_batches=micro_batches_of(question.setup, data_ranks, pp, space.global_batch),
        mixed_precision=is_mixed(question.setup),
    )
