"""Scaling laws in TOML: reading the shipped ones and a law of one's own, and writing one."""

from __future__ import annotations

import json
import math
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import cast

from analytic.errors import FileError, UsageError, listed
from analytic.io.files import configs_dir, read_toml
from analytic.io.keys import Derived, Keys
from analytic.io.located import located
from analytic.scaling.laws import ParamsConvention, ScalingLaw

_CONVENTIONS = ("total", "non_embedding")
_COEFFICIENTS = ("E", "A", "B", "alpha", "beta")
_LOGARITHMS = ("log_E", "log_A", "log_B")
_REQUIRED = ("citation", "alpha", "beta", "n_means", "d_means")
_MOST_COEFFICIENT = 1e12
_LEAST_EXPONENT, _MOST_EXPONENT = 1e-3, 10.0  # published ones are from 0.05 to 0.6
_LEAST_K, _MOST_K = 0.04, 5.0  # wider than what a fit may find


def load_laws(path: Path | None = None) -> dict[str, ScalingLaw]:
    """The laws of a TOML file by name; by default the shipped ones.

    Raises:
        FileError: naming the path, the entry, the key and what was expected.
    """
    path = path or _shipped_path()
    file = Keys(read_toml(path))
    laws = {}
    with located(path):
        file.allow(("laws",))
        tables = file.section("laws") or Keys({})
        for name in tables.config:
            with located(f"laws.{name}"):
                laws[name] = _law(name, tables.section(name) or Keys({}))
    return laws


def load_law(name: str) -> ScalingLaw:
    """A shipped law by its name, or the one law of a TOML file by its path.

    Raises:
        UsageError: no such law; the message lists those there are.
        FileError: a file that does not hold exactly one law, or one that is named like a shipped law.
    """
    shipped = load_laws()
    if name in shipped:
        return shipped[name]
    if not name.casefold().endswith(".toml"):
        raise UsageError(f"no scaling law {name!r}: expected one of {listed(shipped)}, or the path of a .toml file")
    laws = list(load_laws(Path(name)).values())
    if len(laws) != 1:
        raise FileError(f"{name}: expected one table [laws.NAME], not {len(laws)}")
    if laws[0].name in shipped:  # a plan shows both, and tells them apart by name
        raise FileError(f"{name}: laws.{laws[0].name}: expected a name that {_shipped_path()} has not")
    return laws[0]


def law_toml(law: ScalingLaw, comments: Iterable[str]) -> str:
    """The text of a law's file, its coefficients to the last bit.

    Raises:
        FileError: a law that the reader would refuse; names the key.
    """
    numbers = {"E": law.e, "A": law.a, "B": law.b, "alpha": law.alpha, "beta": law.beta, "k": law.k}
    texts = {"citation": law.citation, "n_means": law.n_means, "d_means": law.d_means}
    name = json.dumps(law.name)
    lines = [
        *(f"# {comment}" for comment in comments),
        f"[laws.{name}]",
        *(f"{key} = {value!r}" for key, value in numbers.items()),
        *(f"{key} = {json.dumps(value)}" for key, value in texts.items()),
        f"data_constrained = {json.dumps(law.data_constrained)}",
        "",
        f"[laws.{name}.fitted]",
        *(f"{quantity} = {list(bounds)!r}" for quantity, bounds in law.fitted.items()),
    ]
    text = "\n".join(lines) + "\n"
    _law(law.name, Keys(tomllib.loads(text)["laws"][law.name]))
    return text


def _shipped_path() -> Path:
    return configs_dir() / "scaling_laws.toml"


def custom_law(name: str, citation: str, keys: Keys) -> ScalingLaw:
    """A law from its bare coefficients E, A, B, alpha and beta; N is total parameters."""
    keys.require(_COEFFICIENTS, "law")
    return ScalingLaw(
        name=name,
        citation=citation,
        e=_coefficient(keys, "E"),
        a=_coefficient(keys, "A"),
        b=_coefficient(keys, "B"),
        alpha=keys.number("alpha", least=_LEAST_EXPONENT, most=_MOST_EXPONENT),
        beta=keys.number("beta", least=_LEAST_EXPONENT, most=_MOST_EXPONENT),
        n_means="total",
        d_means="tokens seen",
    )


def _law(name: str, keys: Keys) -> ScalingLaw:
    keys.require(_REQUIRED, "law")
    keys.allow((*_REQUIRED, *_COEFFICIENTS, *_LOGARITHMS, "k", "fitted", "data_constrained"))
    e, a, b = (_coefficient(keys, key) for key in ("E", "A", "B"))
    stated = keys.section("fitted") or Keys({})
    with located("fitted"):
        fitted = _ranges(stated)
    return ScalingLaw(
        name=name,
        citation=keys.text("citation"),
        e=e,
        a=a,
        b=b,
        alpha=keys.number("alpha", least=_LEAST_EXPONENT, most=_MOST_EXPONENT),
        beta=keys.number("beta", least=_LEAST_EXPONENT, most=_MOST_EXPONENT),
        n_means=cast(ParamsConvention, keys.text("n_means", among=_CONVENTIONS)),
        d_means=keys.text("d_means"),
        fitted=fitted,
        data_constrained=keys.flag("data_constrained", Derived(False, "a fit to single epochs")),
        k=keys.number("k", least=_LEAST_K, most=_MOST_K) if "k" in keys.config else 1.0,
    )


def _coefficient(keys: Keys, key: str) -> float:
    """A coefficient as printed, or from its logarithm: exactly one of the two."""
    if (key in keys.config) == (f"log_{key}" in keys.config):
        raise FileError(f"{key}: expected either {key} or log_{key}")
    if key in keys.config:  # a law may have no irreducible loss, but no optimum without both of the other terms
        return keys.number(key, least=0 if key == "E" else 1 / _MOST_COEFFICIENT, most=_MOST_COEFFICIENT)
    bound = math.log(_MOST_COEFFICIENT)
    return math.exp(keys.number(f"log_{key}", least=-bound, most=bound))


def _ranges(section: Keys) -> dict[str, tuple[float, float]]:
    section.allow(("params", "tokens", "flops"))
    ranges = {}
    for quantity, value in section.config.items():
        rising = "a list of two rising positive numbers"
        if type(value) is not list or len(value) != 2 or any(type(x) not in (int, float) for x in value):
            section.reject(quantity, value, rising)
        least, most = value
        if not 0 < least < most <= sys.float_info.max:  # an integer may be larger than any float
            section.reject(quantity, value, rising)
        ranges[quantity] = (float(least), float(most))
    return ranges
