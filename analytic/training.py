"""What one GPU does in a training step: batch, sequence, precision, optimizer, checkpointing, kernels."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from analytic.errors import UsageError
from analytic.spec import MAX_DIMENSION

ROUNDINGS = (1, 512)


class Precision(StrEnum):
    """The compute dtype: that of the parameters, the activations and the gradients that autograd makes."""

    FP16 = "fp16"
    BF16 = "bf16"
    FP32 = "fp32"

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return 4 if self is Precision.FP32 else 2


class Optimizer(StrEnum):
    """`torch.optim.AdamW` in one of its implementations, or no optimizer at all."""

    ADAMW_FUSED = "adamw_fused"
    ADAMW_FOREACH = "adamw_foreach"
    NONE = "none"


class Checkpointing(StrEnum):
    """Which layers are wrapped in `torch.utils.checkpoint` (non-reentrant, torch's default): none, or each."""

    NONE = "none"
    FULL = "full"


class AttentionKernel(StrEnum):
    """`eager` in `transformers`, or one of torch's fused operators."""

    EAGER = "eager"
    FLASH = "flash"
    CUDNN = "cudnn"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSetup:
    """One training step on one GPU.

    Attributes:
        micro_batch, seq_len: sequences in one forward pass, and tokens in each.
        has_master_weights: an fp32 copy of the parameters and fp32 gradients, made from those in the compute
            dtype before the optimizer step; the optimizer's states are then fp32, too.
        is_accumulating: gradients exist already, and new ones are added to them; otherwise they are None.
        rounding_bytes: what the allocator rounds every tensor up to: 512 on CUDA, 1 for requested bytes.

    Raises:
        UsageError: a value out of range, or two that exclude each other.
    """

    seq_len: int
    micro_batch: int = 1
    precision: Precision = Precision.BF16
    has_master_weights: bool = False
    optimizer: Optimizer = Optimizer.ADAMW_FUSED
    checkpointing: Checkpointing = Checkpointing.NONE
    attention_kernel: AttentionKernel = AttentionKernel.FLASH
    is_accumulating: bool = False
    rounding_bytes: int = 1

    def __post_init__(self) -> None:
        for name in ("seq_len", "micro_batch"):
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= MAX_DIMENSION:
                raise UsageError(f"{name} = {value!r}: expected an integer from 1 to {MAX_DIMENSION}")
        if self.rounding_bytes not in ROUNDINGS:
            raise UsageError(f"rounding_bytes = {self.rounding_bytes!r}: expected one of {ROUNDINGS}")
        if self.has_master_weights and self.precision is Precision.FP32:
            raise UsageError("has_master_weights: fp32 parameters are their own master weights")

    @property
    def tokens(self) -> int:
        """Tokens in one forward pass."""
        return self.micro_batch * self.seq_len


Choice = TypeVar("Choice", bound=StrEnum)


def choice(kind: type[Choice], flag: str, text: str) -> Choice:
    """The member of a closed set that a command-line value names.

    Raises:
        UsageError: naming the flag, the value and what it may be.

    >>> choice(Precision, "--dtype", "bf16")
    <Precision.BF16: 'bf16'>
    """
    try:
        return kind(text)
    except ValueError:
        raise UsageError(f"{flag} = {text!r}: expected one of {', '.join(kind)}") from None
