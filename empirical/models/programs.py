"""What is measured: one decoder layer of `transformers`, or a training step of a whole model, phase by phase.

A program is run by a backend of `empirical.witnesses.memory`. It names the tensors that exist before it starts, and
yields whenever a phase has ended, so that a backend can read peaks in between. All of it runs on any
device; attention is called as the explicit operator of the setup, because on the meta device torch would
take the unfused one in its place, and on CUDA would choose by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, assert_never

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_iter
from torch.utils.checkpoint import checkpoint
from transformers.integrations.sdpa_attention import repeat_kv
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from analytic.huggingface.config import ModelConfig
from analytic.model.checkpointing import Checkpointing
from analytic.model.spec import LayerRun
from analytic.model.training import AttentionKernel, Precision, TrainingSetup
from empirical.models.build import AttentionImplementation, Device, our_layer, transformers_model
from empirical.models.names import names_of

aten = torch.ops.aten

DTYPES: dict[Precision, torch.dtype] = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
ATTENTION_NAMES: dict[AttentionKernel, str] = {
    "eager": "eager",
    "flash": "foretrain_fused",  # a name with "flash" in it makes transformers look for another package
    "efficient": "foretrain_efficient",
    "cudnn": "foretrain_cudnn",
}

_CHECKPOINT: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": False}

Named = Iterator[tuple[str, Tensor]]


def _fused(
    module: nn.Module, q: Tensor, k: Tensor, v: Tensor, _: object, *, scaling: float, dropout: float = 0.0, **__: Any
) -> tuple[Tensor, None]:
    """Flash attention; on the CPU its implementation there, which keeps no random state."""
    if q.device.type == "cpu":
        out = aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, dropout, True, scale=scaling)[0]
    else:
        out = aten._scaled_dot_product_flash_attention(q, k, v, dropout, True, False, scale=scaling)[0]
    return out.transpose(1, 2).contiguous(), None


def _cudnn(
    module: nn.Module, q: Tensor, k: Tensor, v: Tensor, _: object, *, scaling: float, dropout: float = 0.0, **__: Any
) -> tuple[Tensor, None]:
    """cuDNN's attention, with row statistics where there will be a backward."""
    needs_statistics = torch.is_grad_enabled()
    out = aten._scaled_dot_product_cudnn_attention(
        q, k, v, None, needs_statistics, dropout, True, False, scale=scaling
    )[0]
    return out.transpose(1, 2).contiguous(), None


def _efficient(
    module: nn.Module, q: Tensor, k: Tensor, v: Tensor, _: object, *, scaling: float, dropout: float = 0.0, **__: Any
) -> tuple[Tensor, None]:
    """Memory-efficient attention, which before torch 2.15 wants as many heads of keys and values as of queries."""
    groups, needs_statistics = q.shape[1] // k.shape[1], torch.is_grad_enabled()
    out = aten._scaled_dot_product_efficient_attention(
        q, repeat_kv(k, groups), repeat_kv(v, groups), None, needs_statistics, dropout, True, scale=scaling
    )[0]
    return out.transpose(1, 2).contiguous(), None


ALL_ATTENTION_FUNCTIONS.register(ATTENTION_NAMES["flash"], _fused)
ALL_ATTENTION_FUNCTIONS.register(ATTENTION_NAMES["efficient"], _efficient)
ALL_ATTENTION_FUNCTIONS.register(ATTENTION_NAMES["cudnn"], _cudnn)


class _Sink(torch.autograd.Function):
    """Takes a layer's output, and gives back a gradient that only the engine holds: the rest of a model."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.like = (x.shape, x.dtype, x.device)
        return x.new_empty(0)

    @staticmethod
    def backward(ctx: Any, _: Tensor) -> Tensor:
        shape, dtype, device = ctx.like
        return torch.zeros(shape, dtype=dtype, device=device)


def attention_mask(setup: TrainingSetup, device: Device) -> Tensor | None:
    if setup.attention_kernel != "eager":
        return None
    return torch.zeros(1, 1, setup.seq_len, setup.seq_len, dtype=DTYPES[setup.precision], device=device)


def _input(config: ModelConfig, setup: TrainingSetup, device: Device) -> Tensor:
    shape = (setup.micro_batch, setup.seq_len, config.spec.hidden_size)
    return torch.zeros(shape, dtype=DTYPES[setup.precision], device=device, requires_grad=True)


def meta_model(config: ModelConfig, setup: TrainingSetup) -> Any:
    """The real model, in training mode, on meta."""
    attention: Any = ATTENTION_NAMES[setup.attention_kernel]
    model = transformers_model(config, attention=attention, dtype=DTYPES[setup.precision], device="meta")
    return model.train()


def materialize(module: nn.Module, device: Device) -> None:
    """Move a module from meta to a device; its weights are zero, as sizes are all that is measured."""
    if torch.device(device).type == "meta":
        return
    module.to_empty(device=device)
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            tensor.zero_()


@dataclass(slots=True)
class LayerProgram:
    """One layer: forward without gradients, forward as in training, backward.

    Its phases are `forward_transient` (when it ends, the output is live), `released` (the output goes),
    `saved` (when it ends, what is saved is live, the output is not) and `backward_peak`.
    """

    layer: nn.Module
    x: Tensor
    arguments: dict[str, Any]
    setup: TrainingSetup

    @classmethod
    def build(cls, config: ModelConfig, run: LayerRun, setup: TrainingSetup, device: Device) -> LayerProgram:
        """The layer at the head of `run`, and inputs for it."""
        model, names = meta_model(config, setup), names_of(config)
        layer = model.get_submodule(f"{names.layers_path}.{run.first}")
        materialize(layer, device)
        arguments: dict[str, Any] = {"attention_mask": attention_mask(setup, device)}
        if (rotary := getattr(model.get_submodule(names.base), "rotary_emb", None)) is not None:
            with torch.device(device):
                like, positions = torch.empty(1, dtype=DTYPES[setup.precision]), torch.arange(setup.seq_len)[None]
                arguments["position_embeddings"] = type(rotary)(config=model.config)(like, positions)
        program = cls(layer, _input(config, setup, device), arguments, setup)
        program.reset()
        return program

    @classmethod
    def build_ours(cls, config: ModelConfig, run: LayerRun, setup: TrainingSetup, device: Device) -> LayerProgram:
        """Our own layer of that kind, which makes its rotary tables itself; to be shown next to the real one."""
        attention: AttentionImplementation = "eager" if setup.attention_kernel == "eager" else "sdpa"
        dtype = DTYPES[setup.precision]
        layer = our_layer(config, run, attention=attention, device="meta", dtype=dtype).train()
        materialize(layer, device)
        program = cls(layer, _input(config, setup, device), {}, setup)
        program.reset()
        return program

    def base(self) -> Named:
        """What exists before: parameters, buffers, gradients, and inputs."""
        yield from module_tensors(self.layer)
        yield "layer input", self.x
        for name, argument in self.arguments.items():
            for tensor in tree_iter(argument):
                if isinstance(tensor, Tensor):
                    yield name, tensor

    def phases(self) -> Iterator[str]:
        with torch.no_grad():
            out = self.call()
        yield "forward_transient"
        del out
        yield "released"
        out = _Sink.apply(self.output())
        yield "saved"
        out.backward(torch.empty_like(out))
        yield "backward_peak"

    def reset(self) -> None:
        """Ready to run again."""
        self.x.grad = None
        reset_gradients(self.layer, self.setup)

    def call(self) -> Tensor:
        """The layer's output, saving what gradients need where they are on."""
        return self._call(self.x)

    def output(self) -> Tensor:
        """The layer's output as in training, checkpointed if the setup says so."""
        match self.setup.checkpointing:
            case "none":
                return self.call()
            case "full":
                out: Tensor = checkpoint(self._call, self.x, **_CHECKPOINT)
                return out
            case _:
                assert_never(self.setup.checkpointing)

    def _call(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x, **self.arguments)
        return out


