"""One rank of a `transformers` model under `torch.distributed.pipelining`, and its training step.

transformers' own pipeline has no backward: torch's schedules run the class's layers, with the embedding on the first
stage, and norm, head and the class's own loss on the last.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.pipelining import PipelineStage, schedules
from transformers.loss.loss_utils import ForCausalLMLoss

from analytic.errors import UsageError
from analytic.huggingface.config import ModelConfig
from analytic.huggingface.weight_names import LLAMA
from analytic.model.training import TrainingSetup
from analytic.parallelism.layout import Layout, PipelineSchedule
from analytic.parallelism.pipeline import Pipeline
from analytic.parallelism.stages import Stage, stages_of_model
from empirical.models.build import Device
from empirical.models.names import names_of
from empirical.models.programs import (
    DTYPES,
    Named,
    enable_checkpointing,
    meta_model,
    module_tensors,
    optimizer_of,
    reset_gradients,
)

SCHEDULES: dict[PipelineSchedule, Any] = {
    "gpipe": schedules.ScheduleGPipe,
    "1f1b": schedules.Schedule1F1B,
    "interleaved-1f1b": schedules.ScheduleInterleaved1F1B,
    "looped-bfs": schedules.ScheduleLoopedBFS,
    "interleaved-zb": schedules.ScheduleInterleavedZeroBubble,
    "zbv": schedules.ScheduleZBVZeroBubble,
    "dualpipev": schedules.ScheduleDualPipeV,
}


@dataclass(frozen=True, slots=True)
class PipelineCase:
    """One rank of a pipeline, which is the only axis.

    Attributes:
        layers: of each stage; none is the even division.
        returns_outputs: the last stage keeps the logits of all micro-batches and joins them at the end of the step,
            which is torch's default.

    Raises:
        UsageError: a layout that splits more than the pipeline, an attention mask, or a class whose stages are not
            known here.
    """

    config: ModelConfig
    setup: TrainingSetup
    layout: Layout
    rank: int = 0
    layers: tuple[int, ...] = ()
    returns_outputs: bool = False

    def __post_init__(self) -> None:
        if self.layout.num_gpus != self.layout.pp:
            raise UsageError(f"layout {self.layout.describe()}: expected pp alone, as it is proven by itself")
        if self.setup.attention_kernel == "eager":
            raise UsageError("attention kernel eager: expected a fused one, stages are sent no attention mask")
        if self.setup.optimizer == "adamw_fused" or self.setup.has_master_weights:
            raise UsageError("optimizer adamw_fused or master weights: expected adamw_foreach or none, without them")
        if names_of(self.config).layers_path != LLAMA.layers_path:
            raise UsageError(f"{self.config.transformers_class}: expected the modules of LlamaForCausalLM")
        self.layout.coordinate(self.rank, "pp")
        stages_of_model(self.config.spec, self.layout, self.layers)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The rank's own, in depth order."""
        every = stages_of_model(self.config.spec, self.layout, self.layers)
        return tuple(stage for stage in every if stage.rank == self.rank)


class StageModule(nn.Module):
    """The layers of a stage: ids [B, S] or hidden states [B, S, H] -> hidden states, or logits [B, S, V]."""

    def __init__(self, case: PipelineCase, stage: Stage) -> None:
        super().__init__()
        model = meta_model(case.config, case.setup)
        enable_checkpointing(model, case.setup.checkpointing)
        self.base, self.head, self.is_first = model.model, model.lm_head if stage.is_last else None, stage.is_first
        self.base.layers = self.base.layers[stage.layers.start : stage.layers.stop]
        self.base.config.num_hidden_layers = len(stage.layers)
        if not stage.is_first:
            self.base.embed_tokens = None
        if not stage.is_last:
            self.base.norm = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        given = {"input_ids": x} if self.is_first else {"inputs_embeds": x}
        hidden: Tensor = self.base(**given, use_cache=False).last_hidden_state
        return hidden if self.head is None else self.head(hidden)


@dataclass(slots=True)
class PipelineProgram:
    """A training step of one rank of a pipeline: phases `passes`, forward and backward, and `optimizer`."""

    schedule: Any
    modules: list[StageModule]
    ids: Tensor | None
    labels: Tensor | None
    returns_outputs: bool
    optimizer: torch.optim.Optimizer | None

    @classmethod
    def build(cls, case: PipelineCase, device: Device = "meta") -> PipelineProgram:
        """The rank's stages. torch's world must have been started, with the ranks of the pipeline."""
        modules = [StageModule(case, stage) for stage in case.stages]
        made = [_stage(case, stage, module, device) for stage, module in zip(case.stages, modules, strict=True)]
        kind, spec = SCHEDULES[case.layout.pipeline_schedule], case.config.spec
        is_multiple = issubclass(kind, schedules.PipelineScheduleMulti)

        def loss(logits: Tensor, labels: Tensor) -> Tensor:
            value: Tensor = ForCausalLMLoss(logits=logits, labels=labels, vocab_size=spec.vocab_size)
            return value

        schedule = kind(made if is_multiple else made[0], case.layout.micro_batches, loss_fn=loss)
        shape = (case.layout.micro_batches * case.setup.micro_batch, case.setup.seq_len)
        tokens = torch.zeros(shape, dtype=torch.long, device=device)
        return cls(
            schedule,
            modules,
            tokens if any(stage.is_first for stage in case.stages) else None,
            torch.zeros_like(tokens) if any(stage.is_last for stage in case.stages) else None,
            case.returns_outputs,
            _optimizer_with_states(modules, case.setup),
        )

    def base(self) -> Named:
        """What exists before the step: parameters, buffers, token ids on the first rank, labels on the last."""
        for module in self.modules:
            yield from module_tensors(module)
        for name, tensor in (("input_ids", self.ids), ("labels", self.labels)):
            if tensor is not None:
                yield name, tensor
        if self.optimizer is not None:
            for state in self.optimizer.state.values():
                yield from state.items()

    def phases(self) -> Iterator[str]:
        ids = () if self.ids is None else (self.ids,)
        target = {} if self.labels is None else {"target": self.labels}
        self.schedule.step(*ids, return_outputs=self.returns_outputs, **target)
        yield "passes"
        if self.optimizer is not None:
            self.optimizer.step()
        yield "optimizer"


def _optimizer_with_states(modules: list[StageModule], setup: TrainingSetup) -> torch.optim.Optimizer | None:
    """One that has stepped once, and gradients as before a step."""
    parameters: list[Tensor] = [parameter for module in modules for parameter in module.parameters()]
    if (optimizer := optimizer_of(parameters, setup)) is not None:
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
    for module in modules:
        reset_gradients(module, setup)
    return optimizer


def _stage(case: PipelineCase, stage: Stage, module: StageModule, device: Device) -> PipelineStage:
    """With the shapes of what it takes and gives, so that torch need not ask the other ranks for them."""
    spec, setup = case.config.spec, case.setup
    rows, dtype = (setup.micro_batch, setup.seq_len), DTYPES[setup.precision]
    ids = torch.zeros(rows, dtype=torch.long, device=device)
    hidden = torch.empty(*rows, spec.hidden_size, dtype=dtype, device=device, requires_grad=True)
    logits = torch.empty(*rows, spec.vocab_size, dtype=dtype, device=device, requires_grad=True)
    return PipelineStage(
        module,
        stage.index,
        Pipeline.of(case.layout).num_stages,
        torch.device(device),
        input_args=ids if stage.is_first else hidden,
        output_args=logits if stage.is_last else hidden,
    )
