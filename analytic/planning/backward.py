"""Backward: a machine, its hours and an architecture -> tokens, loss, epochs."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from fractions import Fraction

from analytic.errors import UsageError
from analytic.memory.implementation import NotPredicted
from analytic.model.flops import AttentionConvention, TrainingFlops, forward_flops, training_flops
from analytic.model.params import ParameterCounts, model_params, parameter_counts
from analytic.planning.architectures import count_params
from analytic.planning.assumptions import LAW_MEASURE, WORSE
from analytic.planning.backward_file import Setup
from analytic.planning.budget import DataLimit, compute_from_hours, tokens_from_compute
from analytic.planning.guards import law_warnings, link_warnings, machine_warnings, placement_warnings
from analytic.planning.placement import Placement, place
from analytic.scaling.laws import OutOfRange, ScalingLaw
from analytic.units import exact

CONVENTIONS: tuple[AttentionConvention, ...] = ("full", "causal", "half")


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One identity recomputed from the result: what was compared, both sides, and whether it holds."""

    name: str
    left: int
    relation: str
    right: int

    @property
    def holds(self) -> bool:
        return self.left == self.right if self.relation == "=" else self.left <= self.right


@dataclass(frozen=True, slots=True, kw_only=True)
class BackwardPlan:
    """What a machine can train.

    Attributes:
        compute_flops: peak x GPUs x MFU x hours x 3600.
        law_params: N as the law counts it (of an MoE the active ones).
        affordable_tokens: C / (3 x forward FLOPs per token), by attention convention.
        tokens: under the setup's convention, clipped by the data.
        steps: optimizer steps of the global batch; the last one may be smaller.
        laws: the loss under every law. lower_mfu: tokens and loss with 10% less MFU.
    """

    setup: Setup
    compute_flops: Fraction
    params: ParameterCounts
    law_params: int
    flops: TrainingFlops
    affordable_tokens: dict[AttentionConvention, int]
    tokens: int
    loss: float
    epochs: float
    steps: int
    laws: tuple[tuple[ScalingLaw, float], ...]
    lower_mfu: tuple[int, float]
    extrapolations: tuple[OutOfRange, ...]
    placement: Placement | NotPredicted

    @property
    def dataset_limited(self) -> bool:
        return self.tokens < self.affordable_tokens[self.setup.convention]

    def warnings(self, today: date | None = None) -> tuple[str, ...]:
        """What must not be overlooked, one line each; a price is judged by `today`, where that is given."""
        setup = self.setup
        ended = [f"the data end first: {self.affordable_tokens[setup.convention]:,} tokens could be trained on"]
        return (
            *(ended if self.dataset_limited else ()),
            *law_warnings(setup.law, self.law_params, self.tokens, self.epochs, self.extrapolations),
            *machine_warnings(setup.price, setup.mfu, setup.dtype, today),
            *(link_warnings(setup.gpu, setup.mfu, self.placement) if setup.gpu else ()),
            *placement_warnings(self.placement, self.tokens, setup.seq_len),
        )

    @property
    def gpu_hours(self) -> Fraction:
        return self.setup.num_gpus * exact(self.setup.hours)

    @property
    def usd(self) -> Fraction | None:
        """At the price known for the GPU, if any."""
        price = self.setup.price
        return None if price is None else self.gpu_hours * exact(price.usd_per_gpu_hour)

    @property
    def energy_kwh(self) -> Fraction | None:
        """Of the boards at their TDP, where that is known."""
        watts = None if self.setup.gpu is None else self.setup.gpu.tdp_watts
        return None if watts is None else self.gpu_hours * watts / 1000

    @property
    def used_flops(self) -> int:
        return self.tokens * self.flops.training_per_token

    @property
    def six_nd_flops(self) -> int:
        """6 N D with the active parameters."""
        return 6 * self.params.active * self.tokens

    @property
    def six_nd_error(self) -> Fraction:
        """How far 6 N is above (below: negative) the exact FLOPs per token, as a share of them."""
        return Fraction(6 * self.params.active, self.flops.training_per_token) - 1

    @property
    def breakdown(self) -> dict[str, dict[str, int]]:
        """Parameters, and forward FLOPs of one sequence, term by term."""
        setup = self.setup
        forward = forward_flops(setup.spec, setup.seq_len, setup.convention)
        return {"params": dict(model_params(setup.spec).over_layers()), "forward_flops": dict(forward.over_layers())}

    def checks(self) -> tuple[Check, ...]:
        """The result recomputed from its parts, in integers."""
        setup, per_token = self.setup, self.flops.training_per_token
        affordable = self.affordable_tokens[setup.convention]
        most = int(setup.dataset_tokens * exact(setup.max_epochs))
        residue = abs(self.compute_flops - affordable * per_token)
        terms = sum(model_params(setup.spec).values())
        step = setup.tokens_per_step
        return (
            Check(name="terms of N add up to N", left=terms, relation="=", right=self.params.total),
            Check(name="2 |C - D f| <= f", left=math.ceil(2 * residue), relation="<=", right=per_token),
            Check(name="D <= dataset x epochs", left=self.tokens, relation="<=", right=most),
            Check(name="D <= steps x global batch", left=self.tokens, relation="<=", right=self.steps * step),
        )


