"""What `plan` says of a budget spent: the model, its tokens, its loss, and what each rests on."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from analytic.huggingface.write import to_config
from analytic.model.params import ParameterCounts
from analytic.performance.mfu import Mfu, without_communication
from analytic.planning.assumptions import BAND_NATS, MOE_APPROXIMATION
from analytic.planning.budget import Dollars
from analytic.planning.forward import Plan
from analytic.report.document import Cell, Column, Document, Figure, Item, Json, Note, Section, Table, fact, facts
from analytic.report.intervals import interval_items
from analytic.report.law import law_items
from analytic.report.market import doubt, market_items, skipped_items
from analytic.report.placement import placement_items
from analytic.report.plan_answer import answer, shape_text
from analytic.report.sizes import served_items, size_items
from analytic.report.units import flops_text, gpus_text, params_text, percent, si
from analytic.scaling.laws import ScalingLaw
from analytic.scaling.optimum import Allocation

DEPTH_SOURCE = "published: 102 (Llama-2-70B) to 130 (Llama-3.1-405B), 37 below a width of 2,048 (Qwen3-0.6B)"
UPPER_BOUND = "no communication: upper bound"


def plan_document(plan: Plan, flat: Plan | None = None) -> Document:
    """A plan from a budget; `flat` is the same at a constant MFU."""
    return Document(
        verb="plan",
        answer=answer(plan),
        sections=(
            Section("", list(market_items(plan.market))),
            Section("", list(_spending(plan))),
            Section("", list(_model(plan))),
            Section("", [*size_items(plan), *served_items(plan)]),
            Section("will it fit", list(placement_items(plan.placement, "fit"))),
            Section("", list(_flat(plan, flat))),
            Section("", list(_sensitivity(plan))),
            Section("", list(_law(plan))),
            Section("", list(skipped_items(plan.skipped))),
        ),
        warnings=plan.warnings,
    )


def compared_with_flat(plan: Plan, flat: Plan) -> Table:
    """The plan and the same at a constant MFU, for people."""
    heads = ("compared with a constant MFU", "GPU", "MFU", "N", "D", "loss", "architecture")
    rows = [
        (
            name,
            each.option.gpu.key,
            percent(each.option.mfu.value),
            *amounts(each.params.total, each.outcome.tokens, each.outcome.loss),
            shape_text(each.spec),
        )
        for name, each in (("this plan", plan), (f"at a flat MFU, {flat.option.mfu.origin}", flat))
    ]
    columns = [Column("", head, is_left=i < 2) for i, head in enumerate(heads)]
    return Table("", columns, [[Cell(None, text) for text in row] for row in rows])


def n_name(params: ParameterCounts) -> str:
    """What N is where a law or 6 N D takes it: the active parameters of a model that has others."""
    return "N" if params.active == params.total else "N_active"


def amounts(params: int, tokens: int, loss: float) -> tuple[str, str, str]:
    return params_text(params), params_text(tokens), f"{loss:.6f}"


def off(ratio: Fraction) -> str:
    """How a rule of thumb compares with the exact figure."""
    return f"{abs(float(ratio) - 1) * 100:.3f}% {'low' if ratio < 1 else 'high'}"


def mfu_object(mfu: Mfu, num_gpus: int | None) -> dict[str, Json]:
    """An interval where one is known; `upper_bound`: a figure of one GPU that is taken for many."""
    return {
        "value": mfu.value,
        "low": None,
        "high": None,
        "source": mfu.origin,
        "upper_bound": without_communication(mfu, num_gpus),
    }


def allocation_object(allocation: Allocation) -> dict[str, Json]:
    return {"params": allocation.params, "tokens": allocation.tokens, "loss": allocation.loss}


def _spending(plan: Plan) -> Iterator[Item]:
    option, schedule, request = plan.option, plan.schedule, plan.request
    yield fact("gpu", option.gpu.key)
    yield _budget(plan)
    compute = round(plan.compute_flops)
    yield Figure("compute_flops", "compute, C", compute, f"{flops_text(compute)} ({si(plan.compute_flops)})")
    yield fact("used_flops", plan.used_flops)
    peak = f"published, dense {option.dtype} ({option.gpu.source}){doubt(option, 'dense_tflops', option.dtype)}"
    yield Figure("", "  peak", None, peak)
    mfu = f"{percent(option.mfu.value)} {option.mfu.origin}"
    yield Figure("mfu", "  MFU", mfu_object(option.mfu, schedule.num_gpus), mfu)
    yield Figure(
        "assumed", _if(request.assumed, "assumed (defaults)"), list(request.assumed), ", ".join(request.assumed)
    )
    bound = f"  ({UPPER_BOUND})" if without_communication(option.mfu, schedule.num_gpus) else ""
    yield _spent(plan, bound)
    yield Figure("gpu_hours", "GPU-hours", float(schedule.gpu_hours), f"{float(schedule.gpu_hours):,.1f}")
    yield fact("num_gpus", schedule.num_gpus)
    yield Figure("days", "time", None if schedule.days is None else float(schedule.days), _time(plan))
    kwh = None if schedule.energy_kwh is None else float(schedule.energy_kwh)
    assumed = f"kWh, assumed: every board at its TDP{doubt(option, 'tdp_watts')}"
    yield Figure("energy_kwh", "energy of the boards", kwh, "TDP unknown" if kwh is None else f"{kwh:,.0f} {assumed}")


def _budget(plan: Plan) -> Figure:
    budget, name = plan.request.budget, plan.option.gpu.name
    if isinstance(budget, Dollars):
        return Figure("budget_usd", "budget", budget.usd, f"{budget.usd:,.2f} USD on {name}")
    return Figure("budget_usd", "budget", None, f"{budget.hours:,g} hours of {budget.num_gpus:,} x {name}")


def _spent(plan: Plan, bound: str) -> Figure:
    if plan.schedule.usd is None or plan.unspent_usd is None:
        return Figure("usd", "spent", None, f"unknown: no price{bound}")
    usd, unspent = float(plan.schedule.usd), float(plan.unspent_usd)
    left_over = f"; {unspent:,.2f} USD is left over: the data end first" if plan.dataset_limited else ""
    label = "spent" if plan.served is None else "spent on training"
    return Figure("usd", label, usd, f"{usd:,.2f} USD{bound}{left_over}")


def _if(condition: object, label: str) -> str:
    """A label that only machines see where there is nothing to say."""
    return label if condition else ""


def _time(plan: Plan) -> str:
    schedule = plan.schedule
    if schedule.num_gpus is None or schedule.days is None:
        return f"{float(schedule.gpu_hours) / 24:,.1f} GPU-days; fix it with --num-gpus or --days"
    return f"{float(schedule.days):,.2f} days on {gpus_text(schedule.num_gpus)}"


def _model(plan: Plan) -> Iterator[Item]:
    outcome, family, params = plan.outcome, plan.family, plan.params
    per_token, name = outcome.candidate.flops_per_token, n_name(params)
    yield Figure("architecture", "architecture", to_config(plan.spec, family.seq_len), shape_text(plan.spec))
    yield from _architecture_notes(plan)
    yield Figure(
        "params", "N, parameters", params.total, f"{params.total:,} ({params_text(params.total)}), from the formula"
    )
    active = f"{params.active:,} ({params_text(params.active)})"
    yield Figure("params_active", _if(params.active != params.total, "  active per token"), params.active, active)
    yield fact("law_params", outcome.candidate.params)
    counted = f"{per_token:,}, from the formula: {family.convention} attention"
    yield Figure("flops_per_token", "FLOPs per token, training", per_token, counted)
    six = f"{6 * params.active:,}: {off(Fraction(6 * params.active, per_token))}"
    yield Figure("six_nd_flops", f"  6 {name}", plan.six_nd_flops, six)
    tokens = f"{outcome.tokens:,} ({params_text(outcome.tokens)}), D/{name} = {outcome.tokens / params.active:.2f}"
    yield Figure("tokens", "D, tokens", outcome.tokens, tokens)
    loss = f"{outcome.loss:.6f} nats per token, predicted by {plan.request.law.name}"
    allocation = plan.request.allocation
    if allocation is None:
        yield Figure("loss", "loss", outcome.loss, loss)
        yield fact("loss_by_another", None)
    else:
        yield Figure("loss", "loss", None, f"none by {allocation.name}, which gives N and D alone; {loss}")
        yield fact("loss_by_another", {"law": plan.request.law.name, "loss": outcome.loss})
    yield from interval_items(plan.intervals)
    yield from facts({"attention": family.convention, "seq_len": family.seq_len})
    yield from _data(plan)


def _architecture_notes(plan: Plan) -> Iterator[Item]:
    family, layer, params = plan.family, plan.outcome.candidate.layer, plan.params
    padding = family.padded_vocab_size - family.vocab_size
    tied = "; output head tied" if family.tied else ""
    vocabulary = f"vocabulary {family.padded_vocab_size:,}, {padding} of it padding; {layer.kind}{tied}"
    yield Figure("vocab_padding", " ", padding, vocabulary)
    ratio = plan.spec.hidden_size / len(plan.spec.layers)
    yield Figure("", " ", None, f"width / depth = {ratio:.1f}, {DEPTH_SOURCE}")
    above = plan.outcome.candidate.params / plan.optimum.params - 1
    reason = "" if plan.within_tolerance else f": the nearest that the {family.kind} family has"
    if plan.request.params is not None:
        reason = f": {plan.request.params:,} parameters were asked for"
    elif plan.request.allocation is not None:
        reason = f" of {plan.request.law.name}: the size by {plan.request.allocation.name}"
    elif plan.found.memory is not None:
        reason = " of a constant MFU: chosen with its own"
    text = f"{n_name(params)} {above * 100:+.2f}% from the optimum{reason}"
    yield Figure("within_1_percent_of_optimum", " ", plan.within_tolerance, text)
    yield fact("approximation", _approximation(plan))


def _approximation(plan: Plan) -> str | None:
    """Of a law of dense models that is asked about one with experts."""
    is_dense = plan.request.law.experts is None
    return MOE_APPROXIMATION if plan.spec.has_experts and is_dense else None


def _data(plan: Plan) -> Iterator[Item]:
    yield fact("dataset_limited", plan.dataset_limited)
    if plan.epochs is None:
        yield fact("epochs", None)
        return
    limited = ", which end before the money does" if plan.dataset_limited else ""
    text = f"{plan.epochs:.4f} over {plan.request.data.dataset_tokens:,} tokens{limited}"
    yield Figure("epochs", "epochs", plan.epochs, text)
    yield from worth(plan.request.law, plan.outcome.tokens, plan.request.data.unique)


def worth(law: ScalingLaw, tokens: int, unique_tokens: float) -> Iterator[Item]:
    """What repeated tokens are worth."""
    if tokens > unique_tokens:
        text = params_text(round(law.worth(tokens, unique_tokens)))
        yield Figure("", "  repeats fade: worth", None, f"{text} new tokens")


def _flat(plan: Plan, flat: Plan | None) -> Iterator[Item]:
    if flat is None:
        yield fact("flat_mfu", None)
        return
    yield compared_with_flat(plan, flat)
    yield fact(
        "flat_mfu",
        {
            "gpu": flat.option.gpu.key,
            "mfu": {"value": flat.option.mfu.value, "source": flat.option.mfu.origin},
            "params": flat.params.total,
            "tokens": flat.outcome.tokens,
            "loss": flat.outcome.loss,
            "architecture": to_config(flat.spec, flat.family.seq_len),
        },
    )


def _sensitivity(plan: Plan) -> Iterator[Item]:
    s, outcome, best = plan.sensitivity, plan.outcome, plan.sensitivity.best_of_family
    rows = [
        ("this plan's architecture", *amounts(outcome.candidate.params, outcome.tokens, outcome.loss)),
        ("optimum, exact FLOPs", *_allocation(plan.optimum)),
        ("best of the whole family", *amounts(best.candidate.params, best.tokens, best.loss)),
        ("optimum of C = 6 N D", *_allocation(plan.six_nd)),
        ("MFU 10% lower", *_allocation(s.lower_mfu)),
        *([] if s.higher_price is None else [("price 10% higher", *_allocation(s.higher_price))]),
        *((f"law {law.name}", *_allocation(allocation)) for law, allocation in s.laws),
        *((f"law {law.name}", *amounts(o.candidate.params, o.tokens, o.loss)[:2], "-") for law, o in s.allocations),
    ]
    heads = ("sensitivity", n_name(plan.params), "D", "loss")
    columns = [Column("", head, is_left=i == 0) for i, head in enumerate(heads)]
    yield Table("", columns, [[Cell(None, text) for text in row] for row in rows])
    if s.band is not None:
        least, most = map(params_text, s.band)
        yield Note(f"every N from {least} to {most} can come within {BAND_NATS} nats of the optimum")
    yield fact("optimum", allocation_object(plan.optimum))
    yield fact("six_nd_optimum", allocation_object(plan.six_nd))
    with_loss = [{"law": law.name, **allocation_object(a)} for law, a in s.laws]
    without = [
        {"law": law.name, "params": o.candidate.params, "tokens": o.tokens, "loss": None} for law, o in s.allocations
    ]
    yield fact("sensitivity.laws", with_loss + without)
    yield fact("sensitivity.lower_mfu", allocation_object(s.lower_mfu))
    higher = None if s.higher_price is None else allocation_object(s.higher_price)
    yield fact("sensitivity.higher_price", higher)
    found = {"params": best.candidate.params, "tokens": best.tokens, "loss": best.loss}
    yield fact("sensitivity.best_of_family", found)
    band = None if s.band is None else {"least_params": s.band[0], "most_params": s.band[1], "nats": BAND_NATS}
    yield fact("sensitivity.band", band)


def _allocation(allocation: Allocation) -> tuple[str, str, str]:
    return amounts(round(allocation.params), round(allocation.tokens), allocation.loss)


def _law(plan: Plan) -> Iterator[Item]:
    used = plan.request.allocation or plan.request.law
    yield from law_items(used, plan.extrapolations, plan.epochs, plan.intervals)
    if _approximation(plan) is not None:
        yield Figure("", "  approximation", None, MOE_APPROXIMATION)
    elif plan.request.law.n_means != "total":
        yield Figure("", "  N for this law", None, f"{plan.outcome.candidate.params:,}")
