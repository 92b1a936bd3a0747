"""Which canonical term a torch path stands for: one literal table per naming scheme.

Most families of `transformers` 5 use Llama's own names, which are the canonical ones. Several terms
may live in one tensor (GPT-2's fused `c_attn`): they are compared as their sum.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from analytic.huggingface.config import ModelConfig
from analytic.model.breakdown import Breakdown, Unit
from analytic.model.spec import POST_NORM, ModelSpec

JOIN = " + "
_INDEX = re.compile(r"\.\d+(?=\.|$)")


@dataclass(frozen=True, slots=True)
class Names:
    """A naming scheme: the prefix of the base model, what its list of layers is called, and both tables."""

    base: str
    layers: str
    around: Mapping[str, tuple[str, ...]]
    layer: Mapping[str, tuple[str, ...]]

    @property
    def layers_path(self) -> str:
        return f"{self.base}.{self.layers}" if self.base else self.layers


def _same(*names: str) -> dict[str, tuple[str, ...]]:
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
_QKV = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
_MTP_LAYER = _same("enorm", "hnorm", "eh_proj", "post_norm") | {
    f"mtp_block.{path}": (f"mtp_block.{path}",) for path in _CANONICAL_LAYER
}
_AROUND = _same("embed_tokens", "norm", "lm_head")

LLAMA = Names("model", "layers", _AROUND, _CANONICAL_LAYER)
OURS = Names("", "layers", _AROUND, _CANONICAL_LAYER)
MTP = Names("", "layers", {}, _MTP_LAYER)


def _like_llama(layer: Mapping[str, str | tuple[str, ...]], around: Mapping[str, str] | None = None) -> Names:
    """Llama's names but for those that are given, each with its term or terms."""
    renamed = {path: (terms,) if isinstance(terms, str) else terms for path, terms in layer.items()}
    of_model = {path: (term,) for path, term in (around or {}).items()}
    return Names("model", "layers", {**_AROUND, **of_model}, {**_CANONICAL_LAYER, **renamed})


