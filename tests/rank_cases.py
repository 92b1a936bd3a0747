"""Random ranks of random layouts of random small models, one strategy for each kind of parallelism."""

from __future__ import annotations

from typing import Any, get_args

from hypothesis import strategies as st

from analytic.model.training import TrainingSetup
from analytic.parallelism.layout import Layout
from analytic.parallelism.parameters import Family
from empirical.models.distributed import RankCase
from tests.configurations import parsed

FAMILIES: tuple[Family, ...] = get_args(Family)
WITH_EXPERTS: tuple[Family, ...] = ("mixtral", "qwen3_moe", "deepseek_v2", "deepseek_v3")
MANY = (2, 3, 5, 7, 8, 64, 200, 512)  # the last ones leave many ranks without a row of their own


@st.composite
def data_ranks(draw: st.DrawFn) -> RankCase:
    """FSDP and HSDP: odd widths, uneven and empty shards, tied embeddings, one or two micro-batches."""
    family = draw(st.sampled_from(FAMILIES))
    dp_replicate = draw(st.sampled_from((1, 1, 2, 3)))
    dp_shard = draw(st.sampled_from(MANY if dp_replicate == 1 else (1, *MANY)))
    return _case(draw, family, dp_shard=dp_shard, dp_replicate=dp_replicate)


@st.composite
def tensor_ranks(draw: st.DrawFn) -> RankCase:
    """Tensor parallelism, alone and with FSDP and HSDP; vocabularies that it does not divide."""
    family = draw(st.sampled_from(FAMILIES))
    tp = draw(st.sampled_from((2, 3, 4, 8)))
    dp_shard, dp_replicate = draw(st.sampled_from((1, 2, 3, 8))), draw(st.sampled_from((1, 2)))
    return _case(draw, family, dp_shard=dp_shard, dp_replicate=dp_replicate, tp=tp)


@st.composite
def expert_ranks(draw: st.DrawFn) -> RankCase:
    """Expert parallelism, alone, with FSDP among the ranks that share experts, and with tensor parallelism."""
    family = draw(st.sampled_from(WITH_EXPERTS))
    tp = draw(st.sampled_from((1, 1, 2, 4)))
    ep = tp * draw(st.sampled_from((1, 2, 4) if tp > 1 else (2, 4, 8)))
    efsdp = draw(st.sampled_from((1, 2, 3, 8)))
    dp_replicate = draw(st.sampled_from((1, 1, 2)))
    return _case(draw, family, dp_shard=ep * efsdp // tp, dp_replicate=dp_replicate, tp=tp, ep=ep)


def _case(draw: st.DrawFn, family: Family, *, dp_shard: int, dp_replicate: int, tp: int = 1, ep: int = 1) -> RankCase:
    keys = _keys(draw, family, tp, ep)
    types = ["mixed", "bf16", "fp32"] if dp_shard * dp_replicate > 1 else ["bf16", "fp32"]
    chosen = draw(st.sampled_from(types))
    layout = Layout(
        dp_shard=dp_shard,
        dp_replicate=dp_replicate,
        tp=tp,
        ep=ep,
        micro_batches=draw(st.sampled_from((1, 1, 2))),
        reshard_after_forward=draw(st.sampled_from((True, True, False))),
        mixed_precision=chosen == "mixed",
    )
    setup = TrainingSetup(
        # under token dispatch the routed rows are shared out evenly: two experts a token
        seq_len=8 * ep * draw(st.integers(1, 3)),
        micro_batch=draw(st.integers(1, 2)),
        precision="fp32" if chosen == "fp32" else "bf16",
        optimizer="adamw_foreach",
        checkpointing=draw(st.sampled_from(("none", "full"))),
        attention_kernel="eager" if chosen == "fp32" else "efficient",
    )
    return RankCase(parsed(keys), setup, layout, draw(st.integers(0, layout.num_gpus - 1)))


def _keys(draw: st.DrawFn, family: Family, tp: int, ep: int) -> dict[str, Any]:
    """Sizes that tensor parallelism cuts are multiples of it; experts' are multiples of 8 on every rank."""
    kv_heads, groups = tp * draw(st.integers(1, 2)), draw(st.integers(1, 2))
    has_experts = family in WITH_EXPERTS
    unit = 8 if has_experts else 2
    heads = kv_heads * groups
    keys: dict[str, Any] = {
        "model_type": family,
        "num_hidden_layers": draw(st.integers(1, 3)),
        "hidden_size": heads * unit * draw(st.integers(1, 3)),
        "intermediate_size": tp * (8 * draw(st.integers(1, 3)) if family == "mixtral" else draw(st.integers(3, 40))),
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": draw(st.integers(3 * tp, 120)),
        "max_position_embeddings": 512,
        "sliding_window": None,
        "tie_word_embeddings": draw(st.booleans()),
        "pad_token_id": None,
    }
    if has_experts:
        keys |= _experts(draw, family, tp, ep)
    if family.startswith("deepseek"):
        return keys | _latent(draw, heads, keys["num_hidden_layers"])
    if family == "llama":
        keys |= {"attention_bias": draw(st.booleans()), "mlp_bias": draw(st.booleans())}
    if family in ("qwen3", "qwen3_moe"):
        keys |= {"head_dim": 2 * draw(st.integers(1, 9)), "attention_bias": draw(st.booleans())}
    return keys


def _experts(draw: st.DrawFn, family: Family, tp: int, ep: int) -> dict[str, Any]:
    name = {"mixtral": "num_local_experts", "qwen3_moe": "num_experts"}.get(family, "n_routed_experts")
    width = 8 * draw(st.integers(1, 3)) * (tp if ep == 1 else 1)
    return {name: ep * draw(st.integers(2, 5)), "num_experts_per_tok": 2, "moe_intermediate_size": width}


def _latent(draw: st.DrawFn, heads: int, layers: int) -> dict[str, Any]:
    return {
        "num_key_value_heads": heads,
        "q_lora_rank": draw(st.one_of(st.none(), st.integers(3, 30))),
        "kv_lora_rank": 2 * draw(st.integers(2, 15)),  # complex rotary tables want even strides in fp32
        "qk_nope_head_dim": 2 * draw(st.integers(1, 6)),
        "qk_rope_head_dim": 2 * draw(st.integers(1, 6)),
        "v_head_dim": draw(st.integers(1, 12)),
        "n_shared_experts": draw(st.integers(1, 2)),
        "first_k_dense_replace": draw(st.integers(0, layers - 1)),
        "n_group": 1,
        "topk_group": 1,
        "attention_bias": draw(st.booleans()),
    }
