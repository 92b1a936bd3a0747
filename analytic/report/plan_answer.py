"""The answer of `plan`, in at most eight lines: the model, its tokens, its loss, the machine, what each rests on."""

from __future__ import annotations

from collections.abc import Mapping

from analytic.model.spec import DenseFfn, ModelSpec
from analytic.planning.assumptions import BAND_NATS
from analytic.planning.forward import Plan
from analytic.planning.intervals import PlanIntervals
from analytic.report.document import Line
from analytic.report.intervals import after
from analytic.report.placement import verdict
from analytic.report.sizes import served_line
from analytic.report.units import compact, days_text, percent, usd_text

MOST_LINES = 8


def answer(plan: Plan) -> list[Line]:
    option, outcome, params, schedule = plan.option, plan.outcome, plan.params, plan.schedule
    tokens = f"{compact(outcome.tokens)}, {outcome.tokens / params.active:.1f} a parameter"
    lines = [
        Line("model", _model_line(plan)),
        Line("tokens", tokens if plan.intervals is None else after(tokens, plan.intervals.tokens)),
        Line("loss", f"{_without(plan)}{loss_text(outcome.loss, plan.losses, plan.intervals)} ({_by_law(plan)})"),
        Line("machine", _machine_line(plan)),
        Line("MFU", f"{percent(option.mfu.value)} {option.mfu.origin}"),
        Line("fit", verdict(plan.placement)),
    ]
    if plan.skipped:
        lines.append(Line("passed over", "; ".join(f"{each.option.gpu.key}: {each.reason}" for each in plan.skipped)))
    if plan.served is not None:
        lines.insert(3, served_line(plan, plan.served))
    if len(lines) >= MOST_LINES:
        return lines
    if schedule.num_gpus is None:
        lines.append(Line("next", "fix the machine with --num-gpus or --days; --write-config PATH; -v for every term"))
    else:
        lines.append(Line("next", "--write-config PATH writes the model; -v shows every term"))
    return lines


def _model_line(plan: Plan) -> str:
    """The size and the shape, and next to them, or for a law of known error before them, the sizes that do as well."""
    params, band, best = plan.params, plan.sensitivity.band, plan.sensitivity.best_of_family
    active = f", {compact(params.active)} active" if params.active != params.total else ""
    size = f"{compact(params.total)} parameters{active}: {shape_text(plan.spec)}"
    if plan.request.params is not None:
        lower = plan.outcome.loss - best.loss
        return f"{size}; as asked for: N {compact(best.candidate.params)} would be {lower:.3f} nats lower"
    if plan.request.allocation is not None:
        return f"{size}; the size by {plan.request.allocation.name}"
    near = "" if band is None else f"{compact(band[0])} to {compact(band[1])}{_as_counted(plan)}"
    if plan.intervals is None:
        return f"{size}; {near} come within {BAND_NATS} nats" if near else size
    near = f"{near} parameters come within {BAND_NATS} nats; " if near else ""
    return f"{near}best {after(f'{compact(params.total)}{active}', plan.intervals.params)}: {shape_text(plan.spec)}"


def _as_counted(plan: Plan) -> str:
    """Which parameters a law counts, where not all of them."""
    params, counted = plan.params, plan.outcome.candidate.params
    if counted == params.total:
        return ""
    return " active" if counted == params.active else " non-embedding"


def _without(plan: Plan) -> str:
    """What stands where a loss would, of a law that says none."""
    allocation = plan.request.allocation
    return "" if allocation is None else f"none by {allocation.name}, which gives N and D alone; "


def _by_law(plan: Plan) -> str:
    if plan.intervals is None:
        return f"{plan.request.law.name}, which states no intervals"
    return f"{plan.request.law.name}, {plan.intervals.decades_beyond:.1f} decades beyond its runs"


def _machine_line(plan: Plan) -> str:
    option, schedule = plan.option, plan.schedule
    hours = f"{float(schedule.gpu_hours):,.0f} GPU-hours of {option.gpu.name}"
    if schedule.num_gpus is not None and schedule.days is not None:
        hours = f"{days_text(schedule.days)} on {schedule.num_gpus:,} x {option.gpu.name}"
    if schedule.usd is None or option.price is None:
        return f"{hours}, no price known"
    return f"{hours}, {usd_text(schedule.usd)} at {option.price.usd_per_gpu_hour:.2f} USD/h ({option.price.origin})"


def loss_text(loss: float, others: Mapping[str, float], intervals: PlanIntervals | None = None) -> str:
    """A loss with its intervals, if there are any, next to what other laws say of the same N and D."""
    text = f"{loss:.2f} nats per token"
    if intervals is not None:
        text = after(f"{loss:.3f} nats per token", intervals.loss, "{:.3f}".format)
    if len(others) < 2:
        return text
    return f"{text}; {min(others.values()):.2f} to {max(others.values()):.2f} by {len(others)} laws"


def shape_text(spec: ModelSpec) -> str:
    layer = spec.layers[0]
    width = layer.ffn.intermediate_size if isinstance(layer.ffn, DenseFfn) else layer.ffn.expert_intermediate_size
    depth = "1 layer" if len(spec.layers) == 1 else f"{len(spec.layers)} layers"
    return f"{depth}, width {spec.hidden_size:,}, feed-forward {width:,}"
