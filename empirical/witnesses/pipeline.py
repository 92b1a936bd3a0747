"""What torch's pipeline schedules do: in their own tables, and when one rank of a simulated world runs them.

case = PipelineCase(config, setup, Layout(pp=4, micro_batches=8), rank=1)
(seen,) = in_own_process(observe_pipeline, [case])
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.pipelining import schedules

from analytic.parallelism.communication import Collective, Kind
from analytic.parallelism.pipeline import Pipeline
from analytic.parallelism.pipeline_messages import Step
from analytic.parallelism.pipeline_order import Action, Computation
from empirical.models.meta_world import checked, pipelines_on_meta, start_world, watching_stages
from empirical.models.pipeline import SCHEDULES, PipelineCase, PipelineProgram
from empirical.witnesses.communication import CollectiveCounter
from empirical.witnesses.memory import MemoryMeasurement, Phase
from empirical.witnesses.meta_kernels import as_on_cuda
from empirical.witnesses.rank_tracker import RankTracker
from empirical.witnesses.running_module import RunningModule

_LETTERS: dict[Any, Computation] = {
    schedules.FORWARD: "F",
    schedules.FULL_BACKWARD: "B",
    schedules.BACKWARD_INPUT: "I",
    schedules.BACKWARD_WEIGHT: "W",
}
_SINGLE = "torch.distributed.pipelining.schedules:PipelineScheduleSingle._get_pipeline_order"
_METHODS = {
    "forward_one_chunk": "(self, fwd_chunk_id, args, kwargs=None, save_forward_output=True)",
    "backward_one_chunk": "(self, bwd_chunk_id, loss=None, full_backward=True, last_backward=False)",
    "backward_weight_one_chunk": "(self, bwd_chunk_id, last_backward=False)",
    "get_fwd_recv_ops": "(self, fwd_chunk_id)",
    "get_fwd_send_ops": "(self, fwd_chunk_id)",
    "get_bwd_recv_ops": "(self, bwd_chunk_id)",
    "get_bwd_send_ops": "(self, bwd_chunk_id)",
}
# which way a message goes, and whether it crosses the boundary above the stage's first layer or below its last
_TRANSFERS: dict[str, tuple[Kind, bool]] = {
    "get_fwd_recv_ops": ("recv", True),
    "get_fwd_send_ops": ("send", False),
    "get_bwd_recv_ops": ("recv", False),
    "get_bwd_send_ops": ("send", True),
}


def torch_order(pipeline: Pipeline) -> dict[int, tuple[Action, ...]]:
    """The table of actions of every rank, as torch's class makes it; without waiting and communication.

    Raises:
        UnsupportedVersionError: a torch whose single-stage schedules have no such table.
        ValueError: a pipeline that torch refuses.
    """
    kind = SCHEDULES[pipeline.schedule]
    stages = [_stand_in(index, pipeline) for index in pipeline.stages_of(0)]
    if issubclass(kind, schedules.PipelineScheduleMulti):
        table = kind(stages, pipeline.micro_batches, loss_fn=lambda *_: None).pipeline_order
    else:
        checked(_SINGLE, "(self)")
        table = kind(stages[0], pipeline.micro_batches, loss_fn=lambda *_: None)._get_pipeline_order()
    order = {rank: tuple(_computing(actions)) for rank, actions in table.items()}
    return _with_first_micro_batch(order) if pipeline.schedule == "1f1b" else order


def torch_steps(pipeline: Pipeline) -> dict[int, list[Step]]:
    """What torch runs on every rank of a schedule of several stages, with the receives; without the sends."""
    stages = [_stand_in(index, pipeline) for index in pipeline.stages_of(0)]
    schedule = SCHEDULES[pipeline.schedule](stages, pipeline.micro_batches, loss_fn=lambda *_: None)
    return {rank: list(_steps(actions)) for rank, actions in schedule.pipeline_order_with_comms.items()}


def _steps(actions: Iterable[Any]) -> Iterator[Step]:
    receives: dict[Any, Computation] = {schedules.RECV_F: "F", schedules.RECV_B: "B"}
    for action in actions:
        if (letter := receives.get(action.computation_type)) is not None:
            yield Step(Action(action.stage_index, letter, action.microbatch_index), True)
        else:
            yield from (Step(one, False) for one in _computing([action]))


def replayed_idle_units(table: Mapping[int, Sequence[Action]]) -> int:
    """The time of a step beyond what the busiest rank computes, each action as soon as its rank and inputs are ready.

    A backward pass is two units, every other action one; sending takes no time.

    Raises:
        ValueError: actions that wait for each other.
    """
    last_stage = max(action.stage for actions in table.values() for action in actions)
    done: dict[tuple[int, bool, int], int] = {}  # stage, whether forward, micro-batch: when its result is there
    clock, position = dict.fromkeys(table, 0), dict.fromkeys(table, 0)
    moved = True
    while moved:
        moved = False
        for rank, actions in table.items():
            while position[rank] < len(actions):
                action = actions[position[rank]]
                needed = list(_needed(action, last_stage))
                if not all(key in done for key in needed):
                    break
                start = max([clock[rank], *(done[key] for key in needed)])
                clock[rank] = start + (2 if action.computation == "B" else 1)
                if action.computation != "W":
                    done[action.stage, action.computation == "F", action.micro_batch] = clock[rank]
                position[rank] += 1
                moved = True
    if any(position[rank] < len(actions) for rank, actions in table.items()):
        raise ValueError("actions wait for each other")
    busy = (sum(2 if action.computation == "B" else 1 for action in actions) for actions in table.values())
    return max(clock.values()) - max(busy)


def _needed(action: Action, last_stage: int) -> Iterator[tuple[int, bool, int]]:
    stage, computation, micro_batch = action
    if computation == "F" and stage > 0:
        yield stage - 1, True, micro_batch
    if computation in ("B", "I"):
        yield stage, True, micro_batch
        if stage < last_stage:
            yield stage + 1, False, micro_batch


class _StandIn(SimpleNamespace):
    """What a schedule's constructor asks of a stage; whatever else it calls does nothing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *_, **__: None


