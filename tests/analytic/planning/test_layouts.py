"""Layouts: which are enumerated, against the rules by brute force, and what is answered of those that fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import combinations, product
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analytic.api.fitting import fits
from analytic.errors import UsageError
from analytic.huggingface.config import ModelConfig
from analytic.memory.by_stack import check_layout, rank_peak
from analytic.memory.implementation import NotPredicted
from analytic.memory.rank_peak import RankPeak
from analytic.model.checkpointing import Checkpointing
from analytic.model.spec import MoeFfn
from analytic.model.training import TrainingSetup, planned_setup
from analytic.parallelism.layout import Layout
from analytic.parallelism.parameters import DistributedModel
from analytic.parallelism.stacks import Stack
from analytic.planning.layouts import Space, layouts
from analytic.planning.many_gpus import STACKS, ManyGpus, fit_on_many
from analytic.planning.rank_fit import MOST_MICRO_BATCH, Question, RankFit, enumerate_fits, rank_setup
from tests.configurations import shipped

GIB = 2**30
MODELS = ("llama-3.2-1b", "llama-3-8b", "mixtral-8x7b", "qwen3-30b-a3b", "deepseek-v2-lite")
WORLDS = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
SLOW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@cache
def model(name: str) -> ModelConfig:
    return shipped(name)


def setup_of(name: str, seq_len: int = 4096, micro_batch: int = 1) -> TrainingSetup:
    return rank_setup(planned_setup(model(name).spec, seq_len, micro_batch, "bf16"))


@st.composite
def spaces(draw: st.DrawFn) -> tuple[str, TrainingSetup, Space]:
    name = draw(st.sampled_from(MODELS))
    setup = setup_of(name, draw(st.sampled_from((1024, 4096, 8192, 32768))), draw(st.sampled_from((1, 2, 3))))
    global_batch = draw(st.one_of(st.none(), st.sampled_from((24, 64, 96, 100))))
    node = draw(st.sampled_from((1, 4, 6, 8)))
    return name, setup, Space(num_gpus=draw(st.sampled_from(WORLDS)), node_gpus=node, global_batch=global_batch)


@st.composite
def questions(draw: st.DrawFn) -> tuple[Question, Space]:
    name = draw(st.sampled_from(MODELS[:3]))
    question = Question(
        config=model(name),
        setup=setup_of(name, draw(st.sampled_from((2048, 8192))), draw(st.sampled_from((1, 3)))),
        recompute=draw(st.sampled_from((None, None, "none", "full"))),
        memory_bytes=draw(st.integers(8, 200)) * GIB,
        reserve_bytes=draw(st.sampled_from((None, 2 * GIB))),
        beyond_bytes=draw(st.sampled_from((0, GIB))),
    )
    return question, Space(num_gpus=draw(st.sampled_from(WORLDS)), node_gpus=draw(st.sampled_from((4, 8))))


def by_brute_force(name: str, setup: TrainingSetup, stack: Stack, space: Space) -> Iterator[tuple[Any, ...]]:
    """Every combination of sizes, by the rules that docs/layouts.md states."""
    spec, gpus, node = model(name).spec, space.num_gpus, space.node_gpus
    experts = [layer.ffn.num_experts for layer in spec.layers if isinstance(layer.ffn, MoeFfn)]
    sizes = [n for n in range(1, gpus + 1) if gpus % n == 0]
    can = {
        "transformers-fsdp2": ("dp_replicate", "ep"),
        "torchtitan": ("dp_replicate", "pp", "cp"),
        "megatron-te": ("pp", "cp", "ep"),
    }[stack]
    choices = [sizes if axis in can else [1] for axis in ("dp_replicate", "pp", "cp", "ep")]
    for (replicate, pp, cp, ep), tp, shard, virtual in product(product(*choices), sizes, sizes, (1, 2, 3, 4)):
        is_world = replicate * shard * tp * pp * cp == gpus
        in_node = tp <= node and node % tp == 0
        in_model = pp <= len(spec.layers) and (cp == 1 or setup.seq_len >= cp * 2048)
        whole_nodes = replicate == 1 or (shard > 1 and (shard * cp * tp) % node == 0)
        of_experts = ep == 1 or (experts != [] and all(n % ep == 0 for n in experts))
        shared = (shard * cp * tp) % ep == 0
        of_stages = virtual == 1 or (pp > 1 and len(spec.layers) % (pp * virtual) == 0)
        if not (is_world and in_node and in_model and whole_nodes and of_experts and shared and of_stages):
            continue
        if space.global_batch is None:
            micro_batches = 4 * pp if pp > 1 else 1
        else:
            micro_batches, rest = divmod(space.global_batch, setup.micro_batch * replicate * shard)
            if rest:
                continue
        yield replicate, shard, tp, pp, cp, ep, virtual, micro_batches


@SLOW
@given(spaces(), st.sampled_from(STACKS))
def test_the_layouts_are_those_that_the_rules_allow(case: tuple[str, TrainingSetup, Space], stack: Stack) -> None:
    """Each once, and none is left out; the product of each is the number of GPUs."""
    name, setup, space = case
    found = list(layouts(model(name).spec, setup, stack, space))
    sizes = [(x.dp_replicate, x.dp_shard, x.tp, x.pp, x.cp, x.ep, x.virtual_stages, x.micro_batches) for x in found]
    assert len(set(sizes)) == len(sizes)
    assert set(sizes) == set(by_brute_force(name, setup, stack, space))
    for layout in found:
        assert layout.num_gpus == space.num_gpus
        assert layout.pipeline_schedule == ("1f1b" if layout.virtual_stages == 1 else "interleaved-1f1b")


def test_no_stack_is_without_axes() -> None:
    assert get_args(Stack) == STACKS
    for stack in STACKS:
        assert list(layouts(model("llama-3-8b").spec, setup_of("llama-3-8b"), stack, Space(num_gpus=8, node_gpus=8)))


@SLOW
@given(questions())
def test_what_fits_was_checked_and_the_rest_is_accounted_for(case: tuple[Question, Space]) -> None:
    """Every layout is predicted, refused by its check, or not predicted; and fits if its peak is at most available."""
    question, space = case
    predicted, refused, unknown = 0, set(), set()
    fitting = []
    for stack in STACKS:
        for layout in layouts(question.config.spec, question.setup, stack, space):
            try:
                check_layout(question.config, question.setup, layout, stack)
            except UsageError as error:
                refused.add(f"{stack}: {error}")
                with pytest.raises(UsageError):
                    question.fit(layout, stack)
                continue
            fit = question.fit(layout, stack)
            if isinstance(fit, NotPredicted):
                unknown.add(f"{stack}: {fit.reason}")
                continue
            predicted += 1
            fitting += [fit] if _has_room(fit, question) else []
    found = enumerate_fits(question, space, STACKS)
    assert found.tried == predicted
    assert set(found.refused) == refused
    assert set(found.not_predicted) == unknown
    assert {(fit.stack, fit.layout, fit.setup) for fit in found.fitting} == {
        (fit.stack, fit.layout, fit.setup) for fit in fitting
    }
    assert len(found.fitting) == len(fitting)
    for fit in found.fitting:
        check_layout(question.config, fit.setup, fit.layout, fit.stack)


def _has_room(fit: RankFit, question: Question) -> bool:
    """By the sums themselves: the categories, what is kept free, and the memory of the GPU."""
    peak = fit.peak
    used = peak.parameters_bytes + peak.gradients_bytes + peak.optimizer_bytes
    used += peak.activations_bytes + peak.temporaries_bytes + question.beyond_bytes
    free = question.reserve_bytes
    if free is None:
        free = sum(line.size_bytes for line in fit.allowance)
    assert fit.fits is (used + free <= question.memory_bytes)
    assert fit.available_bytes == question.memory_bytes - free - question.beyond_bytes
    return fit.fits


@SLOW
@given(questions())
def test_the_answer_is_the_first_of_the_order(case: tuple[Question, Space]) -> None:
    """Without recomputation; the stack named first; no pipeline; the fewest bytes. Where none fits, the least peak."""
    question, space = case
    found = fit_on_many(question, space, gpu="some", given={})
    fitting = found.enumerated.fitting
    if not fitting:
        assert found.fits is not True
        assert found.alternatives == []
        return
    chosen = found.chosen
    assert chosen is not None
    assert chosen.fits
    assert not (chosen.setup.checkpointing == "full" and question.recompute == "none")
    without = [fit for fit in fitting if fit.setup.checkpointing == "none"] or fitting
    first = min(STACKS.index(fit.stack) for fit in without)
    of_stack = [fit for fit in without if STACKS.index(fit.stack) == first]
    flat = [fit for fit in of_stack if fit.layout.pp == 1] or of_stack
    assert chosen in flat
    assert chosen.bytes_per_token == min(fit.bytes_per_token for fit in flat)
    assert len(found.alternatives) == len(fitting) - 1
    reversed_stacks = fit_on_many(question, space, gpu="some", given={}, stacks=STACKS[::-1]).chosen
    assert reversed_stacks is not None
    assert STACKS.index(reversed_stacks.stack) == max(STACKS.index(fit.stack) for fit in without)


@SLOW
@given(questions())
def test_recomputation_is_the_least_that_fits(case: tuple[Question, Space]) -> None:
    question, space = case
    found = enumerate_fits(replace(question, recompute=None), space, STACKS)
    for fit in found.fitting[:20]:
        without = replace(question, recompute="none").fit(fit.layout, fit.stack)
        assert isinstance(without, RankFit)
        assert without.fits is (fit.setup.checkpointing == "none")


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(questions(), st.randoms(use_true_random=False))
def test_the_largest_micro_batch_fits_and_one_more_does_not(case: tuple[Question, Space], random: Any) -> None:
    """Asked anew, as a question with that micro-batch; at as many micro-batches."""
    question, space = case
    found = enumerate_fits(question, space, STACKS)
    for fit in random.sample(found.fitting, min(4, len(found.fitting))):
        most = fit.most_micro_batch
        assert question.setup.micro_batch <= most <= MOST_MICRO_BATCH

        def is_held(micro_batch: int, fit: RankFit = fit) -> bool:
            setup = replace(question.setup, micro_batch=micro_batch)
            asked = replace(question, setup=setup, recompute=fit.setup.checkpointing)
            again = asked.fit(fit.layout, fit.stack)
            assert isinstance(again, RankFit)
            return again.fits

        assert is_held(most)
        assert is_held((1 + most) // 2)
        if most < MOST_MICRO_BATCH:
            assert not is_held(most + 1)


def test_no_micro_batch_above_the_largest_tried_is_reported() -> None:
    """1 TiB holds thousands of sequences of 64 tokens."""
    found = fits("llama-3.2-1b", "8x1TiB", seq_len=64, dp_shard=8).value
    assert isinstance(found, ManyGpus)
    assert found.chosen is not None
    assert found.chosen.takes(1500)
    assert found.chosen.most_micro_batch == 1024


# The worlds of which every number of rows is a multiple: 128,256 = 2^8 x 501, 14,336, 4,096 and 1,024; 8 experts.
WITHOUT_PADDING = {"llama-3-8b": [2, 4, 8, 16, 64, 128], "mixtral-8x7b": [2, 4, 8]}


@pytest.mark.parametrize("name", WITHOUT_PADDING)
@pytest.mark.parametrize("checkpointing", get_args(Checkpointing))
def test_more_gpus_never_raise_the_peak_beyond_padding(name: str, checkpointing: Checkpointing) -> None:
    """Shards shrink. What is gathered and reduced is whole, padded to a multiple of the ranks.

    At most two groups are gathered at once, each as a buffer and as parameters of 2 bytes; two are reduced, in fp32.
    """
    setup, config = replace(setup_of(name), checkpointing=checkpointing), model(name)
    family: Any = config.read_as
    groups = DistributedModel(config.spec, family).groups(experts_apart=False)

    def padding(ranks: int) -> int:
        elements = max(sum((-tensor.rows % ranks) * tensor.width for tensor in group.tensors) for group in groups)
        return elements * (2 * 2 * 2 + 2 * 4)

    worlds = (2, 3, 4, 5, 7, 8, 16, 31, 64, 100, 128, 512, 1000, 1024)
    assert [ranks for ranks in worlds if padding(ranks) == 0] == WITHOUT_PADDING[name]
    peaks = {}
    for ranks in worlds:
        peak = rank_peak(config, setup, Layout(dp_shard=ranks), "transformers-fsdp2")
        assert isinstance(peak, RankPeak)
        peaks[ranks] = peak.peak_bytes
    for fewer, more in combinations(worlds, 2):
        assert peaks[more] <= peaks[fewer] + padding(more), (fewer, more)


def test_what_would_suffice_is_whole_nodes_that_fit() -> None:
    """Llama 2 70B: 16 bytes of each of 69e9 parameters are 1,028 GiB, more than 8 x 40 GiB."""
    found = fits("llama-2-70b", "8xa100-40").value
    assert isinstance(found, ManyGpus)
    assert found.fits is False
    assert found.more is not None
    assert found.more.fits
    more = found.more.layout.num_gpus
    assert (more % 8, more * 40 * GIB > 16 * 68_976_648_192) == (0, True)
    fewer = fits("llama-2-70b", f"{more - 8}xa100-40").value
    assert isinstance(fewer, ManyGpus)
    assert fewer.fits is False


def test_more_gpus_are_sought_up_to_the_largest_layout() -> None:
    """Doublings of 131,072 GPUs: the fourth has more ranks than a layout may have, and is not tried."""
    found = fits("kimi-k2", "131072x2GiB", reserve="1MB", stack="megatron-te").value
    assert isinstance(found, ManyGpus)
    assert found.fits is False
    assert found.more is None
