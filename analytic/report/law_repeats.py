"""What `law fit --form repeats` says: seven numbers, and predictions without intervals."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from analytic.report.document import Cell, Column, Document, Figure, Line, Section, Table, fact
from analytic.report.law import formula
from analytic.report.units import compact, percent
from analytic.scaling.laws import MANY_EPOCHS, ParamsConvention
from analytic.scaling.repeats import RepeatsFit
from analytic.scaling.runs import Run

NO_INTERVALS = f"none: beyond {MANY_EPOCHS} epochs no version of this law holds, and none was checked below"


def repeats_document(source: str, law: RepeatsFit, n_means: ParamsConvention, predicted: Sequence[Run]) -> Document:
    """The law of repeated data (arXiv:2305.16264), fitted."""
    losses = law.losses(predicted) if predicted else ()
    left_out = law.dropped + law.many_epochs
    interval = f"at least {law.r_d_at_least:.4g}"
    if law.r_d_at_most is not None:
        interval = f"{law.r_d_at_least:.4g} to {law.r_d_at_most:.4g}"
    decay = f"R_D {interval} (80%), best {law.r_d:.4g}; R_N {law.r_n:.4g}"
    coefficients = {"E": law.e, "A": law.a, "alpha": law.alpha, "B": law.b, "beta": law.beta}
    named = {**coefficients, "R_D": law.r_d, "R_N": law.r_n}
    return Document(
        verb="law",
        answer=[
            *(Line("predicted", _answer(run, loss)) for run, loss in list(zip(predicted, losses, strict=True))[:3]),
            Line("law", formula(law.e, law.a, law.alpha, law.b, law.beta, 1.0)),
            Line("repeats", f"{decay}, by profile likelihood"),
            Line("intervals", NO_INTERVALS),
            Line("runs", f"{len(law.runs)} of {source}, {left_out} left out; scatter of ln L {percent(law.sigma)}"),
        ],
        sections=(
            Section(
                "runs",
                [
                    Figure("source", "file", source),
                    Figure("runs", "fitted", len(law.runs)),
                    fact("dropped", left_out),
                    Figure("dropped_by.tokens_per_parameter", "left out", law.dropped, f"{law.dropped}: few tokens"),
                    Figure("dropped_by.many_epochs", "left out", law.many_epochs, f"{law.many_epochs}: many epochs"),
                    Figure("n_means", "N means", n_means, f"{n_means} parameters"),
                ],
            ),
            Section(
                "fit",
                [
                    Figure("form", "form", "repeats", "repeats, arXiv:2305.16264"),
                    *(Figure(f"coefficients.{key}", key, value, f"{value:.6g}") for key, value in named.items()),
                    Figure("r_d_at_least", "R_D, 80%", law.r_d_at_least, interval),
                    fact("r_d_at_most", law.r_d_at_most),
                    Figure("sigma", "scatter of ln L, sigma", law.sigma, percent(law.sigma)),
                    fact("objective.name", "mad"),
                    Figure("objective.value", "objective", law.objective, f"{law.objective:.12g}"),
                ],
            ),
            Section("predictions, nats per token", [_predictions(predicted, losses)]),
        ),
        warnings=list(_warnings(law, predicted, losses)),
    )


def _warnings(law: RepeatsFit, predicted: Sequence[Run], losses: Sequence[float]) -> Iterator[str]:
    if law.many_epochs:
        yield f"{law.many_epochs} runs of more than {MANY_EPOCHS} epochs left out: no version of this law holds there"
    for run, loss in zip(predicted, losses, strict=True):
        if run.tokens > MANY_EPOCHS * run.unique_tokens:
            yield f"{_answer(run, loss)}: beyond {MANY_EPOCHS} epochs runs did worse than such a law says"


def _answer(run: Run, loss: float) -> str:
    unique = "" if run.unique_tokens == math.inf else f", {compact(run.unique_tokens)} of them distinct"
    return f"{loss:.3f} nats per token at N {compact(run.params)}, D {compact(run.tokens)}{unique}"


def _predictions(predicted: Sequence[Run], losses: Sequence[float]) -> Table:
    columns = (
        Column("params", "N"),
        Column("tokens", "D"),
        Column("unique_tokens", "distinct"),
        Column("loss", "loss"),
    )
    rows = []
    for run, loss in zip(predicted, losses, strict=True):
        unique = min(run.unique_tokens, run.tokens)
        amounts = (run.params, run.tokens, unique)
        rows.append([*(Cell(amount, compact(amount)) for amount in amounts), Cell(loss, f"{loss:.4f}")])
    return Table("predictions", columns, rows)