def _stand_in(index: int, pipeline: Pipeline) -> Any:
    return _StandIn(
        stage_index=index,
        num_stages=pipeline.num_stages,
        group_rank=0,
        group_size=pipeline.ranks,
        is_first=index == 0,
        is_last=index == pipeline.num_stages - 1,
        has_backward=True,
        device=torch.device("cpu"),
        submod=nn.Identity(),
        group=None,
    )


def _computing(actions: Iterable[Any]) -> Iterator[Action]:
    for action in actions:
        for one in () if action is None else action.sub_actions or (action,):
            if (letter := _LETTERS.get(one.computation_type)) is not None:
                yield Action(one.stage_index, letter, one.microbatch_index)


def _with_first_micro_batch(order: dict[int, tuple[Action, ...]]) -> dict[int, tuple[Action, ...]]:
    """torch 2.15's own table of 1F1B counts the last rank's forward passes from 1; it runs them from 0."""
    last = order[max(order)]
    if Action(max(order), "F", 0) not in last:
        last = tuple(a._replace(micro_batch=a.micro_batch - 1) if a.computation == "F" else a for a in last)
    return {**order, max(order): last}


@dataclass(frozen=True, slots=True)
class PipelineObservation:
    """What one rank ran in a step.

    Attributes:
        actions: in the order in which they ran.
        transfers: what its stages sent and received, by the last layer before the boundary.
        collectives: the same as it reached torch's communication library, all boundaries together.
        memory: of its phases, `passes` and `optimizer`.
    """

    actions: tuple[Action, ...]
    transfers: tuple[Collective, ...]
    collectives: tuple[Collective, ...]
    memory: MemoryMeasurement


def observe_pipeline(case: PipelineCase) -> PipelineObservation:
    """One training step of a rank. To be run in a process of its own."""
    start_world(case.layout.pp, case.rank)
    with pipelines_on_meta(), as_on_cuda():
        program = PipelineProgram.build(case)
        tracker = RankTracker(torch.device("meta"), rounding=case.setup.rounding_bytes)
        for name, tensor in program.base():
            tracker.register(name, tensor)
        group = dist.distributed_c10d._get_default_group()
        counter = CollectiveCounter({str(group.group_name): "pp"}, RunningModule(nn.Identity()))
        watched = _Watched(case)
        base, first, phases = tracker.current_bytes, len(tracker.events), []
        tracker.reset_peak()
        with watching_stages(_METHODS, watched.on_call), counter, tracker:  # innermost, so that it counts references
            for name in program.phases():
                peak, end_bytes = tracker.peak, tracker.current_bytes - base
                phases.append(
                    Phase(name, peak.peak_bytes - base, end_bytes, tracked=peak, events=tracker.events[first:])
                )
                first = len(tracker.events)
                tracker.reset_peak()
    memory = MemoryMeasurement("tracked on meta", base, tuple(phases))
    return PipelineObservation(tuple(watched.actions), watched.transfers, counter.collectives, memory)


class _Watched:
    """Actions and messages of a rank's stages, as their methods are called."""

    def __init__(self, case: PipelineCase) -> None:
        self.actions: list[Action] = []
        self._layers = {stage.index: stage.layers for stage in case.stages}
        self._ranks = case.layout.pp
        self._sizes: dict[tuple[Kind, str], list[int]] = {}

    @property
    def transfers(self) -> tuple[Collective, ...]:
        return tuple(
            Collective(
                axis="pp", kind=kind, module=module, group_size=self._ranks, count=len(sizes), size_bytes=sum(sizes)
            )
            for (kind, module), sizes in self._sizes.items()
        )

    def on_call(self, name: str, stage: Any, arguments: dict[str, Any], out: Any) -> None:
        if name in _TRANSFERS:
            kind, is_above = _TRANSFERS[name]
            layers = self._layers[stage.stage_index]
            module = f"layers.{layers.start - 1 if is_above else layers.stop - 1}"
            for message in out:
                tensor = message.tensor
                self._sizes.setdefault((kind, module), []).append(tensor.numel() * tensor.element_size())
            return
        letters: dict[str, Computation] = {"forward_one_chunk": "F", "backward_weight_one_chunk": "W"}
        letter = letters.get(name) or ("B" if arguments["full_backward"] else "I")
        micro_batch = arguments["fwd_chunk_id" if letter == "F" else "bwd_chunk_id"]
        self.actions.append(Action(stage.stage_index, letter, micro_batch))
