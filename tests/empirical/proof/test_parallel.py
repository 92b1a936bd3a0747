"""The rows of one rank: all of its figures, and what a wrong formula or a failing world shows."""

from __future__ import annotations

import pytest

from analytic.model.training import TrainingSetup
from analytic.parallelism import fsdp
from analytic.parallelism.layout import Layout
from empirical.proof import parallel
from empirical.proof.check import Check
from empirical.proof.layouts import RankJob
from empirical.proof.parallel import rank_checks
from empirical.witnesses.own_process import from_clean_process, in_own_process
from tests.configurations import parsed
from tests.memory_cases import SMALL

SETUP = TrainingSetup(seq_len=16, optimizer="adamw_foreach")
JOB = RankJob(parsed(SMALL | {"num_hidden_layers": 2}), SETUP, Layout(dp_shard=3), 2)


def rows() -> list[Check]:
    (checks,) = in_own_process(rank_checks, [JOB])
    return checks


def test_every_figure_of_a_rank_is_a_row() -> None:
    checks = rows()
    assert [check.quantity.removesuffix(", dp_shard 3, rank 2") for check in checks] == [
        *("stored bytes", "gradient bytes", "bytes of moments", "bytes of collectives", "FLOPs"),
        *("base bytes, first step", "peak bytes, first step", "every rise and fall of live bytes, first step"),
        *("base bytes, later step", "peak bytes, later step", "every rise and fall of live bytes, later step"),
    ]
    assert {check.status for check in checks} == {"pass"}
    # two tables of 256 x 96, two layers of 4 x 96^2 + 3 x 160 x 96 + 2 x 96, a norm of 96: rows over 3 ranks, in fp32
    layer = 4 * 32 * 96 + 2 * 54 * 96 + 32 * 160 + 2 * 32
    assert checks[0].analytic == 4 * (2 * 86 * 96 + 2 * layer + 32)


def test_a_wrong_formula_fails_in_its_own_row_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fsdp, "gathers_in_a_pass", lambda *_: 1)
    (failed,) = [check for check in rows() if check.status == "fail"]
    assert failed.quantity == "bytes of collectives, dp_shard 3, rank 2"
    assert failed.terms["count of all_gather over dp_shard 3, layers.0-1"] == (2, 4)


def test_a_failing_world_is_a_row_that_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> None:
        raise RuntimeError("no such operator")

    monkeypatch.setattr(parallel, "observe", broken)
    (check,) = rank_checks(JOB)
    assert (check.status, check.error) == ("fail", "RuntimeError: no such operator")


@pytest.mark.thorough
def test_a_world_from_a_clean_process_gives_the_same() -> None:
    """What a machine with a GPU needs, which must not be forked after a backward pass."""
    assert from_clean_process(rank_checks, JOB, "empirical.proof.parallel") == rows()
