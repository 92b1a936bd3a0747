"""Memory of one rank of a pipeline: its schedule of a training step, and the peak.

Scheduled as torch 2.15 runs it (`torch/distributed/pipelining/schedules.py`), and proven against a rank of a simulated
world at every rise and fall of live bytes. Schedules that split backward have none: what they keep in between,
recomputed activations included, is not described here.
"""

from __future__ import annotations

from dataclasses import dataclass

from analytic.memory import ops
from analytic.memory.implementation import Implementation, NotPredicted
from analytic.memory.peaks import Live, highest, live_after
from analytic.memory.pipeline_stage import Message, StageRun, stage_tensors
from analytic.memory.rank_peak import RankPeak
from analytic.memory.static import model_buffers, tensors_base
from analytic.memory.step import optimizer_segments
from analytic.memory.tape import Tape
from analytic.memory.tensors import Category, Event
from analytic.model.spec import ModelSpec
from analytic.model.training import TrainingSetup
from analytic.parallelism.layout import Layout, PipelineSchedule
from analytic.parallelism.pipeline import Pipeline
from analytic.parallelism.pipeline_messages import steps
from analytic.parallelism.stages import Stage, stage_spec, stages_of_model

SCHEDULED: tuple[PipelineSchedule, ...] = ("gpipe", "1f1b", "interleaved-1f1b", "looped-bfs")


@dataclass(frozen=True, slots=True)
class PipelineRank:
    """One rank's step: what is live before it, forward and backward of every micro-batch, and the optimizer's step.

    Attributes:
        marks: index into `events`, and where in the step that is. optimizer: events after those.
    """

    base: Live
    events: list[Event]
    marks: list[tuple[int, str]]
    optimizer: list[Event]


def pipeline_rank_peak(
    spec: ModelSpec, implementation: Implementation, setup: TrainingSetup, layout: Layout, rank: int
) -> RankPeak | NotPredicted:
    """The highest moment of a rank's step."""
    scheduled = pipeline_rank(spec, implementation, setup, layout, rank)
    if isinstance(scheduled, NotPredicted):
        return scheduled
    events = scheduled.events + scheduled.optimizer
    _, count = highest(events)
    live: dict[Category, int] = dict.fromkeys(Category, 0)
    for part in (scheduled.base, live_after(events[:count])):
        for (category, _), size_bytes in part.items():
            live[category] += size_bytes
    where = [name for start, name in scheduled.marks if start < max(count, 1)][-1]
    return RankPeak(
        rank=rank,
        parameters_bytes=live[Category.PARAMETERS],
        gradients_bytes=live[Category.GRADIENTS],
        optimizer_bytes=live[Category.OPTIMIZER],
        activations_bytes=live[Category.ACTIVATIONS] + live[Category.INPUTS],
        temporaries_bytes=live[Category.TEMPORARIES],
        moment=f"{where}, {events[count - 1][0].name}" if count else "before the step",
        origin="proven",
    )


def worst_pipeline_rank(
    spec: ModelSpec, implementation: Implementation, setup: TrainingSetup, layout: Layout
) -> RankPeak | NotPredicted:
    """The peak of the rank that needs most, with its part of the model."""
    found: list[RankPeak] = []
    for rank in range(layout.pp):
        peak = pipeline_rank_peak(spec, implementation, setup, layout, rank)
        if isinstance(peak, NotPredicted):
            return peak
        found.append(peak)
    return max(found, key=lambda peak: peak.peak_bytes)


def pipeline_rank(
    spec: ModelSpec, implementation: Implementation, setup: TrainingSetup, layout: Layout, rank: int
) -> PipelineRank | NotPredicted:
    """The schedule of a rank's step.

    The batch is given whole, token ids to the first stage and labels to the last; the last stage does not return its
    logits (`return_outputs=False`).

    Raises:
        UsageError: a layout that the pipeline or the model does not take.
    """
    stages = [stage for stage in stages_of_model(spec, layout) if stage.rank == layout.coordinate(rank, "pp")]
    if reason := _why_not(setup, layout):
        return NotPredicted(reason)
    t = Tape(setup.itemsize, rounding=setup.rounding_bytes, is_accumulating=setup.is_accumulating)
    runs = [StageRun(t, spec, stage, implementation, setup) for stage in stages]
    pipeline = Pipeline.of(layout)
    match pipeline.schedule:
        case "gpipe":
            _gpipe(runs[0], pipeline.micro_batches)
        case "1f1b":
            _one_forward_one_backward(runs[0], pipeline.micro_batches, pipeline.in_flight(runs[0].stage.rank))
        case _:
            _in_order(runs, pipeline)
    for run in runs:
        run.end_step()
    t.check_balance()
    tensors = [one for stage in stages for one in stage_tensors(spec, stage)]
    marks = [(start, f"{phase} of {region}") for start, phase, region in t.marks]
    marks.append((len(t.events), "optimizer step"))
    optimizer = [event for segment in optimizer_segments(tensors, setup) for event in segment.events]
    return PipelineRank(_base(spec, setup, layout, stages), list(t.events), marks, optimizer)


