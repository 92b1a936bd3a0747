"""`foretrain law fit`: a scaling law from a CSV of runs."""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from analytic.api.models import count
from analytic.commands.options import MOST_FLOPS, refuse
from analytic.errors import FileError, UsageError
from analytic.io.files import write_files
from analytic.io.located import located
from analytic.limits import MAX_PARAMETERS, MOST_TOKENS
from analytic.planning.architectures import count_params
from analytic.planning.assumptions import LAW_MEASURE
from analytic.report.document import Document
from analytic.report.law_fit import LawFit, law_fit_document
from analytic.report.law_repeats import repeats_document
from analytic.scaling.backtest import HoldOut, hold_out
from analytic.scaling.fit import FitOptions, Prior
from analytic.scaling.fitted_plan import plan_with_intervals
from analytic.scaling.forms import FormName
from analytic.scaling.intervals import fit_with_intervals
from analytic.scaling.law_file import law_toml, load_all_laws
from analytic.scaling.laws import ParamsConvention, ScalingLaw
from analytic.scaling.posterior import Uncertainty
from analytic.scaling.prior import ONE_EPOCH, load_prior
from analytic.scaling.repeats import fit_repeats
from analytic.scaling.runs import Columns, CountConfig, Run, read_runs
from analytic.units import parse_number

FIT_OPTIONS = (
    *("columns", "config_column", "unique_column", "form", "prior", "objective", "n_means", "min_ratio"),
    *("hold_out", "strict", "predict", "flops", "write_law"),
)
NOT_WITH_REPEATS = ("prior", "objective", "hold_out", "strict", "flops", "write_law")
HOLD_OUT_DECADES = 1.0
BUDGET_OVER_LARGEST = 10.0


def fit(args: Namespace) -> tuple[Document, bool]:
    """The law as a document, and whether `--strict` fails. The file asked for is written."""
    n_means: ParamsConvention = args.n_means or "total"
    columns = _columns(args)
    points = [_point(text, args.form == "repeats") for text in args.predict or ()]
    path = Path(args.law)
    if args.form == "repeats":
        return _repeats(args, path, columns, n_means, points), False
    options = _options(args)
    name = None if args.write_law is None else _law_name(args.write_law)
    read = read_runs(path, columns, _counter(n_means))
    runs = [run for run in read if run.tokens <= ONE_EPOCH * run.unique_tokens]
    with located(path):
        law = fit_with_intervals(runs, options)
        held_out = _hold_out(runs, options, args.hold_out)
    flops = args.flops or min(BUDGET_OVER_LARGEST * law.fit.most_flops, MOST_FLOPS)
    is_failed = args.strict and (held_out is None or held_out.failed)
    result = LawFit(
        source=path.name,
        law=law,
        n_means=n_means,
        repeated=len(read) - len(runs),
        hold_out=held_out,
        flops=flops,
        optimum=plan_with_intervals(law, flops),
        predicted=points,
        predictions=law.predict_runs(points),
        written=None if is_failed else args.write_law,
    )
    if name is not None:
        with located("--write-law"):
            text = law_toml(_written_law(name, result), _comments(result))
        if not is_failed:
            write_files({args.write_law: text.encode()})
    return law_fit_document(result), is_failed


def _repeats(
    args: Namespace, path: Path, columns: Columns, n_means: ParamsConvention, points: Sequence[Run]
) -> Document:
    for name in NOT_WITH_REPEATS:
        is_given = getattr(args, name) not in (None, False)
        refuse(is_given, f"--{name.replace('_', '-')}: not with --form repeats")
    refuse(columns.unique_tokens is None, "--form repeats: expected --unique-column, how much of the data is distinct")
    runs = read_runs(path, columns, _counter(n_means))
    with located(path):
        fitted = fit_repeats(runs, min_ratio=1.0 if args.min_ratio is None else args.min_ratio)
    return repeats_document(path.name, fitted, n_means, points)


def _options(args: Namespace) -> FitOptions:
    form: FormName = args.form or "coupled"
    refuse(args.prior is not None and form != "coupled", f"--prior: only with --form coupled, not {form}")
    return FitOptions(
        form=form,
        objective=args.objective or "mad",
        prior=_prior(args.prior or "published") if form == "coupled" else None,
        min_ratio=args.min_ratio,
    )


def _prior(text: str) -> Prior | None:
    return None if text == "none" else load_prior(None if text == "published" else Path(text))


