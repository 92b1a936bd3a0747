"""Scaling laws in TOML: reading the shipped ones and a law of one's own, and writing one."""

from __future__ import annotations

import json
import math
import sys
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import cast, get_args

from analytic.errors import FileError, UsageError, listed
from analytic.io.files import configs_dir, read_toml
from analytic.io.keys import Derived, Keys
from analytic.io.located import located
from analytic.scaling.forms import FORMS, FormName
from analytic.scaling.laws import AllocationLaw, Convention, Law, MoeLaw, Quantity, ScalingLaw
from analytic.scaling.posterior import Uncertainty

_CONVENTIONS = ("total", "non_embedding", "active")
_COEFFICIENTS = ("E", "A", "B", "alpha", "beta")
_LOGARITHMS = ("log_E", "log_A", "log_B")
_REQUIRED = ("citation", "alpha", "beta", "n_means", "d_means")
_OPTIONAL = ("k", "fitted", "data_constrained", "uncertainty", "compared")
MOE_EXPONENTS = ("alpha", "beta", "gamma", "delta", "zeta", "omega")
MOE_COEFFICIENTS = ("a", "b", "c", *MOE_EXPONENTS, "start", "most")
MOE_TESTED = (8, 32)  # experts, of the family that plans design and of what `law show` prints
_MOST_EXPERTS = 1e6
_UNCERTAINTY = ("form", "center", "sigma", "kappa", "largest_run_flops", "covariance")
_MOST_COEFFICIENT = 1e12
_MOST_DEVIATION = 1e15  # of a logarithm: no more than that a float holds what is made of it
_MOST_RUN_FLOPS = 1e40
_LEAST_EXPONENT, _MOST_EXPONENT = 1e-3, 10.0  # published ones are from 0.05 to 0.6
_LEAST_K, _MOST_K = 0.04, 5.0  # wider than what a fit may find


def load_all_laws(path: Path | None = None) -> dict[str, Law]:
    """The laws of a TOML file by name; by default the shipped ones.

    Raises:
        FileError: naming the path, the entry, the key and what was expected.
    """
    path = path or _shipped_path()
    file = Keys(read_toml(path))
    laws: dict[str, Law] = {}
    with located(path):
        file.allow(tuple(_TABLES))
        for table, read in _TABLES.items():
            tables = file.section(table) or Keys({})
            for name in tables.config:
                with located(f"{table}.{name}"):
                    if name in laws:
                        raise FileError("expected a name that no other law of the file has")
                    laws[name] = read(name, tables.section(name) or Keys({}))
    return laws


def load_laws(path: Path | None = None) -> dict[str, ScalingLaw]:
    """Those of them that give a loss from N and D alone."""
    return {name: law for name, law in load_all_laws(path).items() if isinstance(law, ScalingLaw)}


def compared_laws() -> list[ScalingLaw]:
    """The shipped ones that are shown next to another law."""
    return [law for law in load_laws().values() if law.is_compared]


def load_any_law(name: str) -> Law:
    """A shipped law by its name, or the one law of a TOML file by its path.

    Raises:
        UsageError: no such law; the message lists those there are.
        FileError: a file that does not hold exactly one law, or one that is named like a shipped law.
    """
    shipped = load_all_laws()
    if name in shipped:
        return shipped[name]
    if not name.casefold().endswith(".toml"):
        raise UsageError(f"no scaling law {name!r}: expected one of {listed(shipped)}, or the path of a .toml file")
    laws = list(load_all_laws(Path(name)).values())
    if len(laws) != 1:
        raise FileError(f"{name}: expected one table [laws.NAME], not {len(laws)}")
    if laws[0].name in shipped:  # a plan shows both, and tells them apart by name
        raise FileError(f"{name}: laws.{laws[0].name}: expected a name that {_shipped_path()} has not")
    return laws[0]


