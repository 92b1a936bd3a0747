"""A plan from a machine as text."""

from __future__ import annotations

from analytic.performance.mfu import without_communication
from analytic.planning.backward import BackwardPlan
from analytic.report.plan_lines import UPPER_BOUND, fit, law_notes, n_name, off, percent, row, si, worth
from analytic.report.text import flops_text, params_text, table


def backward_text(plan: BackwardPlan) -> str:
    """What `plan.py --setup` prints."""
    blocks = [_machine(plan), _training(plan), fit(plan.placement), _backward_hanging(plan)]
    if plan.setup.show_breakdown:
        blocks += [
            [f"{unit}, term by term", *table((f"  {term}", f"{n:,}") for term, n in terms.items())]
            for unit, terms in plan.breakdown.items()
        ]
    if plan.setup.verify_calculations:
        blocks.append(["checks, recomputed in integers", *_checks(plan)])
    blocks.append(law_notes(plan.setup.law, plan.extrapolations, plan.epochs, moe=plan.setup.spec.has_experts))
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def _machine(plan: BackwardPlan) -> list[str]:
    setup = plan.setup
    usd = "no price known" if plan.usd is None or setup.price is None else f"{float(plan.usd):,.2f} USD"
    if setup.price is not None:
        usd += f" at {setup.price.usd_per_gpu_hour:.2f} USD/h ({setup.price.origin})"
    bound = f"  ({UPPER_BOUND})" if without_communication(setup.mfu, setup.num_gpus) else ""
    return [
        row("machine", f"{setup.num_gpus:,} x {setup.gpu_type} for {setup.hours:,g} hours"),
        row("  peak per GPU", f"{setup.peak_flops_per_s / 1e12:,.1f} TFLOP/s {setup.dtype}, {setup.peak_source}"),
        row("  MFU", f"{percent(setup.mfu.value)} {setup.mfu.origin}, {setup.convention} attention{bound}"),
        row("compute, C", f"{flops_text(round(plan.compute_flops))} ({si(plan.compute_flops)})"),
        row("GPU-hours", f"{float(plan.gpu_hours):,.1f}, {usd}"),
    ]


def _training(plan: BackwardPlan) -> list[str]:
    setup, per_token = plan.setup, plan.flops.training_per_token
    lines = [row("N, parameters", f"{plan.params.total:,} ({params_text(plan.params.total)}), from the formula")]
    lines += [row(f"  {key}", f"{d.value}, {d.source}") for key, d in setup.derived.items()]
    if plan.params.active != plan.params.total:
        lines.append(row("  active per token", f"{plan.params.active:,} ({params_text(plan.params.active)})"))
    lines += [
        row("FLOPs per token, training", f"{per_token:,}, from the formula: {setup.convention} attention"),
        row(f"  6 {n_name(plan.params)}", f"{6 * plan.params.active:,}: {off(1 + plan.six_nd_error)}"),
        *(
            row(f"D affordable, {convention} attention", f"{tokens:,} ({params_text(tokens)})")
            for convention, tokens in plan.affordable_tokens.items()
        ),
    ]
    clipped = f", clipped: {setup.dataset_tokens:,} x {setup.max_epochs:g} epochs is all there is"
    lines += [
        row("D, tokens", f"{plan.tokens:,}{clipped if plan.dataset_limited else ''}"),
        row(f"D/{n_name(plan.params)}", f"{plan.tokens / plan.params.active:.2f}"),
        row("epochs", f"{plan.epochs:.4f} over {setup.dataset_tokens:,} tokens, at most {setup.max_epochs:g}"),
        *worth(setup.law, plan.tokens, setup.dataset_tokens),
        row(f"6 {n_name(plan.params)} D", f"{si(plan.six_nd_flops)}, against {si(plan.used_flops)} exactly"),
        row("loss", f"{plan.loss:.6f} nats per token, predicted by {setup.law.name}"),
        row("global batch", f"{setup.tokens_per_step:,} tokens, {plan.steps:,} optimizer steps"),
    ]
    return lines


def _backward_hanging(plan: BackwardPlan) -> list[str]:
    header = ("what the answer hangs on", "D", "loss")
    rows = [
        ("MFU 10% lower", params_text(plan.lower_mfu[0]), f"{plan.lower_mfu[1]:.6f}"),
        *((f"law {law.name}", params_text(plan.tokens), f"{loss:.6f}") for law, loss in plan.laws),
    ]
    return table([header, *rows])


def _checks(plan: BackwardPlan) -> list[str]:
    return table(
        (f"  {check.name}", f"{check.left:,}", check.relation, f"{check.right:,}", "PASS" if check.holds else "FAIL")
        for check in plan.checks()
    )
