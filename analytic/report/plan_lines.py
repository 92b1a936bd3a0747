"""Lines that every kind of plan prints: what fits, what the law says, and how figures are written."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

from analytic.memory.capacity import RESERVE_BYTES
from analytic.memory.implementation import NotPredicted
from analytic.model.params import ParameterCounts
from analytic.planning.forward import MOE_APPROXIMATION
from analytic.planning.placement import Placement
from analytic.report.text import gib_text, params_text
from analytic.scaling.laws import MANY_EPOCHS, OutOfRange, ScalingLaw

LABEL = 34


UPPER_BOUND = "no communication: upper bound"


def n_name(params: ParameterCounts) -> str:
    """What N stands for where a law or 6 N D takes it: the active parameters of a model that has others."""
    return "N" if params.active == params.total else "N_active"


def worth(law: ScalingLaw, tokens: int, unique_tokens: float) -> list[str]:
    if tokens <= unique_tokens:
        return []
    worth = params_text(round(law.worth(tokens, unique_tokens)))
    return [row("  repeats fade: worth", f"{worth} new tokens")]


def fit(placement: Placement | NotPredicted) -> list[str]:
    label = "will it fit"
    if isinstance(placement, NotPredicted):
        return [row(label, f"not predicted: {placement.reason}")]
    need, least, gpus = placement.need, placement.least_gpus, placement.num_gpus
    lines = [
        row(label, f"ideal sharding, unmeasured; schedule of {placement.implementation}"),
        row("  memory of a GPU", f"{gib_text(placement.memory_bytes)}, {gib_text(RESERVE_BYTES)} of it assumed taken"),
        row(
            "  state, shared evenly",
            f"{gib_text(need.state)}: 16-bit weights and gradients, fp32 master copy and AdamW",
        ),
        row(
            "  on each GPU, besides",
            f"{gib_text(need.activations)} of activations, {gib_text(need.gathered)} of one layer",
        ),
    ]
    for layer in placement.measured:
        gib = gib_text(layer.measured_bytes)
        lines.append(row("    of them one layer's peak", f"{gib} {layer.source}; {layer.predicted_bytes:,} predicted"))
    if least is None or gpus is None:
        verdict = f"no number of these GPUs could run it at micro-batch {placement.micro_batch}"
        return [*lines, row("  fewest GPUs", verdict)]
    lines.append(row("  fewest GPUs", f"{least:,} at micro-batch {placement.micro_batch}, fully checkpointed"))
    holds = "fit" if placement.fits else "DO NOT FIT"
    most = f"largest micro-batch (power of 2): {placement.most_micro_batch}"
    return [*lines, row(f"  {gpus_text(gpus)}", f"{holds}: {gib_text(need.on_each(gpus))} on each; {most}")]


def law_notes(law: ScalingLaw, extrapolations: Iterable[OutOfRange], epochs: float | None, *, moe: bool) -> list[str]:
    lines = [
        row("scaling law", f"{law.name}: {law.citation}"),
        row("  its N, its D", f"{law.n_means} parameters; {law.d_means}"),
    ]
    if not law.fitted:
        lines.append(row("  fitted on", "not stated: nothing says where it holds"))
    lines += [
        row(
            "  extrapolates",
            f"{each.quantity} = {each.value:.4g}, fitted on {each.least:.4g} to {each.most:.4g}",
        )
        for each in extrapolations
    ]
    if moe:
        lines.append(row("  approximation", MOE_APPROXIMATION))
    if epochs is not None and epochs > 1 and not law.data_constrained:
        lines.append(row("  repeated tokens", "fade as in arXiv:2305.16264 (R_D* = 15.39), which this law borrows"))
    if epochs is not None and epochs > MANY_EPOCHS:
        lines.append(row("  warning", f"beyond {MANY_EPOCHS} epochs runs did worse than that law says"))
    return lines


def figures(params: int, tokens: int, loss: float) -> tuple[str, str, str]:
    return params_text(params), params_text(tokens), f"{loss:.6f}"


def gpus_text(count: int) -> str:
    return "1 GPU" if count == 1 else f"{count:,} GPUs"


def row(label: str, value: str) -> str:
    return f"{label:<{LABEL}}{value}"


def percent(share: float | Fraction) -> str:
    return f"{float(share) * 100:.2f}%"


def off(ratio: Fraction) -> str:
    """How a rule of thumb stands to the exact figure."""
    return f"{abs(float(ratio) - 1) * 100:.3f}% {'low' if ratio < 1 else 'high'}"


def si(flops: float | Fraction) -> str:
    return f"{float(flops):.7g} FLOP"
