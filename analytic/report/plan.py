"""A plan from a budget as text: rounds, picks units, and says of every figure where it is from."""

from __future__ import annotations

from fractions import Fraction

from analytic.model.spec import DenseFfn, ModelSpec
from analytic.performance.mfu import without_communication
from analytic.planning.forward import BAND_NATS, Plan, Schedule
from analytic.planning.market import Market, Option
from analytic.report.plan_lines import (
    UPPER_BOUND,
    figures,
    fit,
    gpus_text,
    law_notes,
    n_name,
    off,
    percent,
    row,
    si,
    worth,
)
from analytic.report.text import flops_text, params_text, table
from analytic.scaling.optimum import Allocation

DEPTH_SOURCE = "published: 102 (Llama-2-70B) to 130 (Llama-3.1-405B), 37 below a width of 2,048 (Qwen3-0.6B)"


def forward_text(plan: Plan, flat: Plan | None = None) -> str:
    """What `plan.py --budget` prints; `flat` is the same plan at a constant MFU."""
    blocks = (
        _market(plan.request.market),
        _spending(plan),
        _model(plan),
        fit(plan.placement),
        *([beside(plan, flat)] if flat is not None else []),
        _hanging(plan),
        _law_lines(plan),
    )
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def beside(plan: Plan, flat: Plan) -> list[str]:
    """The plan and the same at a constant MFU."""
    header = ("beside a constant MFU", "GPU", "MFU", "N", "D", "loss", "architecture")
    rows = [
        (
            name,
            each.option.gpu.key,
            percent(each.option.mfu.value),
            *figures(each.params.total, each.outcome.tokens, each.outcome.loss),
            _shape(each.spec),
        )
        for name, each in (("this plan", plan), (f"at a flat MFU, {flat.option.mfu.origin}", flat))
    ]
    return table([header, *rows], left=2)


def _market(market: Market) -> list[str]:
    header = ("GPU", "price, from", "MFU, from", "USD/h", "dense TFLOP/s", "MFU", "EFLOP per USD")
    rows = [
        (
            option.gpu.key,
            option.price.origin,
            option.mfu.brief,
            f"{option.price.usd_per_gpu_hour:.2f}",
            f"{option.gpu.peak(option.dtype) / 1e12:,.1f} {option.dtype}",
            percent(option.mfu.value),
            f"{float(option.flops_per_usd) / 1e18:.4f}",
        )
        for option in market.options
    ]
    sources = [f"MFU of {o.gpu.key}: {o.mfu.origin}" for o in market.options if o.mfu.brief != o.mfu.origin]
    left_out = ", ".join(f"{rejected.gpu.key} ({rejected.reason})" for rejected in market.rejected)
    return [*table([header, *rows], left=3), *sources, *([f"not compared: {left_out}"] if left_out else [])]


def _spending(plan: Plan) -> list[str]:
    option, schedule = plan.option, plan.schedule
    lines = [
        row("budget", f"{plan.request.budget_usd:,.2f} USD on {option.gpu.name}"),
        row("compute, C", f"{flops_text(round(plan.compute_flops))} ({si(plan.compute_flops)})"),
        row(
            "  peak",
            f"published, dense {option.dtype} ({option.gpu.source}){_doubt(option, 'dense_tflops', option.dtype)}",
        ),
        row("  MFU", f"{percent(option.mfu.value)} {option.mfu.origin}"),
    ]
    if plan.request.assumed:
        lines.append(row("assumed (defaults)", ", ".join(plan.request.assumed)))
    bound = f"  ({UPPER_BOUND})" if without_communication(option.mfu, schedule.num_gpus) else ""
    unspent = plan.request.budget_usd - float(schedule.usd)
    left_over = f"; {unspent:,.2f} USD cannot be used" if plan.dataset_limited else ""
    lines += [
        row("spent", f"{float(schedule.usd):,.2f} USD{bound}{left_over}"),
        row("GPU-hours", f"{float(schedule.gpu_hours):,.1f}"),
        row("time", _time(schedule)),
        row(
            "energy of the boards",
            f"{float(schedule.energy_kwh):,.0f} kWh, assumed: every board at its TDP{_doubt(option, 'tdp_watts')}",
        ),
    ]
    return lines


def _doubt(option: Option, *path: str) -> str:
    """A mark beside a figure for which no datasheet was read."""
    return ", unverified" if ".".join(path) in option.gpu.unverified else ""


