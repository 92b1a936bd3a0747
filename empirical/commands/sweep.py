"""The sweep as a command: a line for each class, the totals last; progress goes to stderr."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from analytic.commands.options import refuse
from analytic.report.text import table
from analytic.version import version
from empirical.proof.workers import Finished, default_workers, run_jobs

if TYPE_CHECKING:
    from empirical.proof.sweep import Outcome

VERDICTS = ("exact", "parameters only", "refused", "cannot be built", "wrong")
WIDTH = 100  # of a reason in the table; --json has all of it


def sweep(model_types: Sequence[str], jobs: int | None, *, is_perturbed: bool, is_json: bool) -> int:
    """Returns 0 if nothing is wrong, 1 if anything is.

    Raises:
        UsageError: a model type that is not one of `transformers`, or for `is_perturbed` not one of ours.
    """
    from empirical.proof.sweep import default_outcomes, is_supported, perturbed_outcomes, registry  # torch: seconds

    known = [model_type for model_type in registry() if is_supported(model_type) or not is_perturbed]
    kind = "supported " if is_perturbed else ""
    for model_type in model_types:
        refuse(model_type not in known, f"MODEL {model_type}: expected a {kind}causal model type of transformers")
    swept = _outcomes(perturbed_outcomes if is_perturbed else default_outcomes, model_types or known, jobs)
    outcomes = [outcome for of_one_class in swept.results for outcome in of_one_class]
    if is_json:
        facts = {"schema": "foretrain/sweep/1", "version": version(), "outcomes": [each.as_json() for each in outcomes]}
        print(json.dumps(facts, indent=2))
    else:
        shown = [outcome for outcome in outcomes if not is_perturbed or outcome.verdict in ("wrong", "parameters only")]
        print("\n".join([*table([("model_type", "", "", ""), *map(_row, shown)], left=4), _totals(outcomes)]))
    if swept.was_interrupted:
        raise KeyboardInterrupt
    return 1 if any(outcome.verdict == "wrong" for outcome in outcomes) else 0


def _outcomes(
    job: Callable[[str], list[Outcome]], model_types: Sequence[str], jobs: int | None
) -> Finished[list[Outcome]]:
    """Of each class, in the order of `model_types`; progress goes to stderr."""
    done: list[str] = []

    def on_done(model_type: str, outcomes: list[Outcome]) -> None:
        done.append(model_type)
        print(f"{len(done)} of {len(model_types)}: {model_type}, {_totals(outcomes)}", file=sys.stderr)

    return run_jobs(job, model_types, jobs or default_workers(len(model_types)), on_done)


def _row(outcome: Outcome) -> tuple[str, str, str, str]:
    differ = [f"{term}: {formula} against {counted}" for term, (formula, counted) in outcome.terms.items()]
    said = "; ".join(part for part in (outcome.change, *differ, outcome.reason) if part)
    parameters = "" if outcome.parameters is None else f"{outcome.parameters:,}".rjust(len("000,000,000,000"))
    return outcome.model_type, outcome.verdict, parameters, said if len(said) <= WIDTH else f"{said[:WIDTH]}..."


def _totals(outcomes: Sequence[Outcome]) -> str:
    counts: Counter[str] = Counter(outcome.verdict for outcome in outcomes)
    return f"{len(outcomes)} configurations: " + ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS)
