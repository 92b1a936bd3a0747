"""Plans as JSON objects, in base units."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from analytic.huggingface.write import to_config
from analytic.memory.capacity import RESERVE_BYTES
from analytic.memory.implementation import NotPredicted
from analytic.performance.mfu import Mfu, without_communication
from analytic.planning.backward import BackwardPlan
from analytic.planning.forward import BAND_NATS, MOE_APPROXIMATION, Plan
from analytic.planning.market import Market, Option
from analytic.planning.placement import Placement
from analytic.planning.published_run import Run, headline, implied_mfus
from analytic.scaling.laws import OutOfRange, ScalingLaw


def forward_json(plan: Plan, flat: Plan | None = None) -> dict[str, Any]:
    """What `plan.py --budget` found; `flat` is the same plan at a constant MFU."""
    request, option, outcome, schedule = plan.request, plan.option, plan.outcome, plan.schedule
    family = plan.family
    return {
        "gpu": option.gpu.key,
        "mfu": _mfu(option.mfu) | {"upper_bound": without_communication(option.mfu, schedule.num_gpus)},
        "budget_usd": request.budget_usd,
        "compute_flops": round(plan.compute_flops),
        "used_flops": plan.used_flops,
        "params": plan.params.total,
        "params_active": plan.params.active,
        "law_params": outcome.candidate.params,
        "tokens": outcome.tokens,
        "loss": outcome.loss,
        "epochs": plan.epochs,
        "dataset_limited": plan.dataset_limited,
        "gpu_hours": float(schedule.gpu_hours),
        "usd": float(schedule.usd),
        "num_gpus": schedule.num_gpus,
        "days": None if schedule.days is None else float(schedule.days),
        "energy_kwh": float(schedule.energy_kwh),
        "optimum": asdict(plan.optimum),
        "within_1_percent_of_optimum": plan.within_tolerance,
        "law": request.law.name,
        "law_details": _law(request.law, plan.extrapolations),
        "approximation": MOE_APPROXIMATION if family.kind == "moe" else None,
        "assumed": list(request.assumed),
        "flops_per_token": outcome.candidate.flops_per_token,
        "attention": family.convention,
        "seq_len": family.seq_len,
        "six_nd_flops": plan.six_nd_flops,
        "six_nd_optimum": asdict(plan.six_nd),
        "vocab_padding": family.padded_vocab_size - family.vocab_size,
        "architecture": to_config(plan.spec, family.seq_len),
        "options": _market(request.market),
        "sensitivity": _sensitivity(plan),
        "fit": _fit(plan.placement),
        "flat_mfu": None if flat is None else _beside(flat),
    }


def _beside(plan: Plan) -> dict[str, Any]:
    outcome = plan.outcome
    return {
        "gpu": plan.option.gpu.key,
        "mfu": _mfu(plan.option.mfu),
        "params": plan.params.total,
        "tokens": outcome.tokens,
        "loss": outcome.loss,
        "architecture": to_config(plan.spec, plan.family.seq_len),
    }


def backward_json(plan: BackwardPlan) -> dict[str, Any]:
    """What `plan.py --setup` found; `forward_json` has six keys more, of its budget and its search."""
    setup = plan.setup
    gpu = setup.gpu_type if setup.gpu is None else setup.gpu.key
    return {
        "gpu": gpu,
        "mfu": _mfu(setup.mfu) | {"upper_bound": without_communication(setup.mfu, setup.num_gpus)},
        "compute_flops": round(plan.compute_flops),
        "used_flops": plan.used_flops,
        "params": plan.params.total,
        "params_active": plan.params.active,
        "law_params": plan.law_params,
        "tokens": plan.tokens,
        "tokens_affordable": plan.affordable_tokens,
        "loss": plan.loss,
        "epochs": plan.epochs,
        "dataset_limited": plan.dataset_limited,
        "gpu_hours": float(plan.gpu_hours),
        "usd": None if plan.usd is None else float(plan.usd),
        "num_gpus": setup.num_gpus,
        "days": setup.hours / 24,
        "energy_kwh": None if plan.energy_kwh is None else float(plan.energy_kwh),
        "law": setup.law.name,
        "law_details": _law(setup.law, plan.extrapolations),
        "approximation": MOE_APPROXIMATION if plan.params.active != plan.params.total else None,
        "assumed": [f"{key} {derived.value}, {derived.source}" for key, derived in setup.derived.items()],
        "flops_per_token": plan.flops.training_per_token,
        "attention": setup.convention,
        "seq_len": setup.seq_len,
        "six_nd_flops": plan.six_nd_flops,
        "tokens_per_step": setup.tokens_per_step,
        "steps": plan.steps,
        "architecture": dict(setup.architecture),
        "options": [
            {
                "gpu": gpu,
                "name": setup.gpu_type if setup.gpu is None else setup.gpu.name,
                "dtype": setup.dtype,
                "peak_flops_per_s": setup.peak_flops_per_s,
                "peak_source": setup.peak_source,
                "mfu": _mfu(setup.mfu),
                "usd_per_gpu_hour": None if setup.price is None else setup.price.usd_per_gpu_hour,
                "price_source": None if setup.price is None else setup.price.origin,
                "flops_per_usd": None if plan.usd is None else float(plan.compute_flops / plan.usd),
            }
        ],
        "sensitivity": {
            "laws": [{"law": law.name, "loss": loss} for law, loss in plan.laws],
            "lower_mfu": {"tokens": plan.lower_mfu[0], "loss": plan.lower_mfu[1]},
        },
        "fit": _fit(plan.placement),
        "checks": [asdict(check) | {"holds": check.holds} for check in plan.checks()]
        if setup.verify_calculations
        else None,
        "breakdown": plan.breakdown if setup.show_breakdown else None,
    }


def claim_json(run: Run, others: list[Run]) -> dict[str, Any]:
    """What `plan.py --check-run` found."""
    return {
        "run": run.name,
        "gpu": run.gpu.key,
        "tokens": run.tokens,
        "source": run.source,
        "implied_mfu": [
            {
                "hours": i.hours.label,
                "gpu_hours": float(i.hours.gpu_hours),
                "usd": None if run.usd_per_gpu_hour is None else float(i.hours.gpu_hours * run.usd_per_gpu_hour),
                "stated_usd": None if i.hours.stated_usd is None else float(i.hours.stated_usd),
                "peak_dtype": i.dtype,
                "attention": i.convention,
                "multi_token_prediction": i.mtp,
                "flops_per_token": i.flops_per_token,
                "mfu": float(i.mfu),
            }
            for i in implied_mfus(run)
        ],
        "published_runs": [{"run": other.name, "mfu": float(headline(other).mfu)} for other in others],
    }


def _mfu(mfu: Mfu) -> dict[str, Any]:
    return {"value": mfu.value, "source": mfu.origin}


def _law(law: ScalingLaw, extrapolations: tuple[OutOfRange, ...]) -> dict[str, Any]:
    return {
        "citation": law.citation,
        "n_means": law.n_means,
        "d_means": law.d_means,
        "fitted": {quantity: list(bounds) for quantity, bounds in law.fitted.items()},
        "extrapolations": [asdict(each) for each in extrapolations],
    }


def _market(market: Market) -> list[dict[str, Any]]:
    return [_option(option) for option in market.options] + [
        {"gpu": rejected.gpu.key, "name": rejected.gpu.name, "rejected": rejected.reason}
        for rejected in market.rejected
    ]


def _option(option: Option) -> dict[str, Any]:
    return {
        "gpu": option.gpu.key,
        "name": option.gpu.name,
        "dtype": option.dtype,
        "peak_flops_per_s": option.gpu.peak(option.dtype),
        "peak_source": option.gpu.source,
        "mfu": _mfu(option.mfu),
        "usd_per_gpu_hour": option.price.usd_per_gpu_hour,
        "price_source": option.price.origin,
        "flops_per_usd": float(option.flops_per_usd),
    }


def _sensitivity(plan: Plan) -> dict[str, Any]:
    s = plan.sensitivity
    best = s.best_of_family
    return {
        "laws": [{"law": law.name} | asdict(allocation) for law, allocation in s.laws],
        "lower_mfu": asdict(s.lower_mfu),
        "higher_price": asdict(s.higher_price),
        "best_of_family": {"params": best.candidate.params, "tokens": best.tokens, "loss": best.loss},
        "band": None if s.band is None else {"least_params": s.band[0], "most_params": s.band[1], "nats": BAND_NATS},
    }


def _fit(placement: Placement | NotPredicted) -> dict[str, Any]:
    if isinstance(placement, NotPredicted):
        return {"predicted": False, "reason": placement.reason}
    return {"predicted": True, "sharding": "ideal, unmeasured", "reserve_bytes": RESERVE_BYTES} | asdict(placement)
