"""What changes outputs and no count: epsilons, activations, rotary embeddings, dropouts."""

from __future__ import annotations

from collections.abc import Mapping
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
    rope_spellings: Mapping[str, str] | None = None,
    routing: Routing | None = None,
) -> Numerics:
    """Epsilon, activation and rotary base; `rope_parameters` (transformers 5) before the older keys.

    `rope_spellings`: other names of rotary scaling that the family's class takes.
    """
    keys = keys.unreported()
    base, scaling = keys, keys.section("rope_scaling")
    if (parameters := keys.section("rope_parameters")) is not None:
        base = scaling = parameters
    rope_type = "default"
    if scaling is not None:
        key = "rope_type" if "rope_type" in scaling.config else "type"
        spellings = rope_spellings or {}
        names = (*ROTARY_TYPES, *spellings)
        rope_type = scaling.text(key, Derived("default", "no rotary scaling named"), among=names)
        rope_type = spellings.get(rope_type, rope_type)
    return Numerics(
        norm_eps=keys.number(eps_key, Derived(eps, where)),
        rope_theta=base.number("rope_theta", Derived(theta, where)),
        rope_type=rope_type,
        rope_interleaved=rope_interleaved,
        activation=keys.text(act_key, Derived(act, where), among=ACTIVATIONS),
        routing=routing or Routing(),
    )


def layer_norm_numerics(keys: Keys, where: str, eps_key: str = "layer_norm_eps", **options: Any) -> Numerics:
    return numerics(keys, where=where, eps=1e-5, eps_key=eps_key, **options)
