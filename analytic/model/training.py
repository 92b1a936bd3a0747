"""What one GPU does in a training step: batch, sequence, precision, optimizer, checkpointing, kernels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from analytic.errors import UsageError
from analytic.limits import MAX_DIMENSION
from analytic.model.checkpointing import Checkpointing
from analytic.model.optimizer import FP32_BYTES, Optimizer, cost_of
from analytic.model.spec import LatentAttention, ModelSpec

Precision = Literal["fp16", "bf16", "fp32"]
AttentionKernel = Literal["eager", "flash", "efficient", "cudnn"]
Rounding = Literal[1, 512]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingState:
    """Bytes per parameter of weights, gradients and optimizer: the one definition for counts, plans and capacity.

    In mixed precision with AdamW these are 2 of weights, 2 of gradients, 4 of fp32 master weights and twice 4 of
    moments: 16 from the end of backward on. Before the optimizer's step each gradient is cast to fp32 and freed, so
    that the step itself holds 18: 4 of gradients in place of 2. The schedule adds the last tensor's 16-bit gradient
    at the moment of its cast, token ids, buffers and the rounding of the allocator.

    Attributes:
        optimizer: states of the optimizer's own. optimizer_gradients: gradients as the optimizer's step reads them.
        contents: the same in words.
    """

    weights: int
    gradients: int
    master_weights: int
    optimizer: int
    optimizer_gradients: int
    contents: str

    @property
    def total(self) -> int:
        """At the end of backward: what sharding shares."""
        return self.weights + self.gradients + self.master_weights + self.optimizer

    @property
    def in_optimizer_step(self) -> int:
        """While the optimizer's step runs, without temporaries of its own."""
        return self.total - self.gradients + self.optimizer_gradients

    def __str__(self) -> str:
        """`16 bytes per parameter (18 in the optimizer's step): bf16 weights and gradients, ...`."""
        more = self.in_optimizer_step
        step = f" ({more} in the optimizer's step)" if more != self.total else ""
        return f"{self.total} bytes per parameter{step}: {self.contents}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSetup:
    """One training step on one GPU. Command-line strings become this, and are checked here.

    Attributes:
        micro_batch, seq_len: sequences in one forward pass, and tokens in each.
        precision: the type of parameters, activations and of the gradients that autograd makes.
        has_master_weights: an fp32 copy of the parameters and fp32 gradients exist, too. The optimizer works
            on those, and its states are fp32.
        optimizer: `torch.optim.AdamW` in one of its implementations, or none.
        checkpointing: which layers run again in backward.
        attention_kernel: `transformers`' own eager attention, or one of torch's fused operators. Flash takes
            heads of one width only: `check_kernel`.
        is_accumulating: gradients exist already, and new ones are added to them; otherwise they are None.
        rounding_bytes: what the allocator rounds each tensor up to: 512 on CUDA, 1 for the bytes requested.
        counts_kernel_bytes: also count what CUDA's flash attention allocates inside its backward, which is
            known from its source and which no witness without a GPU can see.

    Raises:
        UsageError: a value outside what it may be, or two that exclude each other.
    """

    seq_len: int
    micro_batch: int = 1
    precision: Precision = "bf16"
    has_master_weights: bool = False
    optimizer: Optimizer = "adamw_fused"
    checkpointing: Checkpointing = "none"
    attention_kernel: AttentionKernel = "flash"
    is_accumulating: bool = False
    rounding_bytes: Rounding = 1
    counts_kernel_bytes: bool = False

    def __post_init__(self) -> None:
        for name in ("seq_len", "micro_batch"):
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= MAX_DIMENSION:
                raise UsageError(f"{name} = {value!r}: expected an integer from 1 to {MAX_DIMENSION}")
        for name, allowed in _CHOICES.items():
            value = getattr(self, name)
            if type(value) not in (int, str) or value not in allowed:  # 512.0 and True are equal to integers
                raise UsageError(f"{name} = {value!r}: expected one of {', '.join(map(str, allowed))}")
        if self.precision == "fp32" and self.attention_kernel != "eager":
            raise UsageError(f"attention kernel {self.attention_kernel} takes fp16 and bf16: expected eager with fp32")
        if self.precision == "fp32" and self.has_master_weights:
            raise UsageError("master weights: fp32 parameters are their own")

    @property
    def tokens(self) -> int:
        """Tokens in one forward pass."""
        return self.micro_batch * self.seq_len

    @property
    def itemsize(self) -> int:
        """Bytes of one element of the compute type."""
        return FP32_BYTES if self.precision == "fp32" else 2

    @property
    def optimizer_itemsize(self) -> int:
        """Bytes of one element of what the optimizer works on."""
        return FP32_BYTES if self.has_master_weights else self.itemsize

    @property
    def state(self) -> TrainingState:
        """What training holds per parameter, whatever the shapes."""
        optimizer = cost_of(self.optimizer)
        states = f"{optimizer.name} in {'fp32' if self.optimizer_itemsize == FP32_BYTES else self.precision}"
        return TrainingState(
            weights=self.itemsize,
            gradients=self.itemsize,
            master_weights=FP32_BYTES if self.has_master_weights else 0,
            optimizer=len(optimizer.states) * self.optimizer_itemsize,
            optimizer_gradients=self.optimizer_itemsize,
            contents=", ".join(
                (
                    f"{self.precision} weights and gradients",
                    *(("fp32 master weights",) if self.has_master_weights else ()),
                    states if optimizer.states else optimizer.name,
                )
            ),
        )

    def rounded(self, size_bytes: int) -> int:
        """What the allocator takes for a tensor of `size_bytes`."""
        return -(-size_bytes // self.rounding_bytes) * self.rounding_bytes


def fused_kernel(spec: ModelSpec) -> AttentionKernel:
    """The fused attention of a model on CUDA: flash where it takes the heads, or else cuDNN's."""
    return "flash" if takes_heads("flash", spec) else "cudnn"


def takes_heads(kernel: AttentionKernel, spec: ModelSpec) -> bool:
    """Whether a kernel takes a model's heads: flash wants queries and values of one width.

    Sources: torch aten/src/ATen/native/transformers/cuda/sdp_utils.cpp, check_head_dim_size_flash; on the CPU
    aten/src/ATen/native/transformers/attention.cpp, _scaled_dot_product_flash_attention_cpu.
    """
    return kernel != "flash" or _uneven(spec) is None


def check_kernel(kernel: AttentionKernel, spec: ModelSpec) -> None:
    """Raise a UsageError unless a kernel takes a model's heads."""
    uneven = _uneven(spec)
    if uneven is not None and not takes_heads(kernel, spec):
        raise UsageError(
            f"attention kernel {kernel} takes heads of one width, these have {uneven.qk_head_dim} for queries and "
            f"{uneven.v_head_dim} for values: expected cudnn, efficient or eager"
        )


def planned_setup(spec: ModelSpec, seq_len: int, micro_batch: int, precision: Precision) -> TrainingSetup:
    """How a plan trains: fully checkpointed, AdamW on fp32 states, accumulating; fused attention where possible.

    Its state is the 16 bytes per parameter of `TrainingState`, in any 16-bit precision.
    """
    return TrainingSetup(
        seq_len=seq_len,
        micro_batch=micro_batch,
        precision=precision,
        has_master_weights=precision != "fp32",
        checkpointing="full",
        attention_kernel="eager" if precision == "fp32" else fused_kernel(spec),
        is_accumulating=True,
        rounding_bytes=512,
    )


def _uneven(spec: ModelSpec) -> LatentAttention | None:
    kinds = {layer.attention for layer in spec.layers}
    return next((a for a in kinds if isinstance(a, LatentAttention) and a.qk_head_dim != a.v_head_dim), None)


_CHOICES = {
    "precision": get_args(Precision),
    "optimizer": get_args(Optimizer),
    "checkpointing": get_args(Checkpointing),
    "attention_kernel": get_args(AttentionKernel),
    "rounding_bytes": get_args(Rounding),
}
