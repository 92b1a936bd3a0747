"""What `plan --setup` says: a machine and an architecture to tokens, loss and epochs."""

from __future__ import annotations

from collections.abc import Iterator

from analytic.model.params import ParameterCounts
from analytic.performance.mfu import without_communication
from analytic.planning.assumptions import MOE_APPROXIMATION
from analytic.planning.backward import BackwardPlan
from analytic.report.document import Cell, Column, Document, Figure, Item, Line, Section, Table, Terms, fact, facts
from analytic.report.intervals import interval_items
from analytic.report.law import law_items
from analytic.report.placement import placement_items, verdict
from analytic.report.plan import UPPER_BOUND, mfu_object, n_name, off, worth
from analytic.report.plan_answer import loss_text
from analytic.report.units import compact, days_text, flops_text, params_text, percent, si, usd_text


def backward_document(plan: BackwardPlan) -> Document:
    """A plan from a machine."""
    setup = plan.setup
    return Document(
        verb="plan",
        answer=_answer(plan),
        sections=(
            Section("", list(_machine(plan))),
            Section("", list(_training(plan))),
            Section("will it fit", list(placement_items(plan.placement, "fit"))),
            Section("", list(_sensitivity(plan))),
            *_breakdown(plan),
            Section("checks, recomputed in integers" if setup.verify_calculations else "", list(_checks(plan))),
            Section("", list(_law(plan))),
        ),
    )


def _answer(plan: BackwardPlan) -> list[Line]:
    setup, params = plan.setup, plan.params
    limit = "; the data end before the hours do" if plan.dataset_limited else ""
    cost = "no price known" if plan.usd is None else usd_text(plan.usd)
    losses = {law.name: loss for law, loss in plan.laws}
    return [
        Line("tokens", f"{compact(plan.tokens)}, {plan.tokens / params.active:.1f} a parameter{limit}"),
        Line("loss", f"{loss_text(plan.loss, losses)} ({setup.law.name})"),
        Line("model", _model_line(params)),
        Line("machine", f"{setup.num_gpus:,} x {setup.gpu_type} for {days_text(setup.hours / 24)}, {cost}"),
        Line("MFU", f"{percent(setup.mfu.value)} {setup.mfu.origin}, {setup.convention} attention"),
        Line("fit", verdict(plan.placement)),
        Line("next", "-v shows every term"),
    ]


def _model_line(params: ParameterCounts) -> str:
    active = f", {compact(params.active)} active for a token" if params.active != params.total else ""
    return f"{params.total:,} parameters ({compact(params.total)}){active}"


def _machine(plan: BackwardPlan) -> Iterator[Item]:
    setup = plan.setup
    key = setup.gpu_type if setup.gpu is None else setup.gpu.key
    yield Figure("gpu", "machine", key, f"{setup.num_gpus:,} x {setup.gpu_type} for {setup.hours:,g} hours")
    yield fact("num_gpus", setup.num_gpus)
    yield fact("days", setup.hours / 24)
    peak = f"{setup.peak_flops_per_s / 1e12:,.1f} TFLOP/s {setup.dtype}, {setup.peak_source}"
    yield Figure("", "  peak per GPU", None, peak)
    bound = f"  ({UPPER_BOUND})" if without_communication(setup.mfu, setup.num_gpus) else ""
    mfu = f"{percent(setup.mfu.value)} {setup.mfu.origin}, {setup.convention} attention{bound}"
    yield Figure("mfu", "  MFU", mfu_object(setup.mfu, setup.num_gpus), mfu)
    compute = round(plan.compute_flops)
    yield Figure("compute_flops", "compute, C", compute, f"{flops_text(compute)} ({si(plan.compute_flops)})")
    yield fact("used_flops", plan.used_flops)
    usd = None if plan.usd is None else float(plan.usd)
    yield Figure("gpu_hours", "GPU-hours", float(plan.gpu_hours), f"{float(plan.gpu_hours):,.1f}, {_cost(plan)}")
    yield fact("usd", usd)
    yield fact("energy_kwh", None if plan.energy_kwh is None else float(plan.energy_kwh))
    yield fact("options", [_option(plan, key)])


def _cost(plan: BackwardPlan) -> str:
    price = plan.setup.price
    if plan.usd is None or price is None:
        return "no price known"
    return f"{float(plan.usd):,.2f} USD at {price.usd_per_gpu_hour:.2f} USD/h ({price.origin})"


def _option(plan: BackwardPlan, key: str) -> dict[str, object]:
    setup = plan.setup
    return {
        "gpu": key,
        "name": setup.gpu_type if setup.gpu is None else setup.gpu.name,
        "dtype": setup.dtype,
        "peak_flops_per_s": setup.peak_flops_per_s,
        "peak_source": setup.peak_source,
        "mfu": {"value": setup.mfu.value, "source": setup.mfu.origin},
        "usd_per_gpu_hour": None if setup.price is None else setup.price.usd_per_gpu_hour,
        "price_source": None if setup.price is None else setup.price.origin,
        "flops_per_usd": None if plan.usd is None else float(plan.compute_flops / plan.usd),
    }