def plan_backward(setup: Setup, laws: Iterable[ScalingLaw]) -> BackwardPlan:
    """What the setup can train.

    Args:
        laws: those to show the spread of.

    Raises:
        UsageError: hours too few to train on one token.
    """
    compute = compute_from_hours(setup.peak_flops_per_s, setup.mfu.value, setup.num_gpus, setup.hours)
    flops = {c: training_flops(setup.spec, seq_len=setup.seq_len, convention=c) for c in CONVENTIONS}
    affordable = {c: tokens_from_compute(compute, flops[c].training_per_token) for c in CONVENTIONS}
    data = DataLimit(dataset_tokens=setup.dataset_tokens, max_epochs=setup.max_epochs)
    tokens = data.clip(affordable[setup.convention])
    counts = parameter_counts(setup.spec)
    own = flops[setup.convention]
    if compute < own.training_per_token:  # not rounded to one token: with a lower MFU it would be none
        hours = f"training_gear.available_hours = {setup.hours:g}"
        raise UsageError(f"{setup.path}: {hours}: expected as many as training on one token takes")

    def loss(law: ScalingLaw, trained_on: int) -> float:
        return law.loss(count_params(counts, LAW_MEASURE[law.n_means]), trained_on, setup.dataset_tokens)

    law_params = count_params(counts, LAW_MEASURE[setup.law.n_means])
    fewer = data.clip(tokens_from_compute(compute * (1 - WORSE), own.training_per_token))
    return BackwardPlan(
        setup=setup,
        compute_flops=compute,
        params=counts,
        law_params=law_params,
        flops=own,
        affordable_tokens=affordable,
        tokens=tokens,
        loss=loss(setup.law, tokens),
        epochs=tokens / setup.dataset_tokens,
        steps=math.ceil(Fraction(tokens, setup.tokens_per_step)),
        laws=tuple((law, loss(law, tokens)) for law in laws),
        lower_mfu=(fewer, loss(setup.law, fewer)),
        extrapolations=setup.law.outside(law_params, tokens, float(tokens * own.training_per_token)),
        placement=_place(setup, tokens),
    )


def _place(setup: Setup, tokens: int) -> Placement | NotPredicted:
    if setup.gpu is None:
        return NotPredicted(f"the memory of {setup.gpu_type} is not known")
    return place(
        setup.config,
        seq_len=setup.seq_len,
        dtype=setup.dtype,
        memory_bytes=setup.gpu.memory_bytes,
        num_gpus=setup.num_gpus,
        node_gpus=setup.gpu.link_gpus,
        micro_batch=setup.micro_batch_size,
        most_sequences=max(1, tokens // setup.seq_len),
        memory=setup.memory,
    )
