"""What fits on how many GPUs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytic.defaults import RESERVE_BYTES
from analytic.huggingface.config import ModelConfig, load
from analytic.io.files import configs_dir
from analytic.memory.allowance import allowance
from analytic.memory.by_stack import rank_peak
from analytic.memory.implementation import Implementation, NotPredicted, implementation_of
from analytic.memory.rank import RankMemory, rank_memory
from analytic.memory.rank_peak import RankPeak
from analytic.memory.schedule import MemorySchedule, schedule_of
from analytic.model.params import parameter_counts
from analytic.model.training import TrainingSetup, planned_setup
from analytic.parallelism.layout import Layout
from analytic.planning.placement import MICRO_BATCHES, Placement, place

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
def test_one_gpu_is_the_schedule_of_a_model_with_master_weights(path: Path) -> None:
    """2 of weights, 2 of gradients, 4 of master weights, 4 + 4 of AdamW's moments are 16 bytes a parameter."""
    config = load(path)
    schedule = schedule_of(config, planned_setup(config.spec, 2048, 1, "bf16"))
    assert isinstance(schedule, MemorySchedule)
    step = schedule.step()
    expected = 16 * parameter_counts(config.spec).total
    assert expected <= step.base.total_bytes <= expected * 1.0001  # token ids, tables, step counts, rounding
    assert placed(config, 80, num_gpus=1).peak_bytes == step.step_peak.total_bytes


@pytest.mark.parametrize("num_gpus", [2, 7, 64])
def test_several_gpus_are_the_schedule_of_a_rank(num_gpus: int) -> None:
    """FSDP over all of them: fp32 stored, bf16 computed, every layer recomputed."""
    config = load(MODELS[0])
    implementation = implementation_of(config, 2048)
    assert isinstance(implementation, Implementation)
    setup = TrainingSetup(seq_len=2048, checkpointing="full")
    rank = rank_memory(config.spec, implementation, setup, Layout(dp_shard=num_gpus))
    assert isinstance(rank, RankMemory)
    placement = placed(config, 80, num_gpus=num_gpus)
    assert placement.peak_bytes == rank.peak.peak_bytes
    assert placement.fit is not None
    assert placement.fit.layout.dp_shard == num_gpus


@settings(deadline=None, max_examples=30)
@given(path=st.sampled_from(MODELS), memory_gb=st.floats(4, 400), micro_batch=st.sampled_from([1, 2, 8]))
def test_the_fewest_gpus_are_the_fewest(path: Path, memory_gb: float, micro_batch: int) -> None:
    placement = placed(load(path), memory_gb, micro_batch=micro_batch)
    least = placement.least_gpus
    if least is None:
        assert not sharded_fits(load(path), memory_gb, 2**14, micro_batch)
        return
    assert placement.fits
    assert placement.num_gpus == least
    assert placed(load(path), memory_gb, least, micro_batch=micro_batch).fits
    if placement.fit is None or placement.fit.stack == "transformers-fsdp2":
        assert least == 1 or not sharded_fits(load(path), memory_gb, least - 1, micro_batch)


def sharded_fits(config: ModelConfig, memory_gb: float, num_gpus: int, micro_batch: int) -> bool:
    """Whether FSDP over so many GPUs, or a single one, fits."""
    found = placed(config, memory_gb, num_gpus, micro_batch=micro_batch)
    return found.fits and (found.fit is None or found.fit.layout == Layout(dp_shard=num_gpus))


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
    found = placed(config, memory_gb, num_gpus)
    assert found.fit is not None
    most, setup = found.most_micro_batch, found.fit.setup
    for batch, expected in ((most, True), (2 * most or 1, False)):
        if batch == 0 or batch > MICRO_BATCHES[-1]:
            continue
        peak = rank_peak(config, replace(setup, micro_batch=batch), found.fit.layout, found.fit.stack)
        assert isinstance(peak, RankPeak)
        assert replace(found.fit, peak=peak).fits is expected


@pytest.mark.parametrize("dtype", ["fp8", "tf32", "fp32"])
def test_what_has_no_schedule_is_not_predicted(dtype: str) -> None:
    found = place(load(MODELS[0]), seq_len=2048, dtype=dtype, memory_bytes=80 * 10**9, num_gpus=8)
    assert isinstance(found, NotPredicted)
    assert dtype in found.reason
    gpt2 = place(
        load(configs_dir() / "models" / "gpt2.json"), seq_len=16, dtype="bf16", memory_bytes=10**11, num_gpus=8
    )
    assert isinstance(gpt2, NotPredicted)


@pytest.mark.parametrize("num_gpus", [1, 8])
def test_what_is_kept_free_is_given_or_known(num_gpus: int) -> None:
    """One byte less than the peak and what is kept free together, and it does not fit."""
    config = load(MODELS[0])
    whole = placed(config, 400, num_gpus=num_gpus)
    assert whole.peak_bytes is not None
    assert whole.reserve_bytes == (RESERVE_BYTES if num_gpus == 1 else _allowed(whole))

    def fits(memory_bytes: int) -> bool:
        found = place(config, seq_len=2048, dtype="bf16", memory_bytes=memory_bytes, num_gpus=num_gpus)
        assert isinstance(found, Placement)
        return found.fits and (found.fit is None or found.fit.layout == Layout(dp_shard=num_gpus))

    least = whole.peak_bytes + whole.reserve_bytes
    assert (fits(least), fits(least - 1)) == (True, False)


def _allowed(placement: Placement) -> int:
    """The lines of the allowance for FSDP over eight ranks."""
    assert placement.peak_bytes is not None
    lines = allowance("transformers-fsdp2", Layout(dp_shard=8), placement.peak_bytes, has_experts=False)
    return sum(line.size_bytes for line in lines)


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
