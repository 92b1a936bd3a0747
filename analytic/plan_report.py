"""Plans as text: rounds, picks units, and says of every figure where it is from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction

from analytic.backward import BackwardPlan
from analytic.budget import Market, Option
from analytic.claims import Run, headline, implied_mfus
from analytic.memory.fit import RESERVE_BYTES
from analytic.memory.implementation import NotPredicted
from analytic.mfu import without_communication
from analytic.params import ParameterCounts
from analytic.placement import Placement
from analytic.plan import BAND_NATS, MOE_APPROXIMATION, Plan, Schedule
from analytic.report import flops_text, gib_text, params_text, table
from analytic.scaling import MANY_EPOCHS, Allocation, OutOfRange, ScalingLaw
from analytic.spec import DenseFfn, ModelSpec

LABEL = 34
DEPTH_SOURCE = "published: 102 (Llama-2-70B) to 130 (Llama-3.1-405B), 37 below a width of 2,048 (Qwen3-0.6B)"
UPPER_BOUND = "no communication: upper bound"


def forward_text(plan: Plan, flat: Plan | None = None) -> str:
    """What `plan.py --budget` prints; `flat` is the same plan at a constant MFU."""
    blocks = (
        _market(plan.request.market),
        _spending(plan),
        _model(plan),
        _fit(plan.placement),
        *([_beside(plan, flat)] if flat is not None else []),
        _hanging(plan),
        _law_lines(plan),
    )
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def backward_text(plan: BackwardPlan) -> str:
    """What `plan.py --setup` prints."""
    blocks = [_machine(plan), _training(plan), _fit(plan.placement), _backward_hanging(plan)]
    if plan.setup.show_breakdown:
        blocks += [
            [f"{unit}, term by term", *table((f"  {term}", f"{n:,}") for term, n in terms.items())]
            for unit, terms in plan.breakdown.items()
        ]
    if plan.setup.verify_calculations:
        blocks.append(["checks, recomputed in integers", *_checks(plan)])
    blocks.append(_law_notes(plan.setup.law, plan.extrapolations, plan.epochs, moe=_is_moe(plan.setup.spec)))
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def claim_text(run: Run, published: Sequence[Run]) -> str:
    """What `plan.py --check-run` prints."""
    lines = [
        f"{run.name}: {run.tokens:,} tokens at sequence length {run.seq_len:,} on {run.gpu.name}",
        _row("published figures", run.source),
    ]
    for hours in run.hours:
        lines.append(_row(hours.label, f"{float(hours.gpu_hours):,.0f} GPU-hours{_priced(run, hours.gpu_hours)}"))
        if hours.stated_usd is not None:
            lines.append(_row("  stated by the source", f"{float(hours.stated_usd):,.0f} USD"))
    header = ("implied MFU of", "dense peak", "attention", "extra layers", "FLOPs a token", "MFU")
    rows = [
        (i.hours.label, i.dtype, i.convention, "with MTP" if i.mtp else "-", f"{i.flops_per_token:,}", _percent(i.mfu))
        for i in implied_mfus(run)
    ]
    ranked = sorted({other.name: headline(other).mfu for other in (*published, run)}.items(), key=lambda x: -x[1])
    own = headline(run).mfu
    among = ", ".join(f"{name} {_percent(mfu)}" for name, mfu in ranked)
    lines += ["", *table([header, *rows], left=4), "", _row("among published runs", among)]
    lines.append(_row("", f"{sum(mfu > own for _, mfu in ranked) + 1} of {len(ranked)}; bf16 peak, full attention"))
    if any(i.mfu > 1 for i in implied_mfus(run)):
        lines.append(_row("above 100%", "impossible: tokens, hours, GPU or architecture cannot all be right"))
    if run.stated_mfu:
        lines.append(_row("MFU stated by the source", run.stated_mfu))
    if run.excludes:
        lines.append(_row("what the hours leave out", run.excludes))
    return "\n".join(lines) + "\n"


def _beside(plan: Plan, flat: Plan) -> list[str]:
    """The plan and the same at a constant MFU."""
    header = ("beside a constant MFU", "GPU", "MFU", "N", "D", "loss", "architecture")
    rows = [
        (
            name,
            each.option.gpu.key,
            _percent(each.option.mfu.value),
            *_figures(each.params.total, each.outcome.tokens, each.outcome.loss),
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
            _percent(option.mfu.value),
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
        _row("budget", f"{plan.request.budget_usd:,.2f} USD on {option.gpu.name}"),
        _row("compute, C", f"{flops_text(round(plan.compute_flops))} ({_si(plan.compute_flops)})"),
        _row(
            "  peak",
            f"published, dense {option.dtype} ({option.gpu.source}){_doubt(option, 'dense_tflops', option.dtype)}",
        ),
        _row("  MFU", f"{_percent(option.mfu.value)} {option.mfu.origin}"),
    ]
    if plan.request.assumed:
        lines.append(_row("assumed (defaults)", ", ".join(plan.request.assumed)))
    bound = f"  ({UPPER_BOUND})" if without_communication(option.mfu, schedule.num_gpus) else ""
    unspent = plan.request.budget_usd - float(schedule.usd)
    left_over = f"; {unspent:,.2f} USD cannot be used" if plan.dataset_limited else ""
    lines += [
        _row("spent", f"{float(schedule.usd):,.2f} USD{bound}{left_over}"),
        _row("GPU-hours", f"{float(schedule.gpu_hours):,.1f}"),
        _row("time", _time(schedule)),
        _row(
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
    return f"{float(schedule.days):,.2f} days on {schedule.num_gpus:,} GPUs"


def _n(params: ParameterCounts) -> str:
    """What N stands for where a law or 6 N D takes it: the active parameters of a model that has others."""
    return "N" if params.active == params.total else "N_active"


def _model(plan: Plan) -> list[str]:
    outcome, family, params = plan.outcome, plan.family, plan.params
    layer, tokens = outcome.candidate.layer, outcome.tokens
    padding = family.padded_vocab_size - family.vocab_size
    per_token = outcome.candidate.flops_per_token
    off = outcome.candidate.params / plan.optimum.params - 1
    tied = "; output head tied" if family.tied else ""
    reason = "" if plan.within_tolerance else f": the nearest that the {family.kind} family has"
    if plan.request.chosen is not None:
        reason = " of a constant MFU: chosen with its own"
    lines = [
        _row("architecture", _shape(plan.spec)),
        _row("", f"vocabulary {family.padded_vocab_size:,}, {padding} of it padding; {layer.kind}{tied}"),
        _row("", f"width / depth = {plan.spec.hidden_size / len(plan.spec.layers):.1f}, {DEPTH_SOURCE}"),
        _row("", f"{_n(params)} {off * 100:+.2f}% from the optimum{reason}"),
        _row("N, parameters", f"{params.total:,} ({params_text(params.total)}), from the formula"),
    ]
    if params.active != params.total:
        lines.append(_row("  active per token", f"{params.active:,} ({params_text(params.active)})"))
    lines += [
        _row("FLOPs per token, training", f"{per_token:,}, from the formula: {family.convention} attention"),
        _row(f"  6 {_n(params)}", f"{6 * params.active:,}: {_off(Fraction(6 * params.active, per_token))}"),
        _row("D, tokens", f"{tokens:,} ({params_text(tokens)}), D/{_n(params)} = {tokens / params.active:.2f}"),
        _row("loss", f"{outcome.loss:.6f} nats per token, predicted by {plan.request.law.name}"),
    ]
    if plan.epochs is not None:
        limited = ", which end before the money does" if plan.dataset_limited else ""
        lines.append(_row("epochs", f"{plan.epochs:.4f} over {plan.request.data.dataset_tokens:,} tokens{limited}"))
        lines += _worth(plan.request.law, tokens, plan.request.data.unique)
    return lines


def _worth(law: ScalingLaw, tokens: int, unique_tokens: float) -> list[str]:
    if tokens <= unique_tokens:
        return []
    worth = params_text(round(law.worth(tokens, unique_tokens)))
    return [_row("  repeats fade: worth", f"{worth} new tokens")]


def _shape(spec: ModelSpec) -> str:
    layer = spec.layers[0]
    width = layer.ffn.intermediate_size if isinstance(layer.ffn, DenseFfn) else layer.ffn.expert_intermediate_size
    return f"{len(spec.layers)} layers, width {spec.hidden_size:,}, feed-forward {width:,}"


def _fit(placement: Placement | NotPredicted) -> list[str]:
    label = "will it fit"
    if isinstance(placement, NotPredicted):
        return [_row(label, f"not predicted: {placement.reason}")]
    need, least, gpus = placement.need, placement.least_gpus, placement.num_gpus
    lines = [
        _row(label, f"ideal sharding, unmeasured; schedule of {placement.implementation}"),
        _row("  memory of a GPU", f"{gib_text(placement.memory_bytes)}, {gib_text(RESERVE_BYTES)} of it assumed taken"),
        _row(
            "  state, shared evenly",
            f"{gib_text(need.state)}: 16-bit weights and gradients, fp32 master copy and AdamW",
        ),
        _row(
            "  on each GPU, besides",
            f"{gib_text(need.activations)} of activations, {gib_text(need.gathered)} of one layer",
        ),
    ]
    for layer in placement.measured:
        gib = gib_text(layer.measured_bytes)
        lines.append(_row("    of them one layer's peak", f"{gib} {layer.source}; {layer.predicted_bytes:,} predicted"))
    if least is None or gpus is None:
        verdict = f"no number of these GPUs could run it at micro-batch {placement.micro_batch}"
        return [*lines, _row("  fewest GPUs", verdict)]
    lines.append(_row("  fewest GPUs", f"{least:,} at micro-batch {placement.micro_batch}, fully checkpointed"))
    holds = "fit" if placement.fits else "DO NOT FIT"
    most = f"largest micro-batch (power of 2): {placement.most_micro_batch}"
    return [*lines, _row(f"  {gpus:,} GPUs", f"{holds}: {gib_text(need.on_each(gpus))} on each; {most}")]


def _hanging(plan: Plan) -> list[str]:
    s, best = plan.sensitivity, plan.sensitivity.best_of_family
    header = ("what the answer hangs on", _n(plan.params), "D", "loss")
    rows = [
        ("this plan's architecture", *_figures(plan.outcome.candidate.params, plan.outcome.tokens, plan.outcome.loss)),
        ("optimum, exact FLOPs", *_allocation(plan.optimum)),
        ("best of the whole family", *_figures(best.candidate.params, best.tokens, best.loss)),
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
    lines = _law_notes(plan.request.law, plan.extrapolations, plan.epochs, moe=_is_moe(plan.spec))
    if plan.request.law.n_means == "total" or plan.request.family.kind == "moe":
        return lines
    return [*lines, _row("  N for this law", f"{plan.outcome.candidate.params:,}")]


def _law_notes(law: ScalingLaw, extrapolations: Iterable[OutOfRange], epochs: float | None, *, moe: bool) -> list[str]:
    lines = [
        _row("scaling law", f"{law.name}: {law.citation}"),
        _row("  its N, its D", f"{law.n_means} parameters; {law.d_means}"),
    ]
    if not law.fitted:
        lines.append(_row("  fitted on", "not stated: nothing says where it holds"))
    lines += [
        _row(
            "  extrapolates",
            f"{each.quantity} = {each.value:.4g}, fitted on {each.least:.4g} to {each.most:.4g}",
        )
        for each in extrapolations
    ]
    if moe:
        lines.append(_row("  approximation", MOE_APPROXIMATION))
    if epochs is not None and epochs > 1 and not law.data_constrained:
        lines.append(_row("  repeated tokens", "fade as in arXiv:2305.16264 (R_D* = 15.39), which this law borrows"))
    if epochs is not None and epochs > MANY_EPOCHS:
        lines.append(_row("  warning", f"beyond {MANY_EPOCHS} epochs runs did worse than that law says"))
    return lines


def _machine(plan: BackwardPlan) -> list[str]:
    setup = plan.setup
    usd = "no price known" if plan.usd is None or setup.price is None else f"{float(plan.usd):,.2f} USD"
    if setup.price is not None:
        usd += f" at {setup.price.usd_per_gpu_hour:.2f} USD/h ({setup.price.origin})"
    return [
        _row("machine", f"{setup.num_gpus:,} x {setup.gpu_type} for {setup.hours:,g} hours"),
        _row("  peak per GPU", f"{setup.peak_flops_per_s / 1e12:,.1f} TFLOP/s {setup.dtype}, {setup.peak_source}"),
        _row("  MFU", f"{_percent(setup.mfu.value)} {setup.mfu.origin}, {setup.convention} attention"),
        _row("compute, C", f"{flops_text(round(plan.compute_flops))} ({_si(plan.compute_flops)})"),
        _row("GPU-hours", f"{float(plan.gpu_hours):,.1f}, {usd}"),
    ]


def _training(plan: BackwardPlan) -> list[str]:
    setup, per_token = plan.setup, plan.flops.training_per_token
    lines = [_row("N, parameters", f"{plan.params.total:,} ({params_text(plan.params.total)}), from the formula")]
    lines += [_row(f"  {key}", f"{d.value}, {d.source}") for key, d in setup.derived.items()]
    if plan.params.active != plan.params.total:
        lines.append(_row("  active per token", f"{plan.params.active:,} ({params_text(plan.params.active)})"))
    lines += [
        _row("FLOPs per token, training", f"{per_token:,}, from the formula: {setup.convention} attention"),
        _row(f"  6 {_n(plan.params)}", f"{6 * plan.params.active:,}: {_off(1 + plan.six_nd_error)}"),
        *(
            _row(f"D affordable, {convention} attention", f"{tokens:,} ({params_text(tokens)})")
            for convention, tokens in plan.affordable_tokens.items()
        ),
    ]
    clipped = f", clipped: {setup.dataset_tokens:,} x {setup.max_epochs:g} epochs is all there is"
    lines += [
        _row("D, tokens", f"{plan.tokens:,}{clipped if plan.dataset_limited else ''}"),
        _row(f"D/{_n(plan.params)}", f"{plan.tokens / plan.params.active:.2f}"),
        _row("epochs", f"{plan.epochs:.4f} over {setup.dataset_tokens:,} tokens, at most {setup.max_epochs:g}"),
        *_worth(setup.law, plan.tokens, setup.dataset_tokens),
        _row(f"6 {_n(plan.params)} D", f"{_si(plan.six_nd_flops)}, against {_si(plan.used_flops)} exactly"),
        _row("loss", f"{plan.loss:.6f} nats per token, predicted by {setup.law.name}"),
        _row("global batch", f"{setup.tokens_per_step:,} tokens, {plan.steps:,} optimizer steps"),
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


def _is_moe(spec: ModelSpec) -> bool:
    return any(not isinstance(layer.ffn, DenseFfn) for layer in set(spec.layers))


def _priced(run: Run, gpu_hours: Fraction) -> str:
    if run.usd_per_gpu_hour is None:
        return ""
    return f" = {float(gpu_hours * run.usd_per_gpu_hour):,.0f} USD at {float(run.usd_per_gpu_hour):.2f}"


def _allocation(allocation: Allocation) -> tuple[str, str, str]:
    return _figures(round(allocation.params), round(allocation.tokens), allocation.loss)


def _figures(params: int, tokens: int, loss: float) -> tuple[str, str, str]:
    return params_text(params), params_text(tokens), f"{loss:.6f}"


def _row(label: str, value: str) -> str:
    return f"{label:<{LABEL}}{value}"


def _percent(share: float | Fraction) -> str:
    return f"{float(share) * 100:.2f}%"


def _off(ratio: Fraction) -> str:
    """How a rule of thumb stands to the exact figure."""
    return f"{abs(float(ratio) - 1) * 100:.3f}% {'low' if ratio < 1 else 'high'}"


def _si(flops: float | Fraction) -> str:
    return f"{float(flops):.7g} FLOP"
