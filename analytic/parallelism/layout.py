"""A layout: over how many ranks each axis splits a training step, and where in that mesh a rank is.

Axes are named as torchtitan names them. The ranks of a world are numbered row by row over (pp, dp_replicate, dp_shard,
cp, tp), the last one fastest, as `torch.distributed.device_mesh.init_device_mesh` numbers them. Experts are laid out
over the same ranks as (pp, dp_replicate, efsdp, ep, etp). Each stack checks whether it takes a layout
of a model: `transformers_fsdp2`, `torchtitan`, `megatron`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, get_args

from analytic.errors import UsageError

Axis = Literal["pp", "dp_replicate", "dp_shard", "cp", "tp", "ep", "etp"]
PipelineSchedule = Literal["gpipe", "1f1b", "interleaved-1f1b", "looped-bfs", "interleaved-zb", "zbv", "dualpipev"]

MOST_RANKS = 2**20
_MESH: tuple[Axis, ...] = ("pp", "dp_replicate", "dp_shard", "cp", "tp")
_SIZES = (*_MESH, "ep", "etp", "micro_batches", "virtual_stages")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Ranks along each axis, and how a step is cut into micro-batches and stages.

    Attributes:
        dp_shard: ranks that share parameters, gradients and optimizer states (FSDP, or ZeRO-1 in Megatron).
        dp_replicate: copies of such a group (HSDP).
        tp: tensor parallel. pp: pipeline stages' ranks. cp: ranks that share each sequence.
        ep, etp: ranks that share the experts, and each expert. They divide dp_shard x cp x tp.
        micro_batches: forward passes of a rank in one step.
        virtual_stages: pipeline stages on each pipeline rank.
        reshard_after_forward: FSDP frees gathered weights after forward, and gathers them again in backward.
        mixed_precision: parameters are stored and reduced in fp32, and computed with in the setup's type; otherwise
            all three are in the setup's type.

    Raises:
        UsageError: a size below 1, a schedule that is not one, or experts' ranks that do not divide the others.

    >>> layout = Layout(dp_shard=4, tp=8, ep=16)
    >>> layout.num_gpus, layout.efsdp
    (32, 2)
    """

    dp_replicate: int = 1
    dp_shard: int = 1
    tp: int = 1
    pp: int = 1
    cp: int = 1
    ep: int = 1
    etp: int = 1
    micro_batches: int = 1
    pipeline_schedule: PipelineSchedule = "1f1b"
    virtual_stages: int = 1
    reshard_after_forward: bool = True
    mixed_precision: bool = True

    def __post_init__(self) -> None:
        for name in _SIZES:
            check_size(name, getattr(self, name))
        if self.pipeline_schedule not in get_args(PipelineSchedule):
            known = ", ".join(get_args(PipelineSchedule))
            raise UsageError(f"pipeline_schedule = {self.pipeline_schedule!r}: expected one of {known}")
        if self.num_gpus > MOST_RANKS:
            raise UsageError(f"layout of {self.num_gpus} GPUs: expected at most {MOST_RANKS}")
        shared = self.dp_shard * self.cp * self.tp
        if shared % (self.ep * self.etp):
            raise UsageError(
                f"ep = {self.ep}, etp = {self.etp}: expected a product that divides dp_shard x cp x tp = {shared}"
            )

    @property
    def num_gpus(self) -> int:
        """Ranks of the whole world."""
        return self.pp * self.dp_replicate * self.dp_shard * self.cp * self.tp

    @property
    def data_ranks(self) -> int:
        """Ranks that each see sequences of their own."""
        return self.dp_replicate * self.dp_shard

    @property
    def efsdp(self) -> int:
        """Ranks that share the same experts."""
        return self.dp_shard * self.cp * self.tp // (self.ep * self.etp)

    def coordinate(self, rank: int, axis: Axis | Literal["efsdp"]) -> int:
        """Where a rank is along an axis.

        Raises:
            UsageError: a rank outside the world.

        >>> Layout(dp_shard=2, tp=4).coordinate(5, "dp_shard"), Layout(dp_shard=2, tp=4).coordinate(5, "tp")
        (1, 1)
        """
        if type(rank) is not int or not 0 <= rank < self.num_gpus:
            raise UsageError(f"rank = {rank!r}: expected an integer from 0 to {self.num_gpus - 1}")
        mesh = ("pp", "dp_replicate", "efsdp", "ep", "etp") if axis in ("efsdp", "ep", "etp") else _MESH
        for name in reversed(mesh):
            size = getattr(self, name)
            if name == axis:
                return int(rank % size)
            rank //= size
        raise AssertionError(axis)

    def describe(self) -> str:
        """Axes that split anything: `dp_shard 8 x tp 4`.

        >>> Layout(dp_shard=8, tp=4).describe(), Layout().describe()
        ('dp_shard 8 x tp 4', 'one GPU')
        """
        axes = [f"{name} {getattr(self, name)}" for name in (*_MESH, "ep", "etp") if getattr(self, name) > 1]
        stages = f", {self.virtual_stages} stages a rank" if self.virtual_stages > 1 else ""
        return (" x ".join(axes) or "one GPU") + stages


def check_size(name: str, value: object) -> None:
    """Raise a UsageError unless a value is a number of ranks, of micro-batches or of stages."""
    if type(value) is not int or not 1 <= value <= MOST_RANKS:
        raise UsageError(f"{name} = {value!r}: expected an integer from 1 to {MOST_RANKS}")


LAYOUT_FIELDS = tuple(field.name for field in fields(Layout))