@dataclass(slots=True)
class StepProgram:
    """A training step of a whole model: phases `forward`, `backward` and `optimizer`."""

    model: Any
    inputs: dict[str, Tensor]
    setup: TrainingSetup
    optimizer: torch.optim.Optimizer | None
    masters: list[Tensor]

    @classmethod
    def build(cls, config: ModelConfig, setup: TrainingSetup, device: Device) -> StepProgram:
        """The model, token ids, and an optimizer that has stepped once, so that its states exist."""
        model = meta_model(config, setup)
        materialize(model, device)
        enable_checkpointing(model, setup.checkpointing)
        shape = (setup.micro_batch, setup.seq_len)
        ids = torch.zeros(shape, dtype=torch.long, device=device)
        inputs = {"input_ids": ids, "labels": torch.zeros_like(ids)}
        if (mask := attention_mask(setup, device)) is not None:
            inputs["attention_mask"] = mask
        parameters = list(model.parameters())
        masters = [p.detach().float().requires_grad_() for p in parameters] if setup.has_master_weights else []
        program = cls(model, inputs, setup, optimizer_of(masters or parameters, setup), masters)
        if program.optimizer is not None:
            for tensor in masters or parameters:
                tensor.grad = torch.zeros_like(tensor)
            program.optimizer.step()
        program.reset()
        return program

    def base(self) -> Named:
        yield from module_tensors(self.model)
        yield from self.inputs.items()
        for master in self.masters:
            yield "master weights", master
        if self.optimizer is not None:
            for state in self.optimizer.state.values():
                yield from state.items()

    def phases(self) -> Iterator[str]:
        loss = self.model(**self.inputs, use_cache=False).loss
        yield "forward"
        loss.backward()
        del loss
        yield "backward"
        for master, parameter in zip(self.masters, self.model.parameters(), strict=bool(self.masters)):
            master.grad = parameter.grad.float()
            parameter.grad = None
        if self.optimizer is not None:
            self.optimizer.step()
        with torch.no_grad():
            for master, parameter in zip(self.masters, self.model.parameters(), strict=bool(self.masters)):
                parameter.copy_(master)
        yield "optimizer"

    def reset(self) -> None:
        for master in self.masters:
            master.grad = None
        reset_gradients(self.model, self.setup)


def enable_checkpointing(model: Any, checkpointing: Checkpointing) -> None:
    match checkpointing:
        case "none":
            return
        case "full":
            model.activation_checkpointing_enable(_CHECKPOINT)
        case _:
            assert_never(checkpointing)


def optimizer_of(parameters: list[Tensor], setup: TrainingSetup) -> torch.optim.Optimizer | None:
    """The setup's optimizer, before its first step."""
    match setup.optimizer:
        case "adamw_fused":
            return torch.optim.AdamW(parameters, fused=True)
        case "adamw_foreach":
            return torch.optim.AdamW(parameters, foreach=True)
        case "none":
            return None
        case _:
            assert_never(setup.optimizer)


def module_tensors(module: nn.Module) -> Named:
    """Parameters, their gradients where there are any, and buffers."""
    for name, parameter in module.named_parameters():
        yield name, parameter
        if parameter.grad is not None:
            yield f"{name}.grad", parameter.grad
    yield from module.named_buffers()


def reset_gradients(module: nn.Module, setup: TrainingSetup) -> None:
    """Gradients as before a step: zeros where it accumulates, else none."""
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter) if setup.is_accumulating else None
