"""The rows of pipelines and context parallelism, and that a wrong formula turns them red."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from analytic.errors import UsageError
from analytic.memory import pipeline_memory
from analytic.memory.pipeline_stage import Message, StageRun
from analytic.memory.static import model_tensors
from analytic.model.training import TrainingSetup
from analytic.parallelism import context_parallel, stages
from analytic.parallelism.layout import Layout
from analytic.parallelism.pipeline import Pipeline
from analytic.parallelism.pipeline_order import order
from empirical.proof.check import Check
from empirical.proof.layouts import PIPELINE, RING, RankJob, jobs_of, jobs_of_layout
from empirical.proof.parallel import rank_checks
from empirical.witnesses.own_process import in_own_process
from tests.configurations import parsed, shipped
from tests.memory_cases import SMALL, SMALL_DEEPSEEK_V3

CONFIG, SETUP = parsed(SMALL), TrainingSetup(seq_len=48, attention_kernel="cudnn")


def rows(layout: Layout, rank: int = 0) -> list[Check]:
    (found,) = in_own_process(rank_checks, [RankJob(CONFIG, SETUP, layout, rank)])
    return found


def failed(checks: list[Check]) -> list[str]:
    return [check.quantity.split(",")[0] for check in checks if check.status == "fail"]


@pytest.mark.parametrize("rank", [0, 1])
def test_the_default_pipeline_agrees(rank: int) -> None:
    found = rows(PIPELINE, rank)
    assert failed(found) == []
    assert [check.quantity for check in found] == [
        f"{quantity}, pp 2 1f1b, rank {rank}"
        for quantity in (
            "actions, as run",
            "actions, torch's table",
            "micro-batches in flight",
            "idle units",
            "bytes sent and received",
            "base bytes",
            "every rise and fall of live bytes",
        )
    ]


def test_a_split_backward_has_no_rows_of_memory() -> None:
    found = rows(Layout(pp=2, micro_batches=4, virtual_stages=2, pipeline_schedule="zbv", mixed_precision=False))
    assert failed(found) == []
    assert len(found) == 5


def test_the_default_ring_agrees_on_a_shipped_model() -> None:
    config = shipped("llama-3-8b")
    (found,) = in_own_process(rank_checks, [RankJob(config, TrainingSetup(seq_len=8192), RING, 3)])
    assert failed(found) == []
    assert [check.measured for check in found][2] == 77_309_411_328


def test_a_pipeline_that_is_asked_for_is_proven_with_all_layers() -> None:
    layout = Layout(pp=2, micro_batches=4, virtual_stages=2, pipeline_schedule="looped-bfs", mixed_precision=False)
    for job in jobs_of_layout(CONFIG, 48, layout):
        assert len(job.config.spec.layers) == 4
        (found,) = in_own_process(rank_checks, [job])
        assert (len(found), failed(found)) == (7, [])


@pytest.mark.parametrize(
    ("keys", "layout", "named"),
    [
        (SMALL, Layout(pp=5, micro_batches=5), "pp = 5, virtual_stages = 1: expected at most 4 stages"),
        (SMALL, Layout(cp=5), "cp = 5: expected seq_len = 48 to be a multiple of 2 x cp = 10"),
        (SMALL_DEEPSEEK_V3, Layout(cp=2), "cp = 2: expected heads of one width"),
        (SMALL, Layout(pp=2, dp_shard=2, micro_batches=2), "pp = 2: transformers"),
    ],
)
def test_a_layout_that_is_asked_for_and_not_taken_is_refused(
    keys: dict[str, object], layout: Layout, named: str
) -> None:
    with pytest.raises(UsageError) as error:
        list(jobs_of_layout(parsed(keys), 48, layout))
    assert named in str(error.value)


def test_a_model_is_proven_on_both_where_it_takes_them() -> None:
    def layouts(keys: dict[str, bool], seq_len: int) -> list[Layout]:
        return [job.layout for job in jobs_of(parsed(SMALL | keys), seq_len, "default")]

    assert {PIPELINE, RING} <= set(layouts({}, 48))
    assert PIPELINE not in layouts({"tie_word_embeddings": True}, 48)
    assert RING not in layouts({}, 40)  # 2 x 8 chunks


def test_a_model_whose_head_is_tied_is_refused() -> None:
    with pytest.raises(UsageError, match="tied head"):
        rank_checks(RankJob(parsed(SMALL | {"tie_word_embeddings": True}), SETUP, PIPELINE, 0))


def test_a_pipeline_that_keeps_one_micro_batch_less_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Pipeline.in_flight
    monkeypatch.setattr(Pipeline, "in_flight", lambda self, rank: max(1, plain(self, rank) - 1))
    assert failed(rows(PIPELINE)) == ["micro-batches in flight", "every rise and fall of live bytes"]


def test_messages_of_another_size_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = stages.hidden_state_bytes
    monkeypatch.setattr(stages, "hidden_state_bytes", lambda *args: 2 * plain(*args))
    assert failed(rows(PIPELINE)) == ["bytes sent and received"]


def test_an_order_that_is_gpipe_s_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    gpipe = Pipeline(schedule="gpipe", ranks=2, micro_batches=4)
    monkeypatch.setattr("empirical.proof.pipeline.order", lambda _, rank: order(gpipe, rank))
    assert failed(rows(PIPELINE)) == ["actions", "actions"]


def _never_released(run: StageRun, i: int) -> None:
    """An output stays until its backward."""


def _received_by_every_stage(run: StageRun, i: int) -> Message:
    """The last stage has a buffer for a gradient, too."""
    return run._buffer({} if run.stage.is_last else run._gradients, i, "received gradient")


def _losses_let_go(run: StageRun, i: int) -> Message:
    """As if the losses did not hold the last stage's inputs."""
    run._losses[i] = (run._losses[i][0], None)
    return []


@pytest.mark.parametrize(
    ("name", "wrong", "rank"),
    [
        ("release_output", _never_released, 0),
        ("receive_gradient", _received_by_every_stage, 1),
        ("receive_gradient", _losses_let_go, 1),
    ],
)
def test_a_wrong_lifetime_is_caught(
    monkeypatch: pytest.MonkeyPatch, name: str, wrong: Callable[[StageRun, int], Message | None], rank: int
) -> None:
    monkeypatch.setattr(StageRun, name, wrong)
    assert failed(rows(PIPELINE, rank)) == ["every rise and fall of live bytes"]


def test_a_stage_with_another_s_parameters_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline_memory, "stage_tensors", lambda spec, _: model_tensors(spec))
    assert failed(rows(PIPELINE)) == ["base bytes"]


def test_a_ring_with_gradients_in_the_compute_type_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context_parallel, "FP32_BYTES", 2)
    (found,) = in_own_process(rank_checks, [RankJob(CONFIG, SETUP, Layout(cp=4), 1)])
    assert failed(found) == ["bytes of ring attention"]