# Norms after a network bear other names than GLM-4's.
_AFTER_BOTH = {
    "post_attention_layernorm": "post_self_attn_layernorm",
    "post_feedforward_layernorm": "post_mlp_layernorm",
}
_FUSED_FFN = {"mlp.gate_up_proj": ("mlp.gate_proj", "mlp.up_proj")}
_GPT = Names(
    "transformer",
    "h",
    {"wte": ("embed_tokens",), "wpe": ("embed_positions",), "ln_f": ("norm",), "lm_head": ("lm_head",)},
    {
        "ln_1": ("input_layernorm",),
        "ln_2": ("post_attention_layernorm",),
        "attn": ("self_attn",),
        "attn.c_attn": _QKV,
        "attn.c_proj": ("self_attn.o_proj",),
        "mlp.c_fc": ("mlp.up_proj",),
        "mlp.c_proj": ("mlp.down_proj",),
    },
)
_FALCON_LAYER = {  # BLOOM's names, and Falcon's for two norms beside each other
    "input_layernorm": ("input_layernorm",),
    "ln_attn": ("input_layernorm",),
    "post_attention_layernorm": ("post_attention_layernorm",),
    "ln_mlp": ("post_attention_layernorm",),
    "self_attention": ("self_attn",),
    "self_attention.query_key_value": _QKV,
    "self_attention.dense": ("self_attn.o_proj",),
    "mlp.dense_h_to_4h": ("mlp.up_proj",),
    "mlp.dense_4h_to_h": ("mlp.down_proj",),
}
_FALCON = Names(
    "transformer",
    "h",
    {
        "word_embeddings": ("embed_tokens",),
        "word_embeddings_layernorm": ("embedding_norm",),
        "ln_f": ("norm",),
        "lm_head": ("lm_head",),
    },
    _FALCON_LAYER,
)
_GPT_NEOX = Names(
    "gpt_neox",
    "layers",
    {"embed_in": ("embed_tokens",), "final_layer_norm": ("norm",), "lm_head": ("lm_head",)},
    {
        "input_layernorm": ("input_layernorm",),
        "post_attention_layernorm": ("post_attention_layernorm",),
        "attention": ("self_attn",),
        "attention.query_key_value": _QKV,
        "attention.dense": ("self_attn.o_proj",),
        "mlp.dense_h_to_4h": ("mlp.up_proj",),
        "mlp.dense_4h_to_h": ("mlp.down_proj",),
    },
)
_OPT = Names(
    "model.decoder",
    "layers",
    {
        "embed_tokens": ("embed_tokens",),
        "embed_positions": ("embed_positions",),
        "project_in": ("project_in",),
        "project_out": ("project_out",),
        "final_layer_norm": ("norm",),
        "lm_head": ("lm_head",),
    },
    {
        "self_attn": ("self_attn",),
        "self_attn.q_proj": ("self_attn.q_proj",),
        "self_attn.k_proj": ("self_attn.k_proj",),
        "self_attn.v_proj": ("self_attn.v_proj",),
        "self_attn.out_proj": ("self_attn.o_proj",),
        "self_attn_layer_norm": ("input_layernorm",),
        "fc1": ("mlp.up_proj",),
        "fc2": ("mlp.down_proj",),
        "final_layer_norm": ("post_attention_layernorm",),
    },
)
_GPTJ = Names(
    "transformer",
    "h",
    {"wte": ("embed_tokens",), "ln_f": ("norm",), "lm_head": ("lm_head",)},
    {
        "ln_1": ("input_layernorm",),
        "attn": ("self_attn",),
        "attn.q_proj": ("self_attn.q_proj",),
        "attn.k_proj": ("self_attn.k_proj",),
        "attn.v_proj": ("self_attn.v_proj",),
        "attn.qkv_proj": _QKV,  # CodeGen's
        "attn.out_proj": ("self_attn.o_proj",),
        "mlp.fc_in": ("mlp.up_proj",),
        "mlp.fc_out": ("mlp.down_proj",),
    },
)
_GPT_NEO = replace(
    _GPT,
    layer={
        **_GPT.layer,
        "attn.attention": ("self_attn",),
        "attn.attention.q_proj": ("self_attn.q_proj",),
        "attn.attention.k_proj": ("self_attn.k_proj",),
        "attn.attention.v_proj": ("self_attn.v_proj",),
        "attn.attention.out_proj": ("self_attn.o_proj",),
    },
)
_MPT = Names(
    "transformer",
    "blocks",
    {"wte": ("embed_tokens",), "norm_f": ("norm",), "lm_head": ("lm_head",)},
    {
        "norm_1": ("input_layernorm",),
        "norm_2": ("post_attention_layernorm",),
        "attn": ("self_attn",),
        "attn.Wqkv": _QKV,
        "attn.out_proj": ("self_attn.o_proj",),
        "ffn.up_proj": ("mlp.up_proj",),
        "ffn.down_proj": ("mlp.down_proj",),
    },
)
_OWN_QK_NORMS = {"self_attn.query_layernorm": "self_attn.q_norm", "self_attn.key_layernorm": "self_attn.k_norm"}
_GRANITE_MOE = {
    "block_sparse_moe.router": "mlp.gate",
    "block_sparse_moe.experts": "mlp.experts",
    "block_sparse_moe.experts.gate_up_proj": "mlp.experts.gate_up_proj",
    "block_sparse_moe.experts.down_proj": "mlp.experts.down_proj",
}
_OTHER: Mapping[str, Names] = {
    "bloom": _FALCON,
    "codegen": _GPTJ,
    "ernie4_5_moe": _like_llama({"mlp.gate.moe_statics.e_score_correction_bias": "mlp.gate.e_score_correction_bias"}),
    "exaone4": _like_llama(_AFTER_BOTH),
    "falcon": _FALCON,
    "gemma2": _like_llama({**_AFTER_BOTH, "pre_feedforward_layernorm": "post_attention_layernorm"}),
    "gemma3_text": _like_llama({**_AFTER_BOTH, "pre_feedforward_layernorm": "post_attention_layernorm"}),
    "glm": _like_llama(_FUSED_FFN),
    "glm4": _like_llama(_FUSED_FFN),
    "gpt-sw3": _GPT,
    "gpt2": _GPT,
    "gpt_bigcode": _GPT,
    "gpt_neo": _GPT_NEO,
    "gpt_neox": _GPT_NEOX,
    "gptj": _GPTJ,
    "gpt_oss": _like_llama({"mlp.router": "mlp.gate"}),
    "granitemoe": _like_llama(_GRANITE_MOE),
    "granitemoeshared": _like_llama(
        {
            **_GRANITE_MOE,
            "shared_mlp.input_linear": ("mlp.shared_experts.gate_proj", "mlp.shared_experts.up_proj"),
            "shared_mlp.output_linear": "mlp.shared_experts.down_proj",
        }
    ),
    "hunyuan_v1_dense": _like_llama(_OWN_QK_NORMS),
    "hunyuan_v1_moe": _like_llama(
        {
            **_OWN_QK_NORMS,
            "mlp.gate.wg": "mlp.gate",
            **{
                f"mlp.shared_mlp.{name}": f"mlp.shared_experts.{name}" for name in ("gate_proj", "up_proj", "down_proj")
            },
        }
    ),
    "minimax_m2": _like_llama({"mlp.e_score_correction_bias": "mlp.gate.e_score_correction_bias"}),
    "mpt": _MPT,
    "olmo2": _like_llama(_AFTER_BOTH),
    "olmo3": _like_llama(_AFTER_BOTH),
    "opt": _OPT,
    "persimmon": _like_llama(
        {
            "self_attn.query_key_value": _QKV,
            "self_attn.dense": "self_attn.o_proj",
            "self_attn.q_layernorm": "self_attn.q_norm",
            "self_attn.k_layernorm": "self_attn.k_norm",
            "mlp.dense_h_to_4h": "mlp.up_proj",
            "mlp.dense_4h_to_h": "mlp.down_proj",
        },
        {"final_layernorm": "norm"},
    ),
    "phi": _like_llama(
        {
            "self_attn.dense": "self_attn.o_proj",
            "self_attn.q_layernorm": "self_attn.q_norm",
            "self_attn.k_layernorm": "self_attn.k_norm",
            "mlp.fc1": "mlp.up_proj",
            "mlp.fc2": "mlp.down_proj",
        },
        {"final_layernorm": "norm"},
    ),
    "phi3": _like_llama({"self_attn.qkv_proj": _QKV, **_FUSED_FFN}),
    "phimoe": _like_llama({"mlp.router": "mlp.gate"}),
    "qwen2_moe": _like_llama(
        {f"mlp.shared_expert.{name}": f"mlp.shared_experts.{name}" for name in ("gate_proj", "up_proj", "down_proj")}
    ),
    "stablelm": _like_llama(
        {"self_attn.q_layernorm.norms.*": "self_attn.q_norm", "self_attn.k_layernorm.norms.*": "self_attn.k_norm"}
    ),
    "starcoder2": _like_llama({"mlp.c_fc": "mlp.up_proj", "mlp.c_proj": "mlp.down_proj"}),
    "xglm": replace(
        _OPT,
        base="model",
        around={"embed_tokens": ("embed_tokens",), "layer_norm": ("norm",), "lm_head": ("lm_head",)},
    ),
}
_POST_NORM_OPT = replace(
    _OPT,
    layer={
        **_OPT.layer,
        "self_attn_layer_norm": ("post_self_attn_layernorm",),
        "final_layer_norm": ("post_mlp_layernorm",),
    },
)


