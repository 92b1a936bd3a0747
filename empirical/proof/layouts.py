"""Which ranks of which layouts a model is proven on. Imports no torch.

A world is simulated with as few layers as have every kind, and no fewer than two: that suffices for what a layer's
collectives and memory are, and for what passes from one layer to the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from typing import Any, Literal, get_args

from analytic.errors import UsageError
from analytic.huggingface.config import ModelConfig, parse
from analytic.io.keys import Keys
from analytic.model.checkpointing import Checkpointing
from analytic.model.spec import LatentAttention
from analytic.model.training import TrainingSetup, fused_kernel
from analytic.parallelism.context_parallel import ring_attention
from analytic.parallelism.layout import LAYOUT_FIELDS, Layout
from analytic.parallelism.parameters import DistributedModel, Family
from analytic.parallelism.stages import stages_of_model
from analytic.parallelism.transformers_fsdp2 import check

Grid = Literal["default", "all"]

# By itself each: what transformers does not run is proven on torch's own pipelines and ring attention.
PIPELINE = Layout(pp=2, micro_batches=4, mixed_precision=False)
RING = Layout(cp=8)

_LEAST_LAYERS = 2
_DATA_RANKS = (2, 3, 7, 8, 512)
_SPLITS = (8, 4, 2)  # ranks of tensor or expert parallelism, the first that a model takes
_PER_LAYER = ("layer_types", "mlp_layer_types")  # keys of a configuration that list something for each layer


@dataclass(frozen=True, slots=True)
class RankJob:
    """One rank of a model in a layout: all that is needed to simulate it."""

    config: ModelConfig
    setup: TrainingSetup
    layout: Layout
    rank: int


def is_described(config: ModelConfig) -> bool:
    """Whether how `transformers` distributes the model is described here."""
    return config.read_as in get_args(Family)


def one_of_each_family(configs: Iterable[ModelConfig]) -> list[ModelConfig]:
    """The first model of every family that is described."""
    first: dict[str, ModelConfig] = {}
    for config in configs:
        if is_described(config):
            first.setdefault(config.read_as, config)
    return list(first.values())


def jobs_of(config: ModelConfig, seq_len: int, grid: Grid) -> Iterator[RankJob]:
    """The ranks of the default layouts, or of the full grid."""
    few, setup = with_few_layers(config), _setup(config, seq_len)
    if grid == "all":
        yield from _full_grid(few, setup)
    yield RankJob(few, setup, Layout(dp_shard=8), 0)
    yield RankJob(few, replace(setup, checkpointing="none"), Layout(dp_shard=512, mixed_precision=False), 511)
    tensor_parallel = [Layout(dp_shard=2, tp=ranks) for ranks in _SPLITS]
    expert_parallel = [Layout(dp_shard=8, ep=ranks) for ranks in _SPLITS]
    for layouts in (tensor_parallel, expert_parallel):
        if (layout := next((each for each in layouts if _takes(few, setup, each)), None)) is not None:
            yield RankJob(few, setup, layout, layout.num_gpus - 1)
    for layout in (PIPELINE, RING):
        if _takes(few, setup, layout):
            yield RankJob(few, setup, layout, layout.num_gpus - 1)


def jobs_of_layout(config: ModelConfig, seq_len: int, layout: Layout) -> Iterator[RankJob]:
    """The first and the last rank of one layout.

    Raises:
        UsageError: a layout that the model does not take, or neither `transformers` nor torch's pipelines or ring.
    """
    setup = _setup(config, seq_len)
    _check(config, setup, layout)
    few = config if layout.pp > 1 else with_few_layers(config)  # every stage has layers of its own
    for rank in sorted({0, layout.num_gpus - 1}):
        yield RankJob(few, setup, layout, rank)


def parse_layout(text: str) -> Layout:
    """A layout from `dp_shard=8,tp=2`.

    Raises:
        UsageError: naming the key, its value and what was expected.

    >>> parse_layout("dp_shard=8,tp=2,mixed_precision=false").describe()
    'dp_shard 8 x tp 2'
    """
    types, keys = {field.name: field.type for field in fields(Layout)}, dict[str, Any]()
    for part in text.split(","):
        name, is_given, value = part.partition("=")
        if name not in LAYOUT_FIELDS or not is_given:
            raise UsageError(f"{part!r}: expected KEY=VALUE with a key of {', '.join(LAYOUT_FIELDS)}")
        if name in keys:
            raise UsageError(f"{name}: given twice, expected once")
        keys[name] = _value(name, value, str(types[name]))
    return Layout(**keys)


def with_few_layers(config: ModelConfig) -> ModelConfig:
    """The same model cut off behind the first layer of the last kind."""
    layers = max(_LEAST_LAYERS, 1 + max(run.first for run in config.spec.kinds.values()))
    if layers >= len(config.spec.layers):
        return config
    cut = {key: config.raw[key][:layers] for key in _PER_LAYER if isinstance(config.raw.get(key), Sequence)}
    return parse(config.path, Keys({**config.raw, **cut, "num_hidden_layers": layers}))


def _setup(config: ModelConfig, seq_len: int) -> TrainingSetup:
    return TrainingSetup(
        seq_len=seq_len,
        checkpointing="full",
        attention_kernel=fused_kernel(config.spec),
        optimizer="adamw_foreach",  # the fused one does not run without a GPU
    )


def _full_grid(config: ModelConfig, setup: TrainingSetup) -> Iterator[RankJob]:
    """FSDP and HSDP in both precisions, with and without checkpointing, on the first, a middle and the last rank."""
    for shards, replicas, mixed, policy in product(_DATA_RANKS, (1, 2), (True, False), get_args(Checkpointing)):
        layout = Layout(dp_shard=shards, dp_replicate=replicas, mixed_precision=mixed)
        for rank in sorted({0, layout.num_gpus // 2, layout.num_gpus - 1}):
            yield RankJob(config, replace(setup, checkpointing=policy), layout, rank)


def _takes(config: ModelConfig, setup: TrainingSetup, layout: Layout) -> bool:
    """Whether the layout runs, with as many routed tokens for every rank."""
    try:
        _check(config, setup, layout)
    except UsageError:
        return False
    return setup.tokens % (layout.tp * layout.ep) == 0


def _check(config: ModelConfig, setup: TrainingSetup, layout: Layout) -> None:
    """Raise a UsageError unless what runs the layout takes it."""
    if layout.pp == layout.num_gpus > 1:
        stages_of_model(config.spec, layout)
    elif layout.cp == layout.num_gpus > 1:
        for layer in config.spec.kinds:
            if isinstance(layer.attention, LatentAttention):
                raise UsageError(f"cp = {layout.cp}: expected heads of one width for queries and values")
            ring_attention(layer.attention, setup, layout)
    else:
        check(DistributedModel(config.spec, config.read_as), setup, layout)


def _value(name: str, text: str, kind: str) -> int | bool | str:
    if kind == "bool":
        if text not in ("true", "false"):
            raise UsageError(f"{name}={text}: expected true or false")
        return text == "true"
    if kind != "int":
        return text
    if not (text.isascii() and text.isdigit()):
        raise UsageError(f"{name}={text}: expected an integer")
    return int(text)
