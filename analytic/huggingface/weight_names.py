"""How a `transformers` class names its modules, and which canonical terms each holds.

Most families of `transformers` 5 use Llama's own names, which are the canonical ones. Several terms may be one
tensor (GPT-2's fused `c_attn`). A family whose names differ states its table in its own file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

Terms = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Names:
    """A naming scheme.

    Attributes:
        base: the prefix of the base model. layers: what its list of layers is called.
        around, layer: the terms of each module outside of the layers, and in one; an index is spelled `*`.
    """

    base: str
    layers: str
    around: Mapping[str, Terms]
    layer: Mapping[str, Terms]

    @property
    def layers_path(self) -> str:
        return f"{self.base}.{self.layers}" if self.base else self.layers


def _as_terms(table: Mapping[str, str | Terms]) -> dict[str, Terms]:
    return {path: (terms,) if isinstance(terms, str) else terms for path, terms in table.items()}


def _same(*names: str) -> dict[str, Terms]:
    return {name: (name,) for name in names}


_CANONICAL_LAYER = _same(
    "input_layernorm",
    "post_attention_layernorm",
    "post_self_attn_layernorm",
    "post_mlp_layernorm",
    "self_attn",
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "self_attn.q_norm",
    "self_attn.k_norm",
    "self_attn.sinks",
    "self_attn.q_a_proj",
    "self_attn.q_a_layernorm",
    "self_attn.q_b_proj",
    "self_attn.kv_a_proj_with_mqa",
    "self_attn.kv_a_layernorm",
    "self_attn.kv_b_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
    "mlp.gate",
    "mlp.gate.e_score_correction_bias",
    "mlp.experts",
    "mlp.experts.gate_up_proj",
    "mlp.experts.gate_up_proj_bias",
    "mlp.experts.down_proj",
    "mlp.experts.down_proj_bias",
    "mlp.shared_expert_gate",
    "mlp.shared_experts.gate_proj",
    "mlp.shared_experts.up_proj",
    "mlp.shared_experts.down_proj",
)
_MTP_LAYER = _same("enorm", "hnorm", "eh_proj", "post_norm", *(f"mtp_block.{path}" for path in _CANONICAL_LAYER))
_AROUND = _same("embed_tokens", "norm", "lm_head")

LLAMA = Names("model", "layers", _AROUND, _CANONICAL_LAYER)
OURS = Names("", "layers", _AROUND, _CANONICAL_LAYER)
MTP = Names("", "layers", {}, _MTP_LAYER)

# Tensors of several terms, and names that several families share.
QKV = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
FUSED_FFN = {"mlp.gate_up_proj": ("mlp.gate_proj", "mlp.up_proj")}
NORMS_AFTER = {
    "post_attention_layernorm": "post_self_attn_layernorm",
    "post_feedforward_layernorm": "post_mlp_layernorm",
}


def scheme(base: str, layers: str, around: Mapping[str, str | Terms], layer: Mapping[str, str | Terms]) -> Names:
    """A naming scheme; a module of one term is stated without a tuple."""
    return Names(base, layers, _as_terms(around), _as_terms(layer))


def renamed(names: Names, layer: Mapping[str, str | Terms], around: Mapping[str, str | Terms] | None = None) -> Names:
    """Another family's names but for those that are given."""
    return replace(names, layer={**names.layer, **_as_terms(layer)}, around={**names.around, **_as_terms(around or {})})