def load_law(name: str) -> ScalingLaw:
    """The same where a law is needed that gives a loss from N and D alone.

    Raises:
        UsageError: a law of another form, too.
    """
    law = load_any_law(name)
    if not isinstance(law, ScalingLaw):
        raise UsageError(f"{law.name} does not give a loss from N and D alone: expected one of {listed(load_laws())}")
    return law


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
        f"compared = {json.dumps(law.is_compared)}",
        "",
        f"[laws.{name}.fitted]",
        *(f"{quantity} = {list(bounds)!r}" for quantity, bounds in law.fitted.items()),
        *_uncertainty_lines(name, law.uncertainty),
    ]
    text = "\n".join(lines) + "\n"
    _law(law.name, Keys(tomllib.loads(text)["laws"][law.name]))
    return text


def _uncertainty_lines(name: str, uncertainty: Uncertainty | None) -> list[str]:
    if uncertainty is None:
        return []
    u = uncertainty
    return [
        "",
        f"[laws.{name}.uncertainty]",
        f"form = {json.dumps(u.form)}",
        f"center = {list(u.center)!r}",
        f"sigma = {u.sigma!r}",
        f"kappa = {u.kappa!r}",
        f"largest_run_flops = {u.largest_run_flops!r}",
        "covariance = [",
        *(f"  {list(row)!r}," for row in u.covariance),
        "]",
    ]


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
    keys.allow((*_REQUIRED, *_COEFFICIENTS, *_LOGARITHMS, *_OPTIONAL))
    e, a, b = (_coefficient(keys, key) for key in ("E", "A", "B"))
    uncertain = keys.section("uncertainty")
    with located("uncertainty"):
        uncertainty = None if uncertain is None else _uncertainty(uncertain)
    return ScalingLaw(
        name=name,
        citation=keys.text("citation"),
        e=e,
        a=a,
        b=b,
        alpha=keys.number("alpha", least=_LEAST_EXPONENT, most=_MOST_EXPONENT),
        beta=keys.number("beta", least=_LEAST_EXPONENT, most=_MOST_EXPONENT),
        n_means=_convention(keys),
        d_means=keys.text("d_means"),
        fitted=_fitted(keys, "params", "tokens", "flops"),
        data_constrained=keys.flag("data_constrained", Derived(False, "a fit to single epochs")),
        k=keys.number("k", least=_LEAST_K, most=_MOST_K) if "k" in keys.config else 1.0,
        uncertainty=uncertainty,
        is_compared=keys.flag("compared", Derived(True, "like any other law")),
    )


def _moe_law(name: str, keys: Keys) -> MoeLaw:
    required = ("citation", *MOE_COEFFICIENTS, "n_means", "d_means")
    keys.require(required, "law")
    keys.allow((*required, "fitted"))
    factors = {key: keys.number(key, least=0, most=_MOST_COEFFICIENT) for key in ("a", "b", "c")}
    exponents = {key: keys.number(key, least=-_MOST_EXPONENT, most=_MOST_EXPONENT) for key in MOE_EXPONENTS}
    start, most = (keys.number(key, least=1, most=_MOST_EXPERTS) for key in ("start", "most"))
    if start >= most:
        keys.reject("start", start, "a number below most")
    ranges = _fitted(keys, "params", "tokens", "flops", "experts")
    law = MoeLaw(
        name=name,
        citation=keys.text("citation"),
        **factors,
        **exponents,
        start=start,
        most=most,
        n_means=_convention(keys),
        d_means=keys.text("d_means"),
        fitted=ranges,
    )
    for experts in (1, *MOE_TESTED, int(min(ranges.get("experts", (1, 1))[1], _MOST_EXPERTS))):
        made = law.at(experts)
        is_law = all(1 / _MOST_COEFFICIENT <= factor <= _MOST_COEFFICIENT for factor in (made.a, made.b))
        if not is_law or not all(_LEAST_EXPONENT <= x <= _MOST_EXPONENT for x in (made.alpha, made.beta)):
            raise FileError(f"at {experts} experts: expected a loss that falls with N and D, as those of [laws] do")
    return law


