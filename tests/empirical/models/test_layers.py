"""Our layers run, and with the same weights compute what the `transformers` model computes, gradients included."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from analytic.errors import UnsupportedModelError
from analytic.huggingface.config import ModelConfig
from empirical.models import build
from empirical.models.layers import GqaAttention, MlaAttention
from tests.configurations import parsed, shipped

SEQ_LEN = 24
DENSE = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 101,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
}
LATENT = DENSE | {
    "num_key_value_heads": 4,
    "num_hidden_layers": 3,
    "q_lora_rank": 24,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 12,
    "qk_rope_head_dim": 8,
    "v_head_dim": 20,
    "n_routed_experts": 8,
    "num_experts_per_tok": 3,
    "n_shared_experts": 2,
    "moe_intermediate_size": 40,
    "first_k_dense_replace": 1,
}
GROUPS = {"n_group": 4, "topk_group": 2}
MODELS: dict[str, dict[str, Any]] = {
    "llama": DENSE | {"model_type": "llama"},
    "llama, biases, head_dim, theta": DENSE
    | {"model_type": "llama", "attention_bias": True, "mlp_bias": True, "head_dim": 24, "rope_theta": 5e5},
    "llama, tied, gelu": DENSE | {"model_type": "llama", "tie_word_embeddings": True, "hidden_act": "gelu"},
    "llama, gelu_new": DENSE | {"model_type": "llama", "hidden_act": "gelu_new"},
    "llama, relu2": DENSE | {"model_type": "llama", "hidden_act": "relu2"},
    "mixtral, quick_gelu": DENSE
    | {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2, "hidden_act": "quick_gelu"},
    "mistral, window": DENSE | {"model_type": "mistral", "sliding_window": 5},
    "qwen2": DENSE | {"model_type": "qwen2"},
    "qwen2, windows in the last layer": DENSE
    | {"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1},
    "qwen3": DENSE | {"model_type": "qwen3", "head_dim": 32, "attention_bias": True},
    "mixtral": DENSE | {"model_type": "mixtral", "num_local_experts": 6, "num_experts_per_tok": 2},
    "mixtral, widths that grouped_mm refuses": DENSE
    | {"model_type": "mixtral", "num_local_experts": 6, "num_experts_per_tok": 2, "intermediate_size": 37},
    "qwen3_moe": DENSE
    | {"model_type": "qwen3_moe", "num_experts": 8, "num_experts_per_tok": 3, "moe_intermediate_size": 40}
    | {"norm_topk_prob": True, "decoder_sparse_step": 2},
    "qwen3_moe, weights not normalized": DENSE
    | {"model_type": "qwen3_moe", "num_experts": 8, "num_experts_per_tok": 3, "moe_intermediate_size": 40},
    "deepseek_v2, direct queries": LATENT | {"model_type": "deepseek_v2", "q_lora_rank": None},
    "deepseek_v2, groups": LATENT
    | GROUPS
    | {"model_type": "deepseek_v2", "topk_method": "group_limited_greedy", "routed_scaling_factor": 16.0},
    "deepseek_v3, groups": LATENT | GROUPS | {"model_type": "deepseek_v3", "routed_scaling_factor": 2.5},
    "deepseek_v3, halves rotated": LATENT | GROUPS | {"model_type": "deepseek_v3", "rope_interleave": False},
    "kimi_k2, biases": LATENT | {"model_type": "kimi_k2", "n_group": 1, "topk_group": 1, "attention_bias": True},
}


def both(config: ModelConfig, attention: build.AttentionImplementation) -> tuple[nn.Module, nn.Module]:
    """The real model and ours with its weights, fp32 on the CPU."""
    torch.manual_seed(0)
    real = build.transformers_model(config, attention=attention, device="cpu", dtype=torch.float32)
    for parameter in real.parameters():
        nn.init.normal_(parameter, std=0.1)
    for name, buffer in real.named_buffers():
        if name.endswith("e_score_correction_bias"):
            nn.init.normal_(buffer, std=0.1)
    ours = build.our_model(config, device="cpu", dtype=torch.float32)
    weights = {name.removeprefix("model."): tensor for name, tensor in real.state_dict().items()}
    ours.load_state_dict(weights)
    for module in ours.modules():
        if isinstance(module, GqaAttention | MlaAttention):
            module.eager = attention == "eager"
    return build.TransformersModel(real), ours


def logits_and_gradients(model: nn.Module, ids: Tensor, direction: Tensor, prefix: str) -> dict[str, Tensor]:
    logits = model(ids)
    logits.backward(direction)
    gradients = {name.removeprefix(prefix): p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {"logits": logits.detach(), **gradients}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", MODELS)
def test_same_weights_give_the_same_logits_and_gradients(name: str, attention: build.AttentionImplementation) -> None:
    config = parsed(MODELS[name])
    real, ours = both(config, attention)
    ids = torch.randint(0, config.spec.vocab_size, (2, SEQ_LEN))
    direction = torch.randn(2, SEQ_LEN, config.spec.vocab_size)
    expected = logits_and_gradients(real, ids, direction, "model.model.")
    expected = {key.removeprefix("model."): value for key, value in expected.items()}
    found = logits_and_gradients(ours, ids, direction, "")
    assert found.keys() == expected.keys()
    assert len(found) == 1 + sum(1 for _ in ours.parameters())
    for key, value in expected.items():
        error = (found[key] - value).norm() / value.norm()
        assert error < 2e-5, (key, float(error))  # fp32 rounding, through three layers and back


def test_an_activation_that_our_layers_lack_is_named() -> None:
    with pytest.raises(UnsupportedModelError, match="activation 'mish': our layers have silu"):
        build.our_model(parsed(DENSE | {"model_type": "llama", "hidden_act": "mish"}))


def test_only_real_widths_take_the_grouped_product() -> None:
    assert build.experts_implementation(shipped("mixtral-8x7b").spec, torch.bfloat16) == "grouped_mm"
    odd = parsed(MODELS["mixtral, widths that grouped_mm refuses"])
    assert build.experts_implementation(odd.spec, torch.bfloat16) == "batched_mm"