def names_of(config: ModelConfig) -> Names:
    """How the `transformers` class of a configuration calls its modules."""
    if config.read_as == "opt" and config.spec.layers[0].norm_slots == POST_NORM:
        return _POST_NORM_OPT
    return _OTHER.get(config.read_as, LLAMA)


@dataclass(frozen=True, slots=True)
class Term:
    """A canonical term, or several in one tensor; `layer` is None outside the layers."""

    layer: int | None
    name: str

    def under(self, layers: str) -> str:
        return self.name if self.layer is None else f"{layers}.{self.name}"


def term_of(path: str, names: Names) -> Term:
    """The term of a parameter, buffer or module path. One that the table lacks keeps its own path, and says so.

    >>> term_of("transformer.h.3.attn.c_proj.bias", _GPT)
    Term(layer=3, name='self_attn.o_proj.bias')
    >>> term_of("model.layers.0.self_attn.gate", LLAMA).name
    'model.layers.0.self_attn.gate (no such term)'
    """
    below = path.removeprefix(f"{names.base}.").removesuffix(".weight")
    suffix = ".bias" if below.endswith(".bias") else ""
    stem = below.removesuffix(suffix)
    layer, table = None, names.around
    if stem.startswith(f"{names.layers}."):
        _, index, stem = stem.split(".", 2) if stem.count(".") > 1 else (*stem.split("."), "")
        layer, table = int(index), names.layer
        stem = _INDEX.sub(".*", stem)
    terms = table.get(stem)
    if terms is None:
        return Term(None, f"{path} (no such term)")
    return Term(layer, JOIN.join(term + suffix for term in terms))


def by_run(unit: Unit, spec: ModelSpec, counted: Iterable[tuple[Term, int]]) -> Breakdown:
    """Counts of single layers, summed over each run of the spec's equal layers.

    A term that is not the same in every layer of a run stands under each layer's own index: it will
    match nothing, and so cannot hide in a sum.
    """
    runs = {i: run for run in spec.runs for i in run.indices}
    values: dict[Term, int] = {}
    for term, value in counted:
        values[term] = values.get(term, 0) + value
    total: dict[str, int] = {}
    for term, value in values.items():
        run = runs.get(term.layer) if term.layer is not None else None
        if run is None or any(values.get(Term(i, term.name)) != value for i in run.indices):
            key = term.under(f"layers.{term.layer}")
        else:
            key = term.under(f"layers.{run.label}")
        total[key] = total.get(key, 0) + value
    return Breakdown(unit, total)


def joined(formula: Breakdown, like: Breakdown) -> Breakdown:
    """The formula's terms, summed where `like` holds several in one."""
    terms = dict(formula.terms)
    for key in like:
        if JOIN in key:
            first, *rest = key.split(JOIN)
            prefix = first[: len(first) - len(first.split(".", 2)[2])] if first.startswith("layers.") else ""
            terms[key] = sum(terms.pop(part, 0) for part in (first, *(prefix + part for part in rest)))
    return Breakdown(formula.unit, terms)