def _hold_out(runs: Sequence[Run], options: FitOptions, decades: float | None) -> HoldOut | None:
    """None where the runs are too few, and nobody asked for so many decades."""
    try:
        return hold_out(runs, decades or HOLD_OUT_DECADES, options)
    except FileError as error:
        if decades is None:
            return None
        raise FileError(f"--hold-out: {error}") from None


def _columns(args: Namespace) -> Columns:
    named = _pairs("--columns", args.columns or "", ("N", "D", "loss"))
    refuse("N" in named and args.config_column is not None, "--columns N=: not with --config-column, which counts N")
    return Columns(
        params=named.get("N", "N"),
        tokens=named.get("D", "D"),
        loss=named.get("loss", "loss"),
        unique_tokens=args.unique_column,
        config=args.config_column,
    )


def _point(text: str, is_repeats: bool) -> Run:
    """A run that `--predict` asks for; its loss is not known and not looked at."""
    pairs = _pairs("--predict", text, ("N", "D", "U") if is_repeats else ("N", "D"))
    amounts = {}
    for name, most in (("N", MAX_PARAMETERS), ("D", MOST_TOKENS), ("U", MOST_TOKENS)):
        if name not in pairs:
            refuse(name != "U", f"--predict {text!r}: {name} is missing, expected such as N=8B,D=2T")
            continue
        amounts[name] = float(parse_number(pairs[name]))
        if not 1 <= amounts[name] <= most:
            raise UsageError(f"--predict {text!r}: {name} = {pairs[name]}: expected from 1 to {most:g}")
    unique = {"unique_tokens": amounts["U"]} if "U" in amounts else {}
    return Run(amounts["N"], amounts["D"], loss=1.0, **unique)


def _pairs(option: str, text: str, names: Sequence[str]) -> dict[str, str]:
    """`NAME=VALUE` between commas; each name once."""
    pairs: dict[str, str] = {}
    for part in text.split(",") if text else ():
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not value or name not in names or name in pairs:
            expected = ",".join(f"{one}=.." for one in names)
            raise UsageError(f"{option} {text!r}: {part!r}: expected {expected}, each once")
        pairs[name] = value
    return pairs


def _counter(n_means: ParamsConvention) -> CountConfig:
    """N of a configuration as a plan by the law counts it, and its exact training FLOPs per token."""

    def counted(model: str) -> tuple[float, float]:
        summary = count(model).value
        return float(count_params(summary.params, LAW_MEASURE[n_means])), float(summary.flops.training_per_token)

    return counted


def _law_name(path: Path) -> str:
    """What a law is called after the file that it is written to."""
    refuse(path.suffix.casefold() != ".toml", f"--write-law {str(path)!r}: expected a path that ends in .toml")
    name = re.sub(r"[^A-Za-z0-9_-]", "-", path.stem)
    refuse(name in load_all_laws(), f"--write-law {path.name}: {name} is a shipped law, expected another name")
    return name


def _written_law(name: str, result: LawFit) -> ScalingLaw:
    fit, c = result.law.fit, result.law.fit.coefficients
    ranges = {
        "params": [run.params for run in fit.runs],
        "tokens": [run.tokens for run in fit.runs],
        "flops": [run.flops for run in fit.runs],
    }
    return ScalingLaw(
        name=name,
        citation=f"fitted to {len(fit.runs)} runs of {result.shown_source} by foretrain law fit: {result.method}",
        e=c.e,
        a=c.a,
        b=c.b,
        alpha=c.alpha,
        beta=c.beta,
        k=c.k,
        n_means=result.n_means,
        d_means="tokens seen, one epoch",
        fitted={quantity: (min(of), max(of)) for quantity, of in ranges.items() if min(of) < max(of)},
        uncertainty=Uncertainty(
            form=fit.options.form,
            center=fit.center,
            covariance=fit.covariance,
            sigma=fit.sigma,
            kappa=result.law.kappa,
            largest_run_flops=fit.most_flops,
        ),
    )


def _comments(result: LawFit) -> Sequence[str]:
    return (
        "L(N, D) = E + ((A / N^alpha)^(1/k) + (B / D^beta)^(1/k))^k, in nats per token.",
        f"Fitted by foretrain law fit: {result.method}; {result.left_out}.",
        f"Scatter of ln L {result.law.fit.sigma:.4g}, kappa {result.law.kappa:.4g}; {result.backtest}.",
        "[uncertainty] is what intervals are made of: see docs/laws.md.",
    )
