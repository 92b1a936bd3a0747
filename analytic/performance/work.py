"""What a case executes, in the few quantities that explain its seconds.

Products are counted as executed: with recomputation, and without the pairs that a fused causal kernel skips.
Bytes are those of the memory schedule, which is proven against torch: each allocated tensor is written once
and read once, at the least. Operations in place and repeated reads are left to the fitted coefficient.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import astuple, dataclass, replace

from analytic.memory.implementation import Implementation, NotPredicted
from analytic.memory.layer import training_events, transient_events
from analytic.memory.schedule import schedule_of
from analytic.memory.static import model_tensors
from analytic.memory.step import allocated_bytes
from analytic.model.checkpointing import last_projection_flops, recomputes_layers
from analytic.model.flops import head_flops, layer_flops
from analytic.model.optimizer import FP32_BYTES, cost_of
from analytic.model.spec import LayerSpec
from analytic.performance.calibration import Case


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Attributes:
    matmul_flops: executed FLOPs of projections, router and head. expert_flops: those of routed experts.
    attention_flops: those of QK^T and PV. moved_bytes: written and read. layer_passes: for each layer,
        forward is one, backward two, recomputation one more.
    """

    matmul_flops: float = 0
    expert_flops: float = 0
    attention_flops: float = 0
    moved_bytes: float = 0
    layer_passes: float = 0

    def __add__(self, other: Work) -> Work:
        return Work(**{name: getattr(self, name) + getattr(other, name) for name in TERMS})

    def times(self, n: int) -> Work:
        return Work(**{name: n * getattr(self, name) for name in TERMS})

    @property
    def terms(self) -> tuple[float, ...]:
        return astuple(self)


TERMS = tuple(Work.__dataclass_fields__)


def work_of(case: Case, optimizer_share: float = 1) -> Work | NotPredicted:
    """What a case executes, with a share of the optimizer's step; NotPredicted where there is no memory schedule."""
    schedule = schedule_of(case.config, case.setup)
    if isinstance(schedule, NotPredicted):
        return schedule
    setup, spec = case.setup, case.config.spec
    total = Work(moved_bytes=2 * _allocated(case, schedule.implementation))
    for layer, count in Counter(case.layers).items():
        total += _layer(layer, spec.hidden_size, case).times(count)
    if case.part == "step":
        head = 3 * head_flops(spec, setup.seq_len).total * setup.micro_batch
        total += Work(matmul_flops=head, moved_bytes=optimizer_share * optimizer_bytes(case))
    return total


def _layer(layer: LayerSpec, hidden_size: int, case: Case) -> Work:
    setup = case.setup
    is_fused = setup.attention_kernel != "eager"
    forward = layer_flops(layer, hidden_size, setup.seq_len, "causal" if is_fused else "full")
    scores, experts = forward["self_attn"], forward.terms.get("mlp.experts", 0)
    products = forward.total - scores - experts
    recomputed = int(recomputes_layers(setup.checkpointing) and case.part != "forward")
    passes = 1 if case.part == "forward" else 3 + recomputed
    # a fused kernel's backward forms QK^T again: five products for the forward's two (arXiv:2307.08691, section 3.1)
    score_passes = 1.0 if case.part == "forward" else 1 + (2.5 if is_fused else 2) + recomputed
    return Work(
        matmul_flops=passes * products - recomputed * last_projection_flops(layer, forward),
        expert_flops=passes * experts,
        attention_flops=score_passes * scores,
        layer_passes=passes / setup.micro_batch,
    ).times(setup.micro_batch)


def _allocated(case: Case, implementation: Implementation) -> int:
    """Bytes of every allocated tensor, in blocks of 512 whatever the case assumes: its file does not state that."""
    setup, spec = replace(case.setup, rounding_bytes=512, counts_kernel_bytes=False), case.config.spec
    if case.part == "step":
        return allocated_bytes(spec, implementation, setup)
    if case.part == "forward":
        events = transient_events(case.layers[0], spec.hidden_size, implementation, setup)
    else:
        events, _ = training_events(case.layers[0], spec.hidden_size, implementation, setup)
    return sum(size_bytes for _, size_bytes in events if size_bytes > 0)


def optimizer_bytes(case: Case) -> int:
    """Read and written by the optimizer's step.

    Where there are master weights, each gradient is read and written in fp32 before it, and after it each weight is
    read in fp32 and written back.
    """
    setup = case.setup
    numel = sum(count for _, count in model_tensors(case.config.spec))
    copied = 2 * (setup.itemsize + FP32_BYTES) if setup.has_master_weights else 0
    return numel * (cost_of(setup.optimizer).passes * setup.optimizer_itemsize + copied)
