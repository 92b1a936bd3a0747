"""What the witnesses of a rank do not know is an error that names it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed._functional_collectives import all_reduce

from empirical.models import meta_world
from empirical.models.meta_world import Replacement, UnsupportedVersionError, on_meta, replaced, start_world
from empirical.witnesses.communication import CollectiveCounter, UnknownCollectiveError
from empirical.witnesses.flops import UncountedOperatorError
from empirical.witnesses.local_flops import LocalFlops
from empirical.witnesses.own_process import WorldError, at_once, in_own_process
from empirical.witnesses.running_module import RunningModule


def counted(send: Callable[[torch.Tensor], object]) -> Any:
    """What is counted of a function's communication, in a world of two ranks."""
    start_world(2, 0)
    world: Any = dist.group.WORLD
    with CollectiveCounter({world.group_name: "tp"}, RunningModule(nn.Identity())) as counter:
        send(torch.empty(6, device="meta"))
    return counter.collectives


def sum_up(tensor: torch.Tensor) -> None:
    world: Any = dist.group.WORLD
    all_reduce(tensor, "sum", world)


def gather_objects(tensor: torch.Tensor) -> None:
    dist.all_gather([torch.empty_like(tensor) for _ in range(2)], tensor)


def sum_up_in_another_group(tensor: torch.Tensor) -> None:
    another: Any = dist.new_group([0])
    all_reduce(tensor, "sum", another)


def test_a_collective_is_counted_by_the_shape_of_its_tensor() -> None:
    ((one,),) = in_own_process(counted, [sum_up])
    assert (one.axis, one.kind, one.group_size, one.count, one.size_bytes) == ("tp", "all_reduce", 2, 1, 6 * 4)


@pytest.mark.parametrize(
    ("send", "expected"),
    [(gather_objects, "c10d.allgather_.default"), (sum_up_in_another_group, "is no axis of the layout")],
)
def test_an_unknown_collective_or_group_is_refused_by_name(send: Callable[..., object], expected: str) -> None:
    with pytest.raises(UnknownCollectiveError, match=expected):
        in_own_process(counted, [send])


def test_an_unknown_operator_is_refused_by_name() -> None:
    x = torch.empty(3, 3, device="meta")
    with LocalFlops() as flops:
        x @ x + 1
    assert flops.total == 2 * 3**3
    with pytest.raises(UncountedOperatorError, match="linalg_qr"), LocalFlops():
        torch.linalg.qr(x)


@pytest.mark.parametrize(
    ("path", "signature", "expected"),
    [
        ("torch.distributed.device_mesh:_get_device_handle", "(device)", r"found \(device_type='cuda'\) in torch"),
        ("torch.distributed.device_mesh:_no_such_function", "(device)", "found none"),
        ("torch.no_such_module:function", "(device)", "found none"),
    ],
)
def test_another_version_of_a_replaced_function_is_refused_by_name(path: str, signature: str, expected: str) -> None:
    replacement = Replacement(path, signature, lambda plain: plain)
    with pytest.raises(UnsupportedVersionError, match=f"{path.replace(':', '.')}.*{expected}"), replaced([replacement]):
        pass


def test_everything_that_was_replaced_is_put_back() -> None:
    def functions() -> list[Any]:
        owned = (meta_world._owner(replacement.path) for replacement in meta_world._ON_META)
        return [getattr(owner, name) for owner, name in owned if hasattr(owner, name)]  # one is newer than torch 2.11

    before = functions()
    with on_meta():
        assert all(now is not then for now, then in zip(functions(), before, strict=True))
    assert functions() == before


def test_a_process_without_a_result_is_an_error() -> None:
    with pytest.raises(WorldError, match="code 3"):
        in_own_process(sys.exit, [3])


def test_an_error_in_a_process_is_raised_with_its_trace() -> None:
    with pytest.raises(ValueError, match="invalid literal") as caught:
        at_once(int, ["1", "x"])
    assert "Traceback" in str(caught.value.__cause__)
