"""`ModelSpec` -> Hugging Face `config.json`, for the families that are designed here."""

from __future__ import annotations

from typing import Any

from analytic.errors import UnsupportedModelError
from analytic.spec import DenseFfn, GroupedQueryAttention, ModelSpec, MoeFfn


def to_config(spec: ModelSpec, seq_len: int) -> dict[str, Any]:
    """The `config.json` of a designed model: `llama` if dense, `mixtral` if MoE.

    Every key that shapes the model is stated, so that no class default of `transformers` matters.
    `max_sequence_length` repeats `max_position_embeddings` for readers of the exercise's format.

    Raises:
        UnsupportedModelError: layers that differ, or kinds that neither family has.
    """
    layers = set(spec.layers)
    if len(layers) != 1 or spec.num_positions or spec.mtp_layers:
        raise UnsupportedModelError("only a model of equal layers, rotary embeddings and no extras is written")
    layer = layers.pop()
    if not isinstance(layer.attention, GroupedQueryAttention):
        raise UnsupportedModelError("only grouped-query attention is written")
    match layer.ffn:
        case DenseFfn(intermediate_size=width):
            architecture, model_type = "LlamaForCausalLM", "llama"
            family: dict[str, Any] = {"intermediate_size": width, "attention_bias": False, "mlp_bias": False}
        case MoeFfn(expert_intermediate_size=width):
            architecture, model_type = "MixtralForCausalLM", "mixtral"
            family = {
                "intermediate_size": width,
                "num_local_experts": layer.ffn.num_experts,
                "num_experts_per_tok": layer.ffn.num_experts_per_token,
                "sliding_window": None,
            }
    return {
        "architectures": [architecture],
        "model_type": model_type,
        "hidden_act": "silu",
        "hidden_size": spec.hidden_size,
        **family,
        "num_hidden_layers": len(spec.layers),
        "num_attention_heads": layer.attention.num_heads,
        "num_key_value_heads": layer.attention.num_kv_heads,
        "head_dim": layer.attention.head_dim,
        "max_position_embeddings": seq_len,
        "max_sequence_length": seq_len,
        "rms_norm_eps": 1e-05,
        "rope_theta": 10000.0,
        "tie_word_embeddings": spec.tie_word_embeddings,
        "torch_dtype": "bfloat16",
        "vocab_size": spec.vocab_size,
    }
