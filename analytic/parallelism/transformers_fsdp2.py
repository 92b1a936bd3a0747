"""The stack `transformers-fsdp2`: a `transformers` 5.23 class distributed by its own `DistributedConfig`.

That is torch's `fully_shard` for data and hybrid sharding, the class's plans for tensor and expert parallelism. What
it refuses, or fails on, is refused here by the name of the dimension.
"""

from __future__ import annotations

from typing import assert_never

from analytic.errors import UsageError
from analytic.model.spec import Attention, DenseFfn, FeedForward, GroupedQueryAttention, LatentAttention, MoeFfn
from analytic.model.training import TrainingSetup
from analytic.parallelism.communication import Collective
from analytic.parallelism.expert_parallel import ep_collectives
from analytic.parallelism.fsdp import fsdp_collectives
from analytic.parallelism.layout import Layout
from analytic.parallelism.parameters import DistributedModel
from analytic.parallelism.sharding import shards_with_fsdp
from analytic.parallelism.tensor_parallel import tp_collectives

_ONE_RANK = {
    "pp": "transformers 5.23 refuses FSDP with pipelines, and its own pipeline has no backward",
    "cp": "context parallelism is not wired in transformers 5.23",
    "etp": "with expert parallelism transformers 5.23 never splits an expert",
    "virtual_stages": "there is no pipeline",
}
_GROUPED_BYTES = 16  # grouped_mm takes matrices whose rows start at multiples of it


def check(model: DistributedModel, setup: TrainingSetup, layout: Layout) -> None:
    """Refuse what this stack does not run.

    Raises:
        UsageError: names the dimension, its value and what was expected.
    """
    for name, reason in _ONE_RANK.items():
        if getattr(layout, name) > 1:
            raise UsageError(f"{name} = {getattr(layout, name)}: {reason}; expected 1 with transformers-fsdp2")
    _check_types(setup, layout)
    if layout.ep > 1:
        _check_experts(model, setup, layout)
    if layout.tp > 1:
        _check_tensor_parallel(model, setup, layout)


def collectives(model: DistributedModel, setup: TrainingSetup, layout: Layout, rank: int) -> tuple[Collective, ...]:
    """Every collective of one rank in a step of `layout.micro_batches`, without those of a single rank.

    Not counted: what a training loop adds, such as the norm of gradients or the average of the loss.
    """
    return (
        *fsdp_collectives(model, setup, layout, rank),
        *tp_collectives(model, setup, layout),
        *ep_collectives(model, setup, layout),
    )


def _check_types(setup: TrainingSetup, layout: Layout) -> None:
    """`MixedPrecisionPolicy(param_dtype=bfloat16, reduce_dtype=float32)` is FSDP's, and the only one.

    In a setup of fp32 there is nothing to mix.
    """
    if setup.has_master_weights:
        raise UsageError(
            "master weights: transformers-fsdp2 keeps no second copy of the parameters; expected mixed precision, "
            "which stores them in fp32"
        )
    if not layout.mixed_precision:
        return
    if not shards_with_fsdp(layout):
        raise UsageError(
            f"mixed_precision with dp_shard = {layout.dp_shard}, dp_replicate = {layout.dp_replicate}: only FSDP "
            "casts parameters; expected several data ranks, or precision fp32"
        )
    if setup.precision == "fp16":
        raise UsageError("mixed_precision with precision fp16: transformers 5.23 casts to bf16; expected bf16")


def _check_experts(model: DistributedModel, setup: TrainingSetup, layout: Layout) -> None:
    networks = [run.layer.ffn for run in model.spec.runs if isinstance(run.layer.ffn, MoeFfn)]
    if not networks:
        raise UsageError(f"ep = {layout.ep}: the model has no experts; expected 1")
    if layout.ep % layout.tp:
        raise UsageError(f"ep = {layout.ep}: expected a multiple of tp = {layout.tp} (`DistributedConfig`)")
    for ffn in networks:
        if ffn.num_experts % layout.ep:
            raise UsageError(f"ep = {layout.ep}: expected a divisor of the {ffn.num_experts} experts")
    if setup.tokens % layout.tp:
        raise UsageError(
            f"tp = {layout.tp} with ep = {layout.ep}: its ranks share out {setup.tokens} tokens of a micro-batch; "
            "expected a divisor of them"
        )


def _check_tensor_parallel(model: DistributedModel, setup: TrainingSetup, layout: Layout) -> None:
    if model.spec.vocab_size < layout.tp:
        raise UsageError(f"tp = {layout.tp}: expected at most vocab_size = {model.spec.vocab_size}")
    for run in model.spec.runs:
        if model.splits_attention:
            _check_heads(run.layer.attention, layout)
        _check_ffn(run.layer.ffn, setup, layout)


def _check_heads(a: Attention, layout: Layout) -> None:
    match a:
        case GroupedQueryAttention():
            _check_divides(layout, "num_attention_heads", a.num_heads)
            _check_divides(layout, "num_key_value_heads", a.num_kv_heads)
        case LatentAttention():
            _check_divides(layout, "num_attention_heads", a.num_heads)
        case _:
            assert_never(a)


def _check_ffn(f: FeedForward, setup: TrainingSetup, layout: Layout) -> None:
    match f:
        case DenseFfn():
            _check_divides(layout, "intermediate_size", f.intermediate_size)
        case MoeFfn(expert_intermediate_size=width):
            if layout.ep == 1:
                multiple = layout.tp * _GROUPED_BYTES // setup.itemsize
                if width % multiple:
                    raise UsageError(
                        f"tp = {layout.tp}: grouped_mm takes rows of a multiple of {_GROUPED_BYTES} bytes; expected "
                        f"{multiple} to divide the experts' intermediate size {width}"
                    )
            if f.shared is not None:
                _check_divides(layout, "the shared experts' intermediate size", f.shared.intermediate_size)
        case _:
            assert_never(f)


def _check_divides(layout: Layout, name: str, size: int) -> None:
    if size % layout.tp:
        raise UsageError(f"tp = {layout.tp}: expected a divisor of {name} = {size}")
