"""One rank of a `transformers` model, distributed by transformers' own `DistributedConfig`, and its training step.

Data parallelism is torch's FSDP2 or HSDP, tensor and expert parallelism follow the plans of the class. The same code
runs on the meta device, as a rank of a simulated world, and on the CPU, as one of several real processes.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp._fully_shard._fsdp_state import _get_module_fsdp_state
from torch.distributed.tensor import DTensor
from transformers.distributed.configuration_utils import DistributedConfig
from transformers.distributed.utils import TransformersDeviceMesh
from transformers.initialization import no_tie_weights

from analytic.errors import UsageError
from analytic.huggingface.config import ModelConfig
from analytic.model.training import TrainingSetup
from analytic.parallelism.layout import Layout
from empirical.models.build import experts_implementation, transformers_model
from empirical.models.programs import (
    ATTENTION_NAMES,
    DTYPES,
    Named,
    attention_mask,
    enable_checkpointing,
    materialize,
)

# axes of Layout by the names of transformers' meshes
_AXES = {"dp_replicate": "dp_replicate", "fsdp": "dp_shard", "tp": "tp", "efsdp": "efsdp", "ep": "ep"}


@dataclass(frozen=True, slots=True)
class RankCase:
    """One rank of a model in a layout.

    Raises:
        UsageError: an axis, a precision or an optimizer that this implementation does not have.
    """

    config: ModelConfig
    setup: TrainingSetup
    layout: Layout
    rank: int = 0

    def __post_init__(self) -> None:
        self.layout.coordinate(self.rank, "dp_shard")
        for name in ("pp", "cp", "etp"):
            if getattr(self.layout, name) != 1:
                raise UsageError(f"{name} = {getattr(self.layout, name)}: expected 1 with transformers' training")
        if self.layout.mixed_precision and self.layout.data_ranks == 1:
            raise UsageError("mixed_precision with one data-parallel rank: expected FSDP, whose policy it is")
        if self.layout.mixed_precision and self.setup.precision != "bf16":
            raise UsageError(f"mixed_precision in {self.setup.precision}: expected bf16, the type of transformers")
        if self.setup.optimizer == "adamw_fused":
            raise UsageError("optimizer adamw_fused: expected adamw_foreach or none, fused does not run without a GPU")
        if self.setup.has_master_weights or self.setup.is_accumulating:
            raise UsageError("master weights, gradients from before: expected neither with transformers' training")

    @property
    def stored_dtype(self) -> torch.dtype:
        """Of parameters, gradients and moments."""
        return torch.float32 if self.layout.mixed_precision else DTYPES[self.setup.precision]


@dataclass(slots=True)
class RankProgram:
    """A training step of one rank: phases `forward` and `backward` for each micro-batch, then `optimizer`.

    Attributes:
        axes: of each process group, by its name.
    """

    model: Any
    inputs: dict[str, Tensor]
    optimizer: torch.optim.Optimizer | None
    micro_batches: int
    axes: dict[str, str]

    @classmethod
    def build(cls, case: RankCase, device_type: str = "meta") -> RankProgram:
        """The rank's part of the model. torch's world must have been started, with the ranks of the layout."""
        model, axes = _distributed(case, device_type)
        enable_checkpointing(model, case.setup.checkpointing)
        shape = (case.setup.micro_batch, case.setup.seq_len)
        ids = torch.zeros(shape, dtype=torch.long, device=device_type)
        inputs = {"input_ids": ids, "labels": torch.zeros_like(ids)}
        if (mask := attention_mask(case.setup, device_type)) is not None:
            inputs["attention_mask"] = mask
        has_optimizer = case.setup.optimizer == "adamw_foreach"
        optimizer = torch.optim.AdamW(_by_mesh(model), foreach=True) if has_optimizer else None
        return cls(model, inputs, optimizer, case.layout.micro_batches, axes)

    def base(self) -> Named:
        """What exists before the first step."""
        for name, parameter in self.model.named_parameters():
            yield name, local(parameter)
        for group in _fsdp_groups(self.model):
            for managed in group.fsdp_params:
                yield f"{managed._param_fqn}, as FSDP2 gathers it", managed._sharded_param_data
        yield from self.model.named_buffers()
        yield from self.inputs.items()

    def moments(self) -> Named:
        """States of the optimizer by parameter: none before the first step. Its counters are scalars on the CPU."""
        if self.optimizer is not None:
            for name, parameter in self.model.named_parameters():
                for key in ("exp_avg", "exp_avg_sq"):
                    if (state := self.optimizer.state[parameter].get(key)) is not None:
                        yield name, local(state)

    def phases(self) -> Iterator[str]:
        for _ in range(self.micro_batches):
            loss = self._loss()
            yield "forward"
            loss.backward()
            del loss
            yield "backward"
        if self.optimizer is not None:
            self.optimizer.step()
        yield "optimizer"

    def _loss(self) -> Tensor:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="FSDP2-wrapped module")  # of writing in place, which none does
            loss: Tensor = self.model(**self.inputs, use_cache=False).loss
            return loss

    def reset(self) -> None:
        """Drop the gradients."""
        self.model.zero_grad(set_to_none=True)


def local(tensor: Tensor) -> Tensor:
    """What this rank holds of a tensor."""
    return tensor._local_tensor if isinstance(tensor, DTensor) else tensor


def _fsdp_groups(model: Any) -> Iterator[Any]:
    """FSDP2's groups of parameters."""
    for module in model.modules():
        state: Any = _get_module_fsdp_state(module)
        if state is not None:
            groups = state._fsdp_param_groups if hasattr(state, "_fsdp_param_groups") else [state._fsdp_param_group]
            yield from (group for group in groups if group is not None)  # torch 2.11 has one a module, or none


