"""`foretrain law fit`: a scaling law from a CSV of runs."""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from analytic.api.laws import fit_law
from analytic.commands.options import given, refuse
from analytic.commands.pictures import kind_of, needs_matplotlib
from analytic.io.files import write_files
from analytic.io.located import located
from analytic.report.document import Document
from analytic.report.law_fit import law_fit_document
from analytic.report.law_result import LawFit
from analytic.scaling.law_file import law_toml, load_all_laws
from analytic.scaling.laws import ScalingLaw
from analytic.scaling.posterior import Uncertainty
from analytic.scaling.repeats import RepeatsFit

# Those of `fit_law`, and those of the command alone.
API_OPTIONS = (
    *("columns", "config_column", "unique_column", "schedule_column", "form", "prior", "objective", "n_means"),
    *("min_ratio", "hold_out", "predict", "flops"),
)
FIT_OPTIONS = (*API_OPTIONS, "strict", "plot", "write_law")


def fit(args: Namespace) -> tuple[Document, bool]:
    """The law as a document, and whether `--strict` fails. The files asked for are written."""
    if args.form == "repeats":
        for option in given(args, "strict", "plot", "write_law"):
            refuse(True, f"--{option.replace('_', '-')}: not with --form repeats")
    name = None if args.write_law is None else _law_name(args.write_law)
    result = fit_law(args.law, **given(args, *API_OPTIONS))
    found = result.value
    if isinstance(found, RepeatsFit):
        return result.document, False
    is_failed = args.strict and (found.hold_out is None or found.hold_out.failed)
    files: dict[Path, bytes] = {}
    if name is not None:
        with located("--write-law"):
            files[args.write_law] = law_toml(_written_law(name, found), _comments(found)).encode()
    if args.plot:
        picture = needs_matplotlib(lambda: import_module("analytic.report.law_plot").law_picture)
        files[args.plot] = picture(found, kind_of(args.plot))
    if not is_failed:
        write_files(files)
    written = None if is_failed else args.write_law
    return law_fit_document(found, written), is_failed


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