def _time(schedule: Schedule) -> str:
    if schedule.num_gpus is None or schedule.days is None:
        return f"{float(schedule.gpu_hours) / 24:,.1f} GPU-days; fix it with --num-gpus or --days"
    return f"{float(schedule.days):,.2f} days on {gpus_text(schedule.num_gpus)}"


def _model(plan: Plan) -> list[str]:
    outcome, family, params = plan.outcome, plan.family, plan.params
    layer, tokens = outcome.candidate.layer, outcome.tokens
    padding = family.padded_vocab_size - family.vocab_size
    per_token = outcome.candidate.flops_per_token
    above = outcome.candidate.params / plan.optimum.params - 1
    tied = "; output head tied" if family.tied else ""
    reason = "" if plan.within_tolerance else f": the nearest that the {family.kind} family has"
    if plan.request.chosen is not None:
        reason = " of a constant MFU: chosen with its own"
    lines = [
        row("architecture", _shape(plan.spec)),
        row("", f"vocabulary {family.padded_vocab_size:,}, {padding} of it padding; {layer.kind}{tied}"),
        row("", f"width / depth = {plan.spec.hidden_size / len(plan.spec.layers):.1f}, {DEPTH_SOURCE}"),
        row("", f"{n_name(params)} {above * 100:+.2f}% from the optimum{reason}"),
        row("N, parameters", f"{params.total:,} ({params_text(params.total)}), from the formula"),
    ]
    if params.active != params.total:
        lines.append(row("  active per token", f"{params.active:,} ({params_text(params.active)})"))
    lines += [
        row("FLOPs per token, training", f"{per_token:,}, from the formula: {family.convention} attention"),
        row(f"  6 {n_name(params)}", f"{6 * params.active:,}: {off(Fraction(6 * params.active, per_token))}"),
        row("D, tokens", f"{tokens:,} ({params_text(tokens)}), D/{n_name(params)} = {tokens / params.active:.2f}"),
        row("loss", f"{outcome.loss:.6f} nats per token, predicted by {plan.request.law.name}"),
    ]
    if plan.epochs is not None:
        limited = ", which end before the money does" if plan.dataset_limited else ""
        lines.append(row("epochs", f"{plan.epochs:.4f} over {plan.request.data.dataset_tokens:,} tokens{limited}"))
        lines += worth(plan.request.law, tokens, plan.request.data.unique)
    return lines


def _shape(spec: ModelSpec) -> str:
    layer = spec.layers[0]
    width = layer.ffn.intermediate_size if isinstance(layer.ffn, DenseFfn) else layer.ffn.expert_intermediate_size
    return f"{len(spec.layers)} layers, width {spec.hidden_size:,}, feed-forward {width:,}"


def _hanging(plan: Plan) -> list[str]:
    s, best = plan.sensitivity, plan.sensitivity.best_of_family
    header = ("what the answer hangs on", n_name(plan.params), "D", "loss")
    rows = [
        ("this plan's architecture", *figures(plan.outcome.candidate.params, plan.outcome.tokens, plan.outcome.loss)),
        ("optimum, exact FLOPs", *_allocation(plan.optimum)),
        ("best of the whole family", *figures(best.candidate.params, best.tokens, best.loss)),
        ("optimum of C = 6 N D", *_allocation(plan.six_nd)),
        ("MFU 10% lower", *_allocation(s.lower_mfu)),
        ("price 10% higher", *_allocation(s.higher_price)),
        *((f"law {law.name}", *_allocation(allocation)) for law, allocation in s.laws),
    ]
    lines = table([header, *rows])
    if s.band is not None:
        least, most = map(params_text, s.band)
        lines.append(f"every N from {least} to {most} can come within {BAND_NATS} nats of the optimum")
    return lines


def _law_lines(plan: Plan) -> list[str]:
    lines = law_notes(plan.request.law, plan.extrapolations, plan.epochs, moe=plan.spec.has_experts)
    if plan.request.law.n_means == "total" or plan.request.family.kind == "moe":
        return lines
    return [*lines, row("  N for this law", f"{plan.outcome.candidate.params:,}")]


def _allocation(allocation: Allocation) -> tuple[str, str, str]:
    return figures(round(allocation.params), round(allocation.tokens), allocation.loss)