def _allocation_law(name: str, keys: Keys) -> AllocationLaw:
    required = ("citation", "quantity", "coefficient", "exponent", "n_means", "d_means")
    keys.require(required, "law")
    keys.allow((*required, "fitted"))
    return AllocationLaw(
        name=name,
        citation=keys.text("citation"),
        quantity=cast(Quantity, keys.text("quantity", among=get_args(Quantity))),
        coefficient=keys.number("coefficient", most=_MOST_COEFFICIENT),
        exponent=keys.number("exponent", least=_LEAST_EXPONENT, most=1 - _LEAST_EXPONENT),
        n_means=keys.text("n_means"),
        d_means=keys.text("d_means"),
        fitted=_fitted(keys, "params", "tokens", "flops"),
    )


_TABLES: dict[str, Callable[[str, Keys], Law]] = {
    "laws": _law,
    "moe_laws": _moe_law,
    "allocation_laws": _allocation_law,
}


def _convention(keys: Keys) -> Convention:
    return cast(Convention, keys.text("n_means", among=_CONVENTIONS))


def _uncertainty(keys: Keys) -> Uncertainty:
    keys.require(_UNCERTAINTY, "law")
    keys.allow(_UNCERTAINTY)
    form = cast(FormName, keys.text("form", among=get_args(FormName)))
    size = FORMS[form].size
    x, y = _numbers(keys, "center", 2)
    rows = keys.config["covariance"]
    square = f"a list of {size} lists of {size} numbers, symmetric, none below 0 on the diagonal"
    if type(rows) is not list or len(rows) != size or not all(_are_numbers(row, size) for row in rows):
        keys.reject("covariance", rows, square)
    if any(rows[i][i] < 0 or not _are_close(rows[i][j], rows[j][i]) for i in range(size) for j in range(size)):
        keys.reject("covariance", rows, square)
    return Uncertainty(
        form=form,
        center=(x, y),
        covariance=tuple(tuple(map(float, row)) for row in rows),
        sigma=keys.number("sigma", least=0, most=_MOST_DEVIATION),
        kappa=keys.number("kappa", least=1, most=_MOST_DEVIATION),
        largest_run_flops=keys.number("largest_run_flops", least=1, most=_MOST_RUN_FLOPS),
    )


def _are_close(one: float, other: float) -> bool:
    """Whether two entries of an inverse, which rounding makes differ, are one."""
    return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-12)


def _numbers(keys: Keys, key: str, length: int) -> list[float]:
    value = keys.config[key]
    if not _are_numbers(value, length):
        keys.reject(key, value, f"a list of {length} numbers of at most {_MOST_DEVIATION:g}")
    return [float(item) for item in value]


def _are_numbers(value: object, length: int) -> bool:
    """Whether a value is a list of so many numbers that a float holds, squares and sums of them, too."""
    if type(value) is not list or len(value) != length:
        return False
    return all(type(item) in (int, float) and abs(item) <= _MOST_DEVIATION for item in value)


def _coefficient(keys: Keys, key: str) -> float:
    """A coefficient as printed, or from its logarithm: exactly one of the two."""
    if (key in keys.config) == (f"log_{key}" in keys.config):
        raise FileError(f"{key}: expected either {key} or log_{key}")
    if key in keys.config:  # a law may have no irreducible loss, but no optimum without both of the other terms
        return keys.number(key, least=0 if key == "E" else 1 / _MOST_COEFFICIENT, most=_MOST_COEFFICIENT)
    bound = math.log(_MOST_COEFFICIENT)
    return math.exp(keys.number(f"log_{key}", least=-bound, most=bound))


def _fitted(keys: Keys, *quantities: str) -> dict[str, tuple[float, float]]:
    """The ranges of the fitted runs, as far as they are stated."""
    section = keys.section("fitted") or Keys({})
    with located("fitted"):
        return _ranges(section, quantities)


def _ranges(section: Keys, quantities: tuple[str, ...]) -> dict[str, tuple[float, float]]:
    section.allow(quantities)
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