def _why_not(setup: TrainingSetup, layout: Layout) -> str | None:
    if layout.num_gpus != layout.pp:
        return f"no memory schedule for a pipeline with other axes ({layout.describe()})"
    if layout.mixed_precision:
        return "no memory schedule for a pipeline in mixed precision, which is a policy of FSDP"
    if setup.attention_kernel == "eager":
        return "no memory schedule for a pipeline with eager attention, whose mask no stage sends"
    if layout.pipeline_schedule not in SCHEDULED:
        return f"no memory schedule for {layout.pipeline_schedule}, which splits backward"
    return None


def _base(spec: ModelSpec, setup: TrainingSetup, layout: Layout, stages: list[Stage]) -> Live:
    live: Live = Live()
    for stage in stages:
        live.update(tensors_base(stage_tensors(spec, stage), setup))
        for name, size_bytes, count in model_buffers(stage_spec(spec, stage), setup.itemsize):
            live[Category.PARAMETERS, name] += setup.rounded(size_bytes) * count
        batch = setup.rounded(layout.micro_batches * setup.tokens * ops.INT64)
        live[Category.INPUTS, "token ids and labels"] += batch * (stage.is_first + stage.is_last)
    return live


def _gpipe(stage: StageRun, m: int) -> None:
    """`ScheduleGPipe._step_microbatches`: outputs are let go of when every forward pass has run."""
    sends: list[tuple[int, Message]] = []
    for i in range(m):
        message = stage.receive_input(i)
        output = stage.forward(i)
        message = stage.send_output(i)
        sends.append((i, message))
        del message
        stage.compute_loss(i, output)
        del output
    for i, sent in sends:
        sent.clear()
        stage.release_output(i)
    for i in range(m):
        message = stage.receive_gradient(i)
        stage.backward(i)
        message = stage.send_gradient(i)
    del message


def _one_forward_one_backward(stage: StageRun, m: int, warm_up: int) -> None:
    """`Schedule1F1B._step_microbatches`: what is received and sent is held until the next message takes its place."""
    sent: Message = []
    for i in range(warm_up):
        received = stage.receive_input(i)
        output = stage.forward(i)
        if i > 0:
            sent.clear()
            stage.release_output(i - 1)
        sent = stage.send_output(i)
        stage.compute_loss(i, output)
        del output
    for i in range(m):
        gradient = stage.receive_gradient(i)
        following = i + warm_up
        if following <= m:  # forward passes go on: the last output is sent together with that receive
            sent.clear()
            stage.release_output(following - 1)
            gradient.clear()
        stage.backward(i)
        gradients = stage.send_gradient(i)
        if following < m:
            received = stage.receive_input(following)
            output = stage.forward(following)
            stage.compute_loss(following, output)
            del output
            sent = stage.send_output(following)
    del received, gradients


def _in_order(runs: list[StageRun], pipeline: Pipeline) -> None:
    """`_PipelineScheduleRuntime`: an output is held until its backward, a sent gradient to the end of the step.

    Between two stages of one rank, what one gives is what the other takes.
    """
    own = {run.stage.index: run for run in runs}
    outputs: dict[tuple[int, int], Message] = {}
    gradients: list[Message] = []
    for (stage, computation, i), is_receive in steps(pipeline)[runs[0].stage.rank]:
        run, above, below = own[stage], own.get(stage - 1), own.get(stage + 1)
        if is_receive:
            run.receive_input(i) if computation == "F" else run.receive_gradient(i)
        elif computation == "F":
            run.compute_loss(i, run.forward(i))
            outputs[stage, i] = run.send_output(i)
            if below is not None:
                below.take_input(i, outputs[stage, i])
        else:
            run.backward(i)
            del outputs[stage, i]
            message = run.send_gradient(i)
            if above is None:
                gradients.append(message)
            else:
                above.take_gradient(i, message)
            del message
