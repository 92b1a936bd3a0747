"""Which canonical term a torch path stands for: one literal table per naming scheme.

Most families of `transformers` 5 use Llama's own names, which are the canonical ones. Several terms
may live in one tensor (GPT-2's fused `c_attn`): they are compared as their sum.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from analytic.breakdown import Breakdown, Unit
from analytic.spec import ModelSpec

JOIN = " + "


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
    "self_attn",
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "self_attn.q_norm",
    "self_attn.k_norm",
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
    "mlp.experts.down_proj",
    "mlp.shared_experts.gate_proj",
    "mlp.shared_experts.up_proj",
    "mlp.shared_experts.down_proj",
)
_MTP_LAYER = _same("enorm", "hnorm", "eh_proj", "post_norm") | {
    f"mtp_block.{path}": (f"mtp_block.{path}",) for path in _CANONICAL_LAYER
}

LLAMA = Names("model", "layers", _same("embed_tokens", "norm", "lm_head"), _CANONICAL_LAYER)
OURS = Names("", "layers", LLAMA.around, _CANONICAL_LAYER)
GPT2 = Names(
    "transformer",
    "h",
    {"wte": ("embed_tokens",), "wpe": ("embed_positions",), "ln_f": ("norm",), "lm_head": ("lm_head",)},
    {
        "ln_1": ("input_layernorm",),
        "ln_2": ("post_attention_layernorm",),
        "attn": ("self_attn",),
        "attn.c_attn": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        "attn.c_proj": ("self_attn.o_proj",),
        "mlp.c_fc": ("mlp.up_proj",),
        "mlp.c_proj": ("mlp.down_proj",),
    },
)
MTP = Names("", "layers", {}, _MTP_LAYER)

BY_FAMILY: Mapping[str, Names] = dict.fromkeys(
    ("deepseek_v2", "deepseek_v3", "llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen3_moe"), LLAMA
) | {"gpt2": GPT2}


@dataclass(frozen=True, slots=True)
class Term:
    """A canonical term, or several in one tensor; `layer` is None outside the layers."""

    layer: int | None
    name: str

    def under(self, layers: str) -> str:
        return self.name if self.layer is None else f"{layers}.{self.name}"


def term_of(path: str, names: Names) -> Term:
    """The term of a parameter, buffer or module path. One that the table lacks keeps its own path, and says so.

    >>> term_of("transformer.h.3.attn.c_proj.bias", GPT2)
    Term(layer=3, name='self_attn.o_proj.bias')
    >>> term_of("model.layers.0.self_attn.sinks", LLAMA).name
    'model.layers.0.self_attn.sinks (no such term)'
    """
    below = path.removeprefix(f"{names.base}.").removesuffix(".weight")
    suffix = ".bias" if below.endswith(".bias") else ""
    stem = below.removesuffix(suffix)
    layer, table = None, names.around
    if stem.startswith(f"{names.layers}."):
        _, index, stem = stem.split(".", 2) if stem.count(".") > 1 else (*stem.split("."), "")
        layer, table = int(index), names.layer
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
