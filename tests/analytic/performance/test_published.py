"""Published architectures: counts that others made from the real classes, and what the conventions say.

Parameters and forward FLOPs were counted from the `transformers` classes on the meta device, outside
this project; the four models under three attention conventions, and one layer, likewise.
"""

from __future__ import annotations

import pytest

from analytic.model.checkpointing import last_projection_flops
from analytic.model.flops import (
    AttentionConvention,
    forward_flops,
    layer_flops,
    mtp_flops,
    training_flops,
)
from analytic.model.params import model_params, parameter_counts
from tests.configurations import shipped

# name: parameters, active, buffers, sequence length, forward FLOPs with full attention
COUNTED = {
    "gpt2": (124_439_808, 124_439_808, 0, 1024, 291_648_307_200),
    "llama_7b": (6_738_415_616, 6_738_415_616, 0, 2048, 29_261_612_187_648),
    "llama-2-70b": (68_976_648_192, 68_976_648_192, 0, 2048, 292_444_323_184_640),
    "llama-3.1-8b": (8_030_261_248, 8_030_261_248, 0, 2048, 32_938_104_193_024),
    "llama-3.2-1b": (1_235_814_400, 1_235_814_400, 0, 2048, 5_611_374_772_224),
    "mistral-7b-v0.1": (7_241_732_096, 7_241_732_096, 0, 2048, 31_323_196_489_728),
    "mixtral-8x7b": (46_702_792_704, 12_879_925_248, 0, 2048, 54_417_235_640_320),
    "qwen2.5-7b": (7_615_616_512, 7_615_616_512, 0, 2048, 30_643_517_915_136),
    "qwen3-8b": (8_190_735_360, 8_190_735_360, 0, 2048, 33_472_827_621_376),
    "qwen3-30b-a3b": (30_532_122_624, 3_353_032_704, 0, 2048, 15_757_161_267_200),
    "deepseek-v2-lite": (15_706_484_224, 2_661_150_208, 0, 2048, 11_200_200_966_144),
    "deepseek_v3": (671_026_404_352, 37_552_282_624, 14_848, 2048, 170_973_789_683_712),
    "pythia-1.4b": (1_414_647_808, 1_414_647_808, 0, 2048, 6_194_416_582_656),
    "opt-1.3b": (1_315_758_080, 1_315_758_080, 0, 2048, 6_194_148_147_200),
    "bloom-7b1": (7_069_016_064, 7_069_016_064, 0, 2048, 31_009_663_877_120),
    "falcon-7b": (6_921_720_704, 6_921_720_704, 0, 2048, 30_789_681_020_928),
    "qwen1.5-moe-a2.7b": (14_315_784_192, 2_689_173_504, 0, 2048, 10_563_941_826_560),
    "gemma-2-9b": (9_241_705_984, 9_241_705_984, 0, 2048, 40_737_764_802_560),
    "gemma-3-1b": (999_885_952, 999_885_952, 0, 2048, 4_541_659_480_064),
    "phi-4": (14_659_507_200, 14_659_507_200, 0, 2048, 61_375_082_659_840),
    "starcoder2-7b": (7_173_923_840, 7_173_923_840, 0, 2048, 31_851_477_467_136),
    "olmo-2-7b": (7_298_617_344, 7_298_617_344, 0, 2048, 30_408_368_455_680),
    "granite-3.3-8b": (8_170_864_640, 8_170_864_640, 0, 2048, 36_215_281_680_384),
    "gpt-oss-20b": (20_914_757_184, 4_187_440_704, 0, 2048, 16_424_122_712_064),
    "glm-4.5": (352_797_814_784, 33_632_251_904, 14_240, 2048, 153_536_625_115_136),
}


@pytest.mark.parametrize("name", COUNTED)
def test_counts_of_the_real_classes(name: str) -> None:
    total, active, buffers, seq_len, flops = COUNTED[name]
    spec = shipped(name).spec
    counts = parameter_counts(spec)
    assert (counts.total, counts.active, counts.buffers) == (total, active, buffers)
    assert forward_flops(spec, seq_len).total == flops


@pytest.mark.parametrize(
    ("name", "seq_len", "full", "causal", "half"),
    [
        ("llama_7b", 2048, 29_261_612_187_648, 28_162_637_430_784, 28_162_100_559_872),
        ("llama-3-8b", 8192, 158_140_695_838_720, 140_550_657_277_952, 140_548_509_794_304),
        ("mixtral-8x7b", 4096, 113_232_517_791_744, 108_835_545_022_464, 108_834_471_280_640),
        ("deepseek_v3", 4096, 383_866_460_176_384, 341_957_813_469_184, 341_947_579_367_424),
    ],
)
def test_attention_conventions(name: str, seq_len: int, full: int, causal: int, half: int) -> None:
    conventions: list[AttentionConvention] = ["full", "causal", "half"]
    spec = shipped(name).spec
    assert [forward_flops(spec, seq_len, convention).total for convention in conventions] == [full, causal, half]