def _distributed(case: RankCase, device_type: str) -> tuple[Any, dict[str, str]]:
    """The model as `from_pretrained(distributed_config=...)` distributes it, and the axis of each process group."""
    layout = case.layout
    config = DistributedConfig(
        tp_size=layout.tp,
        fsdp_size=layout.dp_shard,
        dp_replicate_size=layout.dp_replicate,
        ep_size=layout.ep,
        fsdp_mixed_precision=layout.mixed_precision,
    )
    dense = _mesh(device_type, dp_replicate=layout.dp_replicate, fsdp=layout.dp_shard, tp=layout.tp)
    expert = _mesh(device_type, dp_replicate=layout.dp_replicate, efsdp=layout.efsdp, ep=layout.ep)
    model = _model(case)
    model = type(model).maybe_distribute_model(model, config, TransformersDeviceMesh(dense, expert))
    materialize(model, device_type)
    model.tie_weights(recompute_mapping=False)
    if layout.data_ranks > 1:
        if not layout.reshard_after_forward:
            model.set_reshard_after_forward(False)
        state: Any = _get_module_fsdp_state(model)
        state._lazy_init()  # not in the first step, where it would make copies
    axes = {str(mesh[name].get_group().group_name): axis for mesh in (expert, dense) for name, axis in _axes_of(mesh)}
    return model, axes


def _mesh(device_type: str, **sizes: int) -> DeviceMesh:
    return init_device_mesh(device_type, (1, *sizes.values()), mesh_dim_names=("pp", *sizes))


def _axes_of(mesh: DeviceMesh) -> Iterator[tuple[str, str]]:
    for name in mesh.mesh_dim_names or ():
        if name in _AXES:
            yield name, _AXES[name]


def _model(case: RankCase) -> Any:
    """The whole model on meta, in training mode. Experts run in the way that suits the type computed in."""
    attention: Any = ATTENTION_NAMES[case.setup.attention_kernel]
    with no_tie_weights():  # `from_pretrained` ties them after they are distributed
        model: Any = transformers_model(case.config, attention=attention, dtype=case.stored_dtype)
    if case.config.spec.has_experts:
        computed = DTYPES[case.setup.precision]
        model.config._experts_implementation = experts_implementation(case.config.spec, computed)
    return model.train()


def _by_mesh(model: Any) -> list[dict[str, Any]]:
    """Groups for an optimizer with `foreach`, which takes tensors of one mesh at once."""
    groups: dict[object, list[Tensor]] = {}
    for parameter in model.parameters():
        groups.setdefault(str(parameter.device_mesh) if isinstance(parameter, DTensor) else None, []).append(parameter)
    return [{"params": parameters} for parameters in groups.values()]
