"""`ModelSpec` -> Hugging Face `config.json`, for the families that are designed here."""

from __future__ import annotations

from typing import Any

from analytic.errors import UnsupportedModelError
from analytic.model.spec import DenseFfn, GroupedQueryAttention, LayerSpec, ModelSpec, MoeFfn


def to_config(spec: ModelSpec, seq_len: int) -> dict[str, Any]:
    """The `config.json` of a designed model: `llama` if dense, `mixtral` if MoE.

    Every key that shapes the model is stated, so that no class default of `transformers` matters.
    `max_sequence_length` repeats `max_position_embeddings` for readers of the exercise's format.

    Raises:
        UnsupportedModelError: layers that differ, or kinds that neither family has.
    """
    layer, attention = spec.layers[0], spec.layers[0].attention
    if not isinstance(attention, GroupedQueryAttention):
        raise UnsupportedModelError("only grouped-query attention is written")
    family: dict[str, Any]
    plain: DenseFfn | MoeFfn
    match layer.ffn:
        case DenseFfn(intermediate_size=width):
            architecture, model_type = "LlamaForCausalLM", "llama"
            plain = DenseFfn(intermediate_size=width)
            family = {"intermediate_size": width, "attention_bias": False, "mlp_bias": False}
        case MoeFfn(num_experts=count, num_experts_per_token=chosen, expert_intermediate_size=width):
            architecture, model_type = "MixtralForCausalLM", "mixtral"
            plain = MoeFfn(num_experts=count, num_experts_per_token=chosen, expert_intermediate_size=width)
            family = {
                "intermediate_size": width,
                "num_local_experts": count,
                "num_experts_per_tok": chosen,
                "sliding_window": None,
            }
    if not _is_plain(spec, attention, plain):
        raise UnsupportedModelError(f"{model_type} configs are written of equal layers without biases or extras only")
    return {
        "architectures": [architecture],
        "model_type": model_type,
        "hidden_act": "silu",
        "hidden_size": spec.hidden_size,
        **family,
        "num_hidden_layers": len(spec.layers),
        "num_attention_heads": attention.num_heads,
        "num_key_value_heads": attention.num_kv_heads,
        "head_dim": attention.head_dim,
        "max_position_embeddings": seq_len,
        "max_sequence_length": seq_len,
        "rms_norm_eps": 1e-05,
        "rope_theta": 10000.0,
        "tie_word_embeddings": spec.tie_word_embeddings,
        "torch_dtype": "bfloat16",
        "vocab_size": spec.vocab_size,
    }


def _is_plain(spec: ModelSpec, attention: GroupedQueryAttention, ffn: DenseFfn | MoeFfn) -> bool:
    """Whether the written keys describe all of the model: what else it had would be lost."""
    bare = GroupedQueryAttention(
        num_heads=attention.num_heads, num_kv_heads=attention.num_kv_heads, head_dim=attention.head_dim
    )
    first = spec.layers[0]
    return first == LayerSpec(attention=bare, ffn=ffn) and spec == ModelSpec(
        hidden_size=spec.hidden_size,
        vocab_size=spec.vocab_size,
        layers=(first,) * len(spec.layers),  # the same object: tuples compare it by identity
        tie_word_embeddings=spec.tie_word_embeddings,
    )
