"""Questions about a rank, each answered by the stack that is asked about."""

from __future__ import annotations

from functools import lru_cache
from typing import assert_never

from analytic.errors import UsageError
from analytic.huggingface.config import ModelConfig
from analytic.memory.implementation import NotPredicted, implementation_of
from analytic.memory.megatron import megatron_peak
from analytic.memory.rank import rank_memory
from analytic.memory.rank_peak import RankPeak
from analytic.memory.torchtitan import torchtitan_peak
from analytic.model.spec import ModelSpec
from analytic.model.training import TrainingSetup
from analytic.parallelism import transformers_fsdp2
from analytic.parallelism.communication import Collective
from analytic.parallelism.layout import Layout
from analytic.parallelism.megatron import check_megatron
from analytic.parallelism.megatron_volumes import megatron_collectives
from analytic.parallelism.parameters import DistributedModel
from analytic.parallelism.rank_flops import rank_flops
from analytic.parallelism.shapes import StackModel
from analytic.parallelism.stack_flops import megatron_flops, torchtitan_flops
from analytic.parallelism.stacks import Stack
from analytic.parallelism.torchtitan import check_torchtitan
from analytic.parallelism.torchtitan_volumes import torchtitan_collectives


def check_layout(config: ModelConfig, setup: TrainingSetup, layout: Layout, stack: Stack) -> None:
    """Raise a UsageError that names the axis, unless model and stack take a layout."""
    match stack:
        case "transformers-fsdp2":
            transformers_fsdp2.check(_distributed(config), setup, layout)
        case "torchtitan":
            if config.numerics.activation != "silu":
                raise UsageError(f"activation {config.numerics.activation}: torchtitan's feed-forward is SwiGLU")
            check_torchtitan(config.spec, setup, layout)
        case "megatron-te":
            check_megatron(config.spec, setup, layout)
        case _:
            assert_never(stack)


def rank_peak(config: ModelConfig, setup: TrainingSetup, layout: Layout, stack: Stack) -> RankPeak | NotPredicted:
    """The peak of the rank that has the highest, in a step after the first."""
    match stack:
        case "transformers-fsdp2":
            implementation = implementation_of(config, setup.seq_len)
            if isinstance(implementation, NotPredicted):
                return implementation
            found = rank_memory(config.spec, implementation, setup, layout)
            return found if isinstance(found, NotPredicted) else found.peak
        case "torchtitan":
            return torchtitan_peak(_shapes(config.spec), setup, layout)
        case "megatron-te":
            return megatron_peak(_shapes(config.spec), setup, layout)
        case _:
            assert_never(stack)


def collectives(
    config: ModelConfig, setup: TrainingSetup, layout: Layout, stack: Stack, rank: int
) -> tuple[Collective, ...]:
    """What a rank sends and receives in a step."""
    match stack:
        case "transformers-fsdp2":
            return transformers_fsdp2.collectives(_distributed(config), setup, layout, rank)
        case "torchtitan":
            return torchtitan_collectives(_shapes(config.spec), setup, layout, rank)
        case "megatron-te":
            return megatron_collectives(_shapes(config.spec), setup, layout, rank)
        case _:
            assert_never(stack)


def executed_flops(config: ModelConfig, setup: TrainingSetup, layout: Layout, stack: Stack, rank: int) -> int:
    """What a rank executes in a step, recomputation included; by formula, the busiest one."""
    match stack:
        case "transformers-fsdp2":
            return rank_flops(_distributed(config), setup, layout, rank).total
        case "torchtitan":
            return torchtitan_flops(_shapes(config.spec), setup, layout).total
        case "megatron-te":
            return megatron_flops(_shapes(config.spec), setup, layout).total
        case _:
            assert_never(stack)


def _distributed(config: ModelConfig) -> DistributedModel:
    return _of_spec(config.spec, config.read_as)


@lru_cache(maxsize=64)
def _shapes(spec: ModelSpec) -> StackModel:
    return StackModel.of(spec)


@lru_cache(maxsize=64)
def _of_spec(spec: ModelSpec, family: str) -> DistributedModel:
    return DistributedModel(spec, family)