def test_one_llama_7b_layer() -> None:
    spec = shipped("llama_7b").spec
    assert layer_flops(spec.layers[0], spec.hidden_size, 2048, "full").total == 897_648_164_864


def test_full_attention_is_an_eighth_above_causal_on_llama_3_at_8192() -> None:
    spec = shipped("llama-3-8b").spec
    ratio = forward_flops(spec, 8192, "full").total / forward_flops(spec, 8192, "causal").total
    assert round(ratio - 1, 3) == 0.125


def test_positions_are_a_term_that_is_zero_under_rotary_embeddings() -> None:
    assert model_params(shipped("gpt2").spec)["embed_positions"] == 1024 * 768
    assert model_params(shipped("llama_7b").spec)["embed_positions"] == 0


def test_embedding_head_and_the_rest_make_the_total() -> None:
    for name in COUNTED:
        counts = parameter_counts(shipped(name).spec)
        assert counts.embedding + counts.head + counts.non_embedding == counts.total
    tied, untied = parameter_counts(shipped("llama-3.2-1b").spec), parameter_counts(shipped("llama_7b").spec)
    assert (tied.embedding, tied.head) == (128_256 * 2048, 0)
    assert (untied.embedding, untied.head) == (32_000 * 4096, 32_000 * 4096)


def test_training_is_forward_and_twice_that_for_backward() -> None:
    spec = shipped("llama_7b").spec
    flops = training_flops(spec, seq_len=2048, batch_size=3)
    assert flops.forward == 3 * 29_261_612_187_648
    assert flops.backward == 2 * flops.forward
    assert flops.recompute == flops.recompute_executed == 0
    assert flops.training_per_token * 3 * 2048 == flops.forward + flops.backward


def test_recomputation_by_the_textbook_and_as_executed() -> None:
    """Non-reentrant checkpointing of a Llama-7B layer executes 3.79 times forward, textbooks say 4."""
    spec = shipped("llama_7b").spec
    flops = training_flops(spec, seq_len=2048, checkpointing="full")
    layers = 32 * 897_648_164_864
    assert flops.recompute == layers
    down_projection = 2 * 2048 * 11008 * 4096
    assert flops.recompute_executed == layers - 32 * down_projection
    assert round((3 * layers + flops.recompute_executed) / layers, 2) == 3.79
    assert flops.hardware_flops == flops.model_flops + flops.recompute_executed


@pytest.mark.parametrize("name", ["gpt2", "mixtral-8x7b", "gemma-2-9b", "qwen1.5-moe-a2.7b", "ernie-4.5-21b-a3b"])
def test_what_follows_the_closing_projection_makes_recomputation_complete(name: str) -> None:
    """A dropout, router weights, a norm, a gate on the shared experts, routed experts after the shared ones."""
    spec = shipped(name).spec
    assert last_projection_flops(spec.layers[-1], layer_flops(spec.layers[-1], spec.hidden_size, 64, "full")) == 0


def test_multi_token_prediction_is_extra() -> None:
    """DeepSeek-V3's one layer: enorm, hnorm, projection, MoE layer, norm (arXiv:2412.19437, section 2.2)."""
    spec = shipped("deepseek_v3").spec
    h, moe_layer = 7168, 11_507_286_016
    assert parameter_counts(spec).mtp == 3 * h + 2 * h * h + moe_layer
    assert parameter_counts(spec, mtp=True).total == parameter_counts(spec).total + parameter_counts(spec).mtp
    without, with_mtp = (training_flops(spec, seq_len=64, mtp=mtp).forward for mtp in (False, True))
    assert with_mtp - without == mtp_flops(spec, 64).total
    assert mtp_flops(spec, 64)["mtp.0.lm_head"] == forward_flops(spec, 64)["lm_head"]


def test_kimi_k2_is_read_as_deepseek_v3_and_says_so() -> None:
    config = shipped("kimi-k2")
    assert (config.model_type, config.read_as) == ("kimi_k2", "deepseek_v3")
    assert config.transformers_class == "DeepseekV3ForCausalLM"


def test_a_sliding_window_counts_what_is_executed_and_what_its_mask_needs() -> None:
    """Gemma-3-1B at 2,048 tokens: 22 of 26 layers see 512 positions; PV and QK^T take 4 x 4 x 256 FLOPs a pair."""
    spec, seq_len, window = shipped("gemma-3-1b").spec, 2048, 512
    pairs = sum(min(position, window) for position in range(1, seq_len + 1))
    causal = sum(range(1, seq_len + 1))
    full, needed = (forward_flops(spec, seq_len, convention).total for convention in ("full", "causal"))
    assert full - needed == 4 * 4 * 256 * (26 * seq_len**2 - 22 * pairs - 4 * causal)