def _training(plan: BackwardPlan) -> Iterator[Item]:
    setup, per_token, params = plan.setup, plan.flops.training_per_token, plan.params
    name = n_name(params)
    yield Figure(
        "params", "N, parameters", params.total, f"{params.total:,} ({params_text(params.total)}), from the formula"
    )
    for key, derived in setup.derived.items():
        yield Figure("", f"  {key}", None, f"{derived.value}, {derived.source}")
    yield fact("assumed", [f"{key} {derived.value}, {derived.source}" for key, derived in setup.derived.items()])
    label = "  active per token" if params.active != params.total else ""
    yield Figure("params_active", label, params.active, f"{params.active:,} ({params_text(params.active)})")
    yield fact("law_params", plan.law_params)
    counted = f"{per_token:,}, from the formula: {setup.convention} attention"
    yield Figure("flops_per_token", "FLOPs per token, training", per_token, counted)
    yield Figure("", f"  6 {name}", None, f"{6 * params.active:,}: {off(1 + plan.six_nd_error)}")
    for convention, tokens in plan.affordable_tokens.items():
        text = f"{tokens:,} ({params_text(tokens)})"
        yield Figure(f"tokens_affordable.{convention}", f"D affordable, {convention} attention", tokens, text)
    clipped = f", clipped: {setup.dataset_tokens:,} x {setup.max_epochs:g} epochs is all there is"
    yield Figure("tokens", "D, tokens", plan.tokens, f"{plan.tokens:,}{clipped if plan.dataset_limited else ''}")
    yield fact("dataset_limited", plan.dataset_limited)
    yield Figure("", f"D/{name}", None, f"{plan.tokens / params.active:.2f}")
    epochs = f"{plan.epochs:.4f} over {setup.dataset_tokens:,} tokens, at most {setup.max_epochs:g}"
    yield Figure("epochs", "epochs", plan.epochs, epochs)
    yield from worth(setup.law, plan.tokens, setup.dataset_tokens)
    six = f"{si(plan.six_nd_flops)}, against {si(plan.used_flops)} exactly"
    yield Figure("six_nd_flops", f"6 {name} D", plan.six_nd_flops, six)
    yield Figure("loss", "loss", plan.loss, f"{plan.loss:.6f} nats per token, predicted by {setup.law.name}")
    yield from interval_items(None)
    batch = f"{setup.tokens_per_step:,} tokens, {plan.steps:,} optimizer steps"
    yield Figure("tokens_per_step", "global batch", setup.tokens_per_step, batch)
    yield from facts({"steps": plan.steps, "attention": setup.convention, "seq_len": setup.seq_len})
    yield fact("architecture", dict(setup.architecture))


def _sensitivity(plan: BackwardPlan) -> Iterator[Item]:
    rows = [
        ("MFU 10% lower", params_text(plan.lower_mfu[0]), f"{plan.lower_mfu[1]:.6f}"),
        *((f"law {law.name}", params_text(plan.tokens), f"{loss:.6f}") for law, loss in plan.laws),
    ]
    columns = [Column("", head, is_left=i == 0) for i, head in enumerate(("sensitivity", "D", "loss"))]
    yield Table("", columns, [[Cell(None, text) for text in row] for row in rows])
    yield fact("sensitivity.laws", [{"law": law.name, "loss": loss} for law, loss in plan.laws])
    yield fact("sensitivity.lower_mfu", {"tokens": plan.lower_mfu[0], "loss": plan.lower_mfu[1]})


def _breakdown(plan: BackwardPlan) -> Iterator[Section]:
    if not plan.setup.show_breakdown:
        yield Section("", [fact("breakdown", None)])
        return
    for unit, terms in plan.breakdown.items():
        yield Section(f"{unit}, term by term", [Terms(f"breakdown.{unit}", terms)])


def _checks(plan: BackwardPlan) -> Iterator[Item]:
    if not plan.setup.verify_calculations:
        yield fact("checks", None)
        return
    columns = (
        Column("name", " ", is_left=True),
        Column("left", " "),
        Column("relation", " "),
        Column("right", " "),
        Column("holds", " "),
    )
    rows = [
        [
            Cell(check.name, f"  {check.name}"),
            Cell(check.left, f"{check.left:,}"),
            Cell(check.relation, check.relation),
            Cell(check.right, f"{check.right:,}"),
            Cell(check.holds, "PASS" if check.holds else "FAIL"),
        ]
        for check in plan.checks()
    ]
    yield Table("checks", columns, rows)


def _law(plan: BackwardPlan) -> Iterator[Item]:
    yield from law_items(plan.setup.law, plan.extrapolations, plan.epochs)
    is_moe = plan.setup.spec.has_experts
    yield fact("approximation", MOE_APPROXIMATION if is_moe else None)
    if is_moe:
        yield Figure("", "  approximation", None, MOE_APPROXIMATION)
