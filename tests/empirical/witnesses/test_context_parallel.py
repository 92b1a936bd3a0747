"""Context parallelism against torch's ring attention, run for one rank of a simulated world."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from analytic.model.spec import GroupedQueryAttention
from analytic.model.training import TrainingSetup
from analytic.parallelism.communication import Collective
from analytic.parallelism.context_parallel import RingAttention, Rotation
from analytic.parallelism.context_parallel import ring_attention as ring_of
from analytic.parallelism.layout import Layout
from empirical.models.meta_world import UnsupportedVersionError
from empirical.witnesses import context_parallel as witness
from empirical.witnesses.context_parallel import RingCase, RingObservation, observe_ring
from empirical.witnesses.own_process import in_own_process

ROTATIONS: tuple[Rotation, ...] = ("alltoall", "allgather")


def observed(case: RingCase) -> RingObservation:
    (seen,) = in_own_process(observe_ring, [case])
    return seen


def described(case: RingCase) -> RingAttention:
    attention = GroupedQueryAttention(num_heads=case.heads, num_kv_heads=case.kv_heads, head_dim=case.head_dim)
    setup = TrainingSetup(seq_len=case.ranks * case.tokens, micro_batch=case.batch)
    return ring_of(attention, setup, Layout(cp=case.ranks))


def by_kind(collectives: Iterable[Collective]) -> dict[tuple[str, int], tuple[int, int]]:
    """Count and bytes: the counter does not tell two exchanges of one kind apart."""
    found: dict[tuple[str, int], tuple[int, int]] = {}
    for one in collectives:
        count, size_bytes = found.get((one.kind, one.group_size), (0, 0))
        found[one.kind, one.group_size] = (count + one.count, size_bytes + one.size_bytes)
    return found


def assert_as_torch(case: RingCase) -> None:
    seen, ring = observed(case), described(case)
    itemsize = case.dtype.itemsize
    forward = ring.forward(itemsize=itemsize, rotation=case.rotation, module="")
    backward = ring.backward(itemsize=itemsize, rotation=case.rotation, module="")
    assert by_kind(seen.forward) == by_kind(forward)
    assert by_kind(seen.backward) == by_kind(backward)
    assert seen.forward_flops == ring.forward_flops


@st.composite
def rings(draw: st.DrawFn) -> RingCase:
    ranks, kv_heads = draw(st.integers(2, 16)), draw(st.integers(1, 4))
    return RingCase(
        ranks=ranks,
        rank=draw(st.integers(0, ranks - 1)),
        batch=draw(st.integers(1, 3)),
        heads=kv_heads * draw(st.integers(1, 3)),
        kv_heads=kv_heads,
        tokens=2 * draw(st.integers(1, 40)),
        head_dim=8 * draw(st.integers(1, 8)),
        rotation=draw(st.sampled_from(ROTATIONS)),
        dtype=draw(st.sampled_from([torch.bfloat16, torch.float16])),
    )


@given(rings())
@settings(max_examples=25)
def test_rings_of_random_shapes(case: RingCase) -> None:
    assert_as_torch(case)


@pytest.mark.parametrize("rotation", ROTATIONS)
@pytest.mark.parametrize("rank", [0, 5, 7])
def test_the_ring_of_llama_3_8b_over_eight_ranks(rotation: Rotation, rank: int) -> None:
    case = RingCase(ranks=8, rank=rank, batch=1, heads=32, kv_heads=8, tokens=1024, head_dim=128, rotation=rotation)
    assert_as_torch(case)


def test_a_torch_whose_ring_takes_other_arguments_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(witness._SIGNATURES, "set_rotate_method", "(method)")
    case = RingCase(ranks=2, rank=0, batch=1, heads=1, kv_heads=1, tokens=2, head_dim=8, rotation="alltoall")
    with pytest.raises(UnsupportedVersionError, match=r"set_rotate_method: expected the signature \(method\)"):
        in_own_process(observe_ring, [case])
