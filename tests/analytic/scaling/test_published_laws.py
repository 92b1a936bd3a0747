"""Published laws of other forms against the figures that their authors print, and what a file of one must have."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from analytic.errors import PlannerError
from analytic.scaling.law_file import compared_laws, load_all_laws, load_any_law, load_law, load_laws
from analytic.scaling.laws import AllocationLaw, MoeLaw
from analytic.scaling.optimum import closed_form

LAWS = load_all_laws()


def test_kaplan_s_law_is_a_coupled_one() -> None:
    """[(N_c / N)^(alpha_N / alpha_D) + D_c / D]^alpha_D, with the constants of its table 2."""
    law = load_law("kaplan")
    assert law.loss(1e9, 2e10) == pytest.approx(2.373882448, rel=5e-10)
    for n, d in ((1e6, 1e9), (1.5e9, 23e9)):
        assert law.loss(n, d) == pytest.approx(((6.4e13 / n) ** (0.076 / 0.103) + 1.8e13 / d) ** 0.103, rel=1e-12)


def test_a_law_of_another_d_is_not_compared_unasked() -> None:
    assert "kaplan" in load_laws()
    assert [law.name for law in compared_laws()] == [
        "exercise",
        "hoffmann",
        "hoffmann-full",
        "besiroglu",
        "muennighoff",
    ]


def moe() -> MoeLaw:
    law = LAWS["ludziejewski"]
    assert isinstance(law, MoeLaw)
    return law


# Table 4: m, mu, n, nu of L = m N^mu + n D^nu + c, fitted for each number of experts together.
TABLE_4 = {
    1: (30.3640, -0.1817, 53.9838, -0.1965),
    8: (21.8330, -0.1676, 119.9126, -0.2338),
    32: (16.5424, -0.1557, 234.6726, -0.2652),
}
# Table 1: (C, experts, N, D), as printed.
TABLE_1 = [(1e20, 1, 1.7e9, 9.7e9), (1e20, 32, 669e6, 24.9e9), (1e22, 1, 18.8e9, 88.6e9), (1e22, 32, 12.2e9, 136.9e9)]


@pytest.mark.parametrize("experts", TABLE_4)
def test_the_law_of_models_with_experts_has_its_published_coefficients(experts: int) -> None:
    """To what the rounding of the eleven printed numbers leaves: 4 digits of the exponents, 1% of the factors."""
    m, mu, n, nu = TABLE_4[experts]
    law = moe().at(experts)
    assert (law.a, law.b) == pytest.approx((m, n), rel=0.01)
    assert (law.alpha, law.beta) == pytest.approx((-mu, -nu), abs=2e-4)
    assert law.e == 1.3637
    assert law.experts == experts


@pytest.mark.parametrize(("flops", "experts", "params", "tokens"), TABLE_1)
def test_the_optima_of_models_with_experts(flops: float, experts: int, params: float, tokens: float) -> None:
    best = closed_form(moe().at(experts), flops)
    assert best.params == pytest.approx(params, rel=0.02)
    assert best.tokens == pytest.approx(tokens, rel=0.02)


def test_the_number_of_experts_is_bent_as_published() -> None:
    """1/X = 1 / (E - 1 + 1 / (1/2.0732 - 1/290.4521)) + 1/290.4521: E = 1 is X = 2.0732; 8 is X = 8.8527."""
    for experts, bent in ((1, 2.0732), (8, 1 / (1 / (7 + 1 / (1 / 2.0732 - 1 / 290.4521)) + 1 / 290.4521))):
        law = moe().at(experts)
        assert law.a == pytest.approx(35.91 * bent**-0.2285, rel=1e-12)
        assert law.beta == pytest.approx(0.1775 + 0.0259 * math.log(bent), rel=1e-12)


def test_experts_outside_of_the_fitted_ones_are_named() -> None:
    inside, beyond = (moe().at(experts).outside(1e9, 1e10, 6e19) for experts in (8, 64))
    assert inside == ()
    assert [(each.quantity, each.value, each.most) for each in beyond] == [("experts", 64, 32)]


def allocation(name: str) -> AllocationLaw:
    law = LAWS[name]
    assert isinstance(law, AllocationLaw)
    return law


def test_deepseek_s_allocation() -> None:
    """M = 9.341546893e9 at 3e20 FLOP, and D = C / M, which its other law gives to the rounding of the two."""
    best = allocation("deepseek").best(3e20)
    assert best == pytest.approx(9.341546893e9, rel=5e-10)
    assert 3e20 / best == pytest.approx(5.8316 * 3e20**0.4757, rel=1e-3)
    assert pytest.approx(3.211843e10, rel=5e-7) == 5.8316 * 3e20**0.4757


def test_llama_3_s_allocation_is_that_of_its_figure() -> None:
    """16.55T tokens are published for 3.8e25 FLOP; the coefficients of the text give 10.464T."""
    assert allocation("llama-3").best(3.8e25) == pytest.approx(1.6294e13, rel=5e-4)
    assert pytest.approx(1.0464e13, rel=5e-4) == 0.29 * 3.8e25**0.53
    assert allocation("llama-3").best(3.8e25) == pytest.approx(16.55e12, rel=0.02)


@pytest.mark.parametrize("name", ["deepseek", "llama-3", "ludziejewski"])
def test_a_loss_is_not_asked_of_a_law_that_gives_none(name: str) -> None:
    assert load_any_law(name) == LAWS[name]
    with pytest.raises(PlannerError, match=f"{name} does not give a loss from N and D alone: expected one of exercise"):
        load_law(name)


MOE = """
[moe_laws.mine]
citation = "ours"
a = 36
b = 36
c = 1.4
alpha = -0.19
beta = -0.18
gamma = 0.01
delta = -0.23
zeta = -0.026
omega = 0.55
start = 2
most = 290
n_means = "active"
d_means = "tokens"
fitted = { experts = [1, 32] }
"""
ALLOCATION = """
[allocation_laws.mine]
citation = "ours"
quantity = "tokens"
coefficient = 0.3
exponent = 0.5
n_means = "C / 6D"
d_means = "tokens"
"""
BAD = {
    "a coefficient missing": (MOE.replace("zeta = -0.026\n", ""), "missing zeta"),
    "a loss that rises with N": (MOE.replace("alpha = -0.19", "alpha = 0.19"), "expected a loss that falls"),
    "a loss that rises with D at 32 experts": (MOE.replace("-0.026", "0.06"), "at 32 experts: expected a loss"),
    "start above most": (MOE.replace("most = 290", "most = 1"), "start = 2.0: expected a number below most"),
    "factors that no float holds": (
        MOE.replace("omega = 0.55", "omega = 10").replace("b = 36", "b = 1e9"),
        "expected a loss that falls",
    ),
    "a huge exponent": (
        MOE.replace("delta = -0.23", "delta = 1e300"),
        "delta = 1e+300: expected a number",
    ),
    "unknown convention": (MOE.replace('"active"', '"some"'), "n_means = 'some'"),
    "key of another form": (MOE + "E = 3\n", "E: no such key"),
    "experts reversed": (MOE.replace("[1, 32]", "[32, 1]"), "rising"),
    "unknown quantity": (ALLOCATION.replace('"tokens"\nco', '"params"\nco'), "quantity = 'params': expected one of"),
    "exponent of 1": (ALLOCATION.replace("0.5", "1"), "exponent = 1: expected a number from 0.001 to 0.999"),
    "coefficient of nothing": (ALLOCATION.replace("0.3", "0"), "coefficient = 0: expected a positive number"),
    "experts of an allocation": (ALLOCATION + "fitted = { experts = [1, 2] }\n", "experts: no such key"),
    "one name twice": (MOE + ALLOCATION, "allocation_laws.mine: expected a name that no other law"),
    "an unknown table": (MOE.replace("moe_laws", "moe"), "moe: no such key"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_law_is_one_clear_line(case: str, tmp_path: Path) -> None:
    text, expected = BAD[case]
    path = tmp_path / "law.toml"
    path.write_text(text)
    with pytest.raises(PlannerError) as caught:
        load_any_law(str(path))
    assert str(path) in str(caught.value)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_law_of_ones_own_may_be_of_any_form(tmp_path: Path) -> None:
    path = tmp_path / "law.toml"
    path.write_text(MOE)
    assert isinstance(load_any_law(str(path)), MoeLaw)
    path.write_text(ALLOCATION)
    law = load_any_law(str(path))
    assert isinstance(law, AllocationLaw)
    assert law.best(1e20) == pytest.approx(0.3e10)
