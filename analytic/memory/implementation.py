"""Which code a prediction is for: what of a `transformers` class shapes its memory beyond the `ModelSpec`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from analytic.huggingface.config import ModelConfig
from analytic.memory.tensors import Tensor
from analytic.model.spec import MoeFfn, Routing
from analytic.model.training import TrainingSetup

TRANSFORMERS_VERSION = "5.23"

# rotate_half on all features (Llama); even and odd features apart (DeepSeek-V3); complex pairs (DeepSeek-V2)
RotaryKind = Literal["halves", "pairs", "complex"]
RouterKind = Literal["mixtral", "qwen3_moe", "deepseek_v2", "deepseek_v3"]

_STATIC_ROTARY = ("default", "linear", "llama3", "yarn")  # one table of frequencies, whatever the length


@dataclass(frozen=True, slots=True)
class Router:
    """Whose router it is, and the options that change its temporaries."""

    kind: RouterKind
    routing: Routing


@dataclass(frozen=True, slots=True)
class Implementation:
    """A `transformers` class with what its schedule depends on.

    Attributes:
        name: what a prediction says it is for.
        rotary: how q and k are turned. router: how tokens are routed, in a model with experts.
        tp: ranks that share each matrix. vocab_size: of all of them, where the spec is that of one (`local`).
    """

    name: str
    rotary: RotaryKind
    router: Router | None
    tp: int = 1
    vocab_size: int = 0

    @property
    def attention_ranks(self) -> int:
        """Ranks that share the heads: the plan of DeepSeek-V3 leaves attention whole."""
        return 1 if self.router is not None and self.router.kind == "deepseek_v3" else self.tp


@dataclass(frozen=True, slots=True)
class NotPredicted:
    """The answer where there is no schedule, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Context:
    """What every layer is called with: the setup, the implementation, rotary tables and positions.

    A checkpointed call keeps these two alive until its layer's backward has run.
    """

    setup: TrainingSetup
    implementation: Implementation
    tables: tuple[Tensor, ...] = ()
    position_ids: Tensor | None = None


def implementation_of(config: ModelConfig, seq_len: int) -> Implementation | NotPredicted:
    """The implementation that a configuration names, if its memory is described here for sequences of that length.

    From the length of a sliding window on, `transformers` hands attention a mask, which the fused kernels
    described here do not take.
    """
    windows = [layer.attention.sliding_window for layer in config.spec.kinds]
    if any(window is not None and seq_len >= window for window in windows):
        return NotPredicted(f"no memory schedule for sequences as long as a sliding window ({seq_len} tokens)")
    reason = _why_not(config)
    if reason is not None:
        return NotPredicted(reason)
    name = f"transformers {TRANSFORMERS_VERSION} {config.transformers_class}"
    routing = config.numerics.routing
    rotary: RotaryKind = "pairs" if config.numerics.rope_interleaved else "halves"
    match config.read_as:
        case "deepseek_v2":
            return Implementation(name, "complex", Router("deepseek_v2", routing))
        case "deepseek_v3":
            return Implementation(name, rotary, Router("deepseek_v3", routing))
        case "mixtral":
            return Implementation(name, rotary, Router("mixtral", routing))
        case "qwen3_moe":
            return Implementation(name, rotary, Router("qwen3_moe", routing))
        case _:
            return Implementation(name, rotary, None)


def _why_not(config: ModelConfig) -> str | None:
    numerics = config.numerics
    if config.read_as not in _PREDICTED:
        return f"no memory schedule for {config.transformers_class}"
    if numerics.activation != "silu":
        return f"no memory schedule for the activation {numerics.activation!r}"
    if numerics.rope_type not in _STATIC_ROTARY:
        return f"no memory schedule for rotary embeddings of type {numerics.rope_type!r}"
    if config.raw.get("attention_dropout"):
        return "no memory schedule with dropout in attention"
    if config.raw.get("router_jitter_noise"):
        return "no memory schedule with jitter in the router"
    for run in config.spec.runs:
        if isinstance(run.layer.ffn, MoeFfn) and (reason := _why_not_experts(config, run.layer.ffn)):
            return reason
    return None


def _why_not_experts(config: ModelConfig, ffn: MoeFfn) -> str | None:
    if config.spec.hidden_size % _GROUPED_MULTIPLE or ffn.expert_intermediate_size % _GROUPED_MULTIPLE:
        return f"no memory schedule for experts whose widths are no multiples of {_GROUPED_MULTIPLE} (grouped_mm)"
    if config.numerics.routing.num_groups == 1 and config.raw.get("topk_method") == "group_limited_greedy":
        return "no memory schedule for group-limited routing with a single group"
    if config.read_as.startswith("deepseek") and ffn.shared is None:
        return "no memory schedule for a DeepSeek model without shared experts"
    return None


_PREDICTED = ("llama", "mistral", "qwen2", "qwen3", "mixtral", "qwen3_moe", "deepseek_v2", "deepseek_v3")
_GROUPED_MULTIPLE = 8  # rows of 16 bytes in the narrowest type (torch `aten/src/ATen/native/GroupedMMUtils.h`)
