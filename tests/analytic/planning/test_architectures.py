"""The family's rules, its arithmetic against the formulas, and generated configurations read back."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytic.errors import PlannerError, UnsupportedModelError
from analytic.huggingface.config import ModelConfig, load
from analytic.huggingface.write import to_config
from analytic.io.files import configs_dir, write_json
from analytic.model.flops import training_flops
from analytic.model.params import parameter_counts
from analytic.model.spec import DenseFfn, GroupedQueryAttention, MoeFfn
from analytic.planning.architectures import Candidate, Family, build, candidates, design, frontier, near, shapes
from analytic.scaling.law_file import load_law, load_laws
from empirical.models.build import transformers_model
from empirical.proof.crosscheck import verify

DENSE = Family(kind="dense", vocab_size=32_000, seq_len=4096)
MOE = Family(kind="moe", vocab_size=32_000, seq_len=4096)
TARGETS = [round(n * 10**e) for e in (8, 9, 10, 11) for n in (1, 1.7, 3, 5) if n * 10**e <= 500e9]


def every(family: Family) -> list[Candidate]:
    return list(candidates(family))


@pytest.mark.parametrize("family", [DENSE, MOE])
def test_every_architecture_keeps_the_rules(family: Family) -> None:
    for candidate in every(family):
        attention, ffn = candidate.layer.attention, candidate.layer.ffn
        assert isinstance(attention, GroupedQueryAttention)
        width = ffn.intermediate_size if isinstance(ffn, DenseFfn) else ffn.expert_intermediate_size
        assert attention.head_dim in (64, 128)
        assert attention.num_heads * attention.head_dim == candidate.hidden_size
        assert attention.num_heads % attention.num_kv_heads == 0
        assert candidate.hidden_size % 128 == width % 128 == 0
        assert 8 * candidate.hidden_size <= 3 * width
        assert 2 * width <= 7 * candidate.hidden_size
        assert 36 * candidate.depth <= candidate.hidden_size <= 132 * candidate.depth
        assert isinstance(ffn, MoeFfn) == (family.kind == "moe")


@settings(deadline=None, max_examples=60)
@given(
    kind=st.sampled_from(["dense", "moe"]),
    vocab=st.integers(1, 300_000),
    seq_len=st.sampled_from([1, 7, 2048, 131_072]),
    convention=st.sampled_from(["full", "causal", "half"]),
    params=st.sampled_from(["total", "active", "non_embedding"]),
    tied=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_arithmetic_over_depths_is_the_formula(seed: int, **chosen: object) -> None:
    chosen["vocab_size"] = chosen.pop("vocab")
    family = Family(**chosen)  # type: ignore[arg-type]  # drawn from what the fields take
    rng = random.Random(seed)
    shape = rng.choice(shapes(family))
    index = rng.randrange(len(shape.depths))
    params, flops_per_token = shape.sizes[index]
    spec = build(family, shape.hidden_size, shape.layer, shape.depths[index])
    counts = parameter_counts(spec)
    expected = {
        "total": counts.total,
        "active": counts.active,
        "non_embedding": counts.active - counts.embedding - counts.head,
    }
    assert params == expected[family.params]
    whole = training_flops(spec, seq_len=family.seq_len, convention=family.convention)
    assert flops_per_token * family.seq_len == whole.model_flops


@settings(deadline=None, max_examples=25)
@given(law=st.sampled_from(sorted(load_laws())), compute=st.floats(1e18, 1e28), moe=st.booleans())
def test_nothing_off_the_frontier_is_better(law: str, compute: float, moe: bool) -> None:
    family, chosen = (MOE if moe else DENSE), load_law(law)
    on, all_of_them = (
        min(chosen.loss(c.params, compute / c.flops_per_token) for c in of) for of in (frontier(family), every(family))
    )
    assert on == all_of_them


@pytest.mark.parametrize("family", [DENSE, MOE])
def test_the_frontier_is_what_nothing_beats(family: Family) -> None:
    front = frontier(family)
    for larger, smaller in pairwise(front):
        assert larger.params > smaller.params
        assert larger.flops_per_token > smaller.flops_per_token
    on = {f[:2] for f in front}
    for candidate in random.Random(0).sample(every(family), 200):
        beaten = any(
            f.params >= candidate.params and f.flops_per_token <= candidate.flops_per_token and f[:2] != candidate[:2]
            for f in front
        )
        assert beaten or candidate[:2] in on


@pytest.mark.parametrize("family", [DENSE, MOE, Family(kind="dense", vocab_size=128_256, seq_len=8192)])
@pytest.mark.parametrize("target", TARGETS)
def test_a_designed_config_is_read_back_and_built(target: int, family: Family, tmp_path: Path) -> None:
    spec = design(target, family)
    config = written(spec_path=tmp_path / "config.json", config=to_config(spec, family.seq_len))
    assert config.spec == spec
    active = parameter_counts(config.spec).active
    assert abs(active - target) <= target // 100
    # Tied tensors are one parameter, and so counted once.
    real = sum(p.numel() for p in transformers_model(config).parameters())
    assert real == parameter_counts(config.spec).total


def test_a_total_can_be_the_target() -> None:
    family = Family(kind="moe", vocab_size=32_000, seq_len=4096, params="total")
    for target in TARGETS:
        assert abs(parameter_counts(design(target, family)).total - target) <= target // 100


@pytest.mark.parametrize(("family", "target"), [(DENSE, 10**8), (MOE, 10**9)])
def test_a_designed_config_passes_every_check(family: Family, target: int, tmp_path: Path) -> None:
    config = written(spec_path=tmp_path / "config.json", config=to_config(design(target, family), family.seq_len))
    checks = list(verify(config, 128))
    assert checks
    assert [check for check in checks if check.difference] == []


def test_the_shipped_design_is_the_family_s() -> None:
    config = load(configs_dir() / "my_model_config.json")
    spec = design(parameter_counts(config.spec).total, Family(kind="dense", vocab_size=32_000, seq_len=2048))
    assert config.spec == spec
    assert config.default_seq_len == 2048


def test_a_small_target_ties_its_head() -> None:
    family = Family(kind="dense", vocab_size=128_256, seq_len=4096)
    found = near(1e8, family)
    assert found.within_tolerance
    assert found.family.tied


@pytest.mark.parametrize("target", [10**4, 10**16])
def test_a_target_out_of_reach_is_one_clear_line(target: int) -> None:
    with pytest.raises(PlannerError, match=rf"within 1% of {target} parameters .* the nearest has \d+"):
        design(target, DENSE)


@pytest.mark.parametrize(("vocab", "padded"), [(50_257, 50_304), (32_000, 32_000), (1, 128), (128_256, 128_256)])
def test_vocabulary_padding(vocab: int, padded: int) -> None:
    assert Family(kind="dense", vocab_size=vocab, seq_len=1).padded_vocab_size == padded


@pytest.mark.parametrize("name", ["deepseek-v2-lite", "gpt2", "qwen2.5-7b", "qwen3-8b", "kimi-k2"])
def test_what_is_not_designed_is_not_written(name: str) -> None:
    with pytest.raises(UnsupportedModelError):
        to_config(load(configs_dir() / "models" / f"{name}.json").spec, 2048)


def written(*, spec_path: Path, config: dict[str, object]) -> ModelConfig:
    write_json(spec_path, config)
    return load(spec_path)
