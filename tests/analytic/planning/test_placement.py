"""What fits on how many GPUs."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytic.huggingface.config import ModelConfig, load
from analytic.io.files import configs_dir
from analytic.memory.capacity import RESERVE_BYTES
from analytic.memory.implementation import NotPredicted
from analytic.model.params import parameter_counts
from analytic.planning.placement import MICRO_BATCHES, Need, Placement, place

MODELS = [
    configs_dir() / "llama_7b_config.json",
    configs_dir() / "models" / "mixtral-8x7b.json",
    configs_dir() / "my_model_config.json",
]


def placed(
    config: ModelConfig,
    memory_gb: float,
    num_gpus: int | None = None,
    micro_batch: int = 1,
    seq_len: int = 2048,
    most_sequences: int | None = None,
) -> Placement:
    placement = place(
        config,
        seq_len=seq_len,
        dtype="bf16",
        memory_bytes=round(memory_gb * 10**9),
        num_gpus=num_gpus,
        micro_batch=micro_batch,
        most_sequences=most_sequences,
    )
    assert isinstance(placement, Placement)
    return placement


@pytest.mark.parametrize("path", MODELS)
def test_the_state_is_sixteen_bytes_a_parameter(path: Path) -> None:
    """2 of weights, 2 of gradients, 4 of master weights, 4 + 4 of AdamW's moments."""
    config = load(path)
    expected = 16 * parameter_counts(config.spec).total
    state = placed(config, 80).need.state
    assert expected <= state <= expected * 1.0001  # beside: token ids, tables, step counts, rounding


@settings(deadline=None, max_examples=30)
@given(path=st.sampled_from(MODELS), memory_gb=st.floats(4, 400), micro_batch=st.sampled_from([1, 2, 8]))
def test_the_fewest_gpus_are_the_fewest(path: Path, memory_gb: float, micro_batch: int) -> None:
    placement = placed(load(path), memory_gb, micro_batch=micro_batch)
    available, least = round(memory_gb * 10**9) - RESERVE_BYTES, placement.least_gpus
    if least is None:
        assert placement.need.on_each(10**12) > available
        assert not placement.fits
        return
    assert placement.fits
    assert placement.num_gpus == least
    assert placement.need.on_each(least) <= available
    assert least == 1 or placement.need.on_each(least - 1) > available


def test_fewer_gpus_than_that_do_not_fit() -> None:
    config = load(MODELS[0])
    least = placed(config, 40).least_gpus
    assert least is not None
    assert placed(config, 40, num_gpus=least).fits
    assert not placed(config, 40, num_gpus=least - 1).fits


@settings(deadline=None, max_examples=15)
@given(memory_gb=st.floats(20, 200), num_gpus=st.integers(2, 64))
def test_the_largest_micro_batch_fits_and_twice_it_does_not(memory_gb: float, num_gpus: int) -> None:
    config = load(MODELS[0])
    most = placed(config, memory_gb, num_gpus).most_micro_batch
    assert most == 0 or placed(config, memory_gb, num_gpus, micro_batch=most).fits
    twice = 2 * most or 1
    assert twice > MICRO_BATCHES[-1] or not placed(config, memory_gb, num_gpus, micro_batch=twice).fits


@pytest.mark.parametrize("dtype", ["fp8", "tf32", "fp32"])
def test_what_has_no_schedule_is_not_predicted(dtype: str) -> None:
    found = place(load(MODELS[0]), seq_len=2048, dtype=dtype, memory_bytes=80 * 10**9, num_gpus=8)
    assert isinstance(found, NotPredicted)
    assert dtype in found.reason
    gpt2 = place(
        load(configs_dir() / "models" / "gpt2.json"), seq_len=16, dtype="bf16", memory_bytes=10**11, num_gpus=8
    )
    assert isinstance(gpt2, NotPredicted)


def test_one_gpu_gathers_nothing_and_the_optimizer_s_step_counts() -> None:
    passes = Need(state=100, activations=10, gathered=5, optimizer_peak=0)
    assert [passes.on_each(1), passes.on_each(2), passes.on_each(3)] == [100 + 10, 50 + 10 + 5, 34 + 10 + 5]
    assert passes.least_gpus(110) == 1
    assert passes.least_gpus(109) == 2
    step = Need(state=100, activations=10, gathered=5, optimizer_peak=140)
    assert [step.on_each(1), step.on_each(2)] == [140, 140 // 2]


def test_the_reserve_is_two_billion_bytes_of_those_there_are() -> None:
    """One byte less than the need and the reserve together, and it does not fit."""
    config, reserve = load(MODELS[0]), 2 * 10**9
    need = placed(config, 400, num_gpus=8).need.on_each(8)

    def fits(memory_bytes: int) -> bool:
        found = place(config, seq_len=2048, dtype="bf16", memory_bytes=memory_bytes, num_gpus=8)
        assert isinstance(found, Placement)
        return found.fits

    assert (fits(need + reserve), fits(need + reserve - 1)) == (True, False)


def test_gpus_without_a_micro_batch_do_not_fit() -> None:
    """Sixteen sequences feed 8 GPUs with 2 each, and no 9 GPUs."""
    config = load(MODELS[0])
    eight = placed(config, 80, num_gpus=8, micro_batch=2, most_sequences=16)
    nine = placed(config, 80, num_gpus=9, micro_batch=2, most_sequences=16)
    assert (eight.fits, eight.has_idle_gpus, eight.most_micro_batch) == (True, False, 2)
    assert (nine.fits, nine.has_idle_gpus, nine.most_micro_batch) == (False, True, 1)
    assert placed(config, 80, num_gpus=9, micro_batch=2).fits


def test_no_number_of_gpus_fits_where_the_least_is_more_than_there_are_sequences() -> None:
    config = load(MODELS[0])
    least = placed(config, 20).least_gpus
    assert least is not None
    assert placed(config, 20, most_sequences=least).least_gpus == least
    none = placed(config, 20, most_sequences=least - 1)
    assert (none.least_gpus, none.num_gpus, none.fits, none.most_micro_batch) == (None, least, False, 0)
