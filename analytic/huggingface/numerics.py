"""What changes outputs and no count: epsilons, activations, rotary embeddings, dropouts."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from analytic.io.keys import Derived, Keys
from analytic.model.spec import Numerics, Routing

# What `transformers` knows by name (modeling_rope_utils.py, activations.py); it fails on any other.
ROTARY_TYPES = ("default", "dynamic", "linear", "llama3", "longrope", "proportional", "yarn")
ACTIVATIONS = (
    *("gelu", "gelu_10", "gelu_accurate", "gelu_fast", "gelu_new", "gelu_python", "gelu_python_tanh"),
    *("gelu_pytorch_tanh", "hardswish", "laplace", "leaky_relu", "linear", "mish", "quick_gelu", "relu", "relu2"),
    *("relu6", "sigmoid", "silu", "swish", "tanh"),
)


def dropout(keys: Keys, key: str, absent: float) -> bool:
    """Whether a dropout is on, by its probability."""
    value = keys.config.get(key, absent)
    if type(value) not in (int, float) or not 0 <= value < 1:
        keys.reject(key, value, "a number from 0 to below 1")
    return bool(value > 0)


def stated_activation(keys: Keys, absent: str, *, where: str) -> str:
    """`activation_function`, as GPT-2 and those after it spell it."""
    return keys.unreported().text("activation_function", Derived(absent, where), among=ACTIVATIONS)


def numerics(
    keys: Keys,
    *,
    where: str,
    eps: float = 1e-6,
    eps_key: str = "rms_norm_eps",
    theta: float = 10_000.0,
    act: str = "silu",
    act_key: str = "hidden_act",
    rope_interleaved: bool = False,
    rope_types: Collection[str] = ROTARY_TYPES,
    rope_spellings: Mapping[str, str] | None = None,
    routing: Routing | None = None,
) -> Numerics:
    """Epsilon, activation and rotary base; `rope_parameters` (transformers 5) before the older keys.

    `rope_types`: the kinds of rotary scaling that the family's class takes, `rope_spellings` other names of them.
    """
    keys = keys.unreported()
    theta, rope_type = keys.number("rope_theta", Derived(theta, where)), "default"
    for key in ("rope_scaling", "rope_parameters"):
        if (scaling := keys.section(key)) is not None:
            rope_type = _rope_type(scaling, rope_types, rope_spellings or {})
            theta = scaling.number("rope_theta", Derived(theta, where))
    return Numerics(
        norm_eps=keys.number(eps_key, Derived(eps, where)),
        rope_theta=theta,
        rope_type=rope_type,
        rope_interleaved=rope_interleaved,
        activation=keys.text(act_key, Derived(act, where), among=ACTIVATIONS),
        routing=routing or Routing(),
    )


# What each kind of rotary scaling must state, and what it may (transformers, modeling_rope_utils.py).
_NUMBERS: Mapping[str, Collection[str]] = {
    "dynamic": ("factor",),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor"),
    "yarn": ("factor",),
}
_OPTIONAL_NUMBERS: Mapping[str, Collection[str]] = {
    "longrope": ("attention_factor", "factor", "long_mscale", "short_mscale"),
    "yarn": ("attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim"),
}
_NOT_NULL: Mapping[str, Collection[str]] = {
    **dict.fromkeys(("llama3", "longrope", "yarn"), ("rope_theta", "original_max_position_embeddings")),
    "proportional": ("rope_theta", "factor"),
}


def _rope_type(scaling: Keys, types: Collection[str], spellings: Mapping[str, str]) -> str:
    """The kind of rotary scaling, and whether it states what it needs; also where each kind of layer has its own."""
    for kind in ("full_attention", "sliding_attention"):
        if (of_kind := scaling.section(kind)) is not None:
            _rope_type(of_kind, types, spellings)
    rope_type = "default"
    for key in ("type", "rope_type"):
        if key in scaling.config:
            stated = scaling.text(key, among=(*types, *spellings))
            rope_type = spellings.get(stated, stated)
    _check_scaling(scaling, rope_type)
    return rope_type


def _check_scaling(scaling: Keys, rope_type: str) -> None:
    for key in _NUMBERS.get(rope_type, ()):
        scaling.number(key)
    for key in _OPTIONAL_NUMBERS.get(rope_type, ()):
        scaling.number(key, Derived(1.0, "none stated"), least=0)
    for key in ("short_factor", "long_factor"):
        if rope_type == "longrope" or key in scaling.config:
            scaling.numbers(key)
    for key in _NOT_NULL.get(rope_type, ("rope_theta",)):
        if key in scaling.config:
            scaling.number(key)
    if "partial_rotary_factor" in scaling.config:
        scaling.number("partial_rotary_factor", most=1)


def layer_norm_numerics(keys: Keys, where: str, eps_key: str = "layer_norm_eps", **options: Any) -> Numerics:
    return numerics(keys, where=where, eps=1e-5, eps_key=eps_key, **options)
