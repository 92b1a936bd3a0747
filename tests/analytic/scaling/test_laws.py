"""Loss and optimum against values computed apart in 40-digit arithmetic, and against published ones."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytic.errors import FileError, PlannerError
from analytic.io.files import configs_dir
from analytic.scaling.law_file import law_toml, load_law, load_laws
from analytic.scaling.laws import ScalingLaw
from analytic.scaling.optimum import CostCurve, closed_form, optimum
from analytic.scaling.posterior import Uncertainty

TEN_DIGITS = 5e-11

# (law, C, N, D, L): the optimum of C = 6 N D.
CLOSED_FORM = [
    ("exercise", 5.616e23, 47476210890.126, 1971513695914.3, 1.8969638019019),
    ("hoffmann", 5.616e23, 31823901310.19, 2941185591536.0, 1.931685833582),
    ("besiroglu", 5.616e23, 71317101646.4, 1312448176373.0, 1.975152471227),
    ("besiroglu", 5.76e23, 72248702500.38, 1328743585388.0, 1.974441108397),
    ("hoffmann-full", 5.616e23, 39897122767.42, 2346033836717.0, 1.919295976559),
    ("hoffmann-full", 5.76e23, 40360938387.24, 2378537363996.0, 1.918412045997),
    ("muennighoff", 5.76e23, 69962173313.52, 1372170066384.0, 2.025162368484),
]
# (k, p, N, D, L): the optimum of C = (6 N + k N^p) D under the exercise's law at C = 5.616e23.
NUMERIC = [
    (6442450944, 0, 48658541203.652, 1882077280625.9, 1.8976842995245),
    (3221225472, 0, 48074152695.534, 1925489180307.9, 1.8973270187484),
    (1860.73148706, 2 / 3, 47688793357.89, 1808099242456.4, 1.8996573442379),
    (14885.8518965, 2 / 3, 47042661206.432, 1179234817771.4, 1.9152131178666),
]


@pytest.mark.parametrize(("law", "compute", "params", "tokens", "loss"), CLOSED_FORM)
def test_closed_form(law: str, compute: float, params: float, tokens: float, loss: float) -> None:
    for found in (closed_form(load_law(law), compute), optimum(load_law(law), compute)):
        assert found.params == pytest.approx(params, rel=TEN_DIGITS)
        assert found.tokens == pytest.approx(tokens, rel=TEN_DIGITS)
        assert found.loss == pytest.approx(loss, rel=TEN_DIGITS)


@pytest.mark.parametrize(("k", "p", "params", "tokens", "loss"), NUMERIC)
def test_numeric_optimum(k: float, p: float, params: float, tokens: float, loss: float) -> None:
    found = optimum(load_law("exercise"), 5.616e23, CostCurve(k, p))
    assert found.params == pytest.approx(params, rel=TEN_DIGITS)
    assert found.tokens == pytest.approx(tokens, rel=TEN_DIGITS)
    assert found.loss == pytest.approx(loss, rel=TEN_DIGITS)


def test_repeated_data() -> None:
    law = load_law("muennighoff")
    assert law.loss(6.34e9, 242e9, 25e9) == pytest.approx(2.2256440889984477, rel=TEN_DIGITS)
    assert law.loss(8.67e9, 178e9, 25e9) == pytest.approx(2.2269634075087867, rel=TEN_DIGITS)
    best = optimum(law, 1e22, unique_tokens=25e9)
    assert best.params == pytest.approx(7026159072.005, rel=TEN_DIGITS)
    assert best.tokens == pytest.approx(237208786420.37, rel=TEN_DIGITS)
    assert best.tokens / 25e9 == pytest.approx(9.4883514568, rel=TEN_DIGITS)
    assert best.loss == pytest.approx(2.2221292748709702, rel=TEN_DIGITS)


# D_eff / U at 1, 2, 4, 8, 16 and 44 epochs.
@pytest.mark.parametrize(
    ("epochs", "worth"),
    [(1, 1), (2, 1.968199), (4, 3.725673), (8, 6.624119), (16, 10.582457), (44, 15.446799)],
)
def test_epochs_are_worth_less_and_less(epochs: float, worth: float) -> None:
    law = load_law("besiroglu")
    assert law.loss(1e9, epochs * 1e9, 1e9) == pytest.approx(law.loss(1e9, worth * 1e9), abs=1e-6)


laws = st.sampled_from(sorted(load_laws()))
computes = st.floats(1e17, 1e28)


@settings(deadline=None)
@given(name=laws, compute=computes, step=st.floats(-2, 2), unique=st.floats(1e9, 1e14) | st.just(math.inf))
def test_no_neighbour_beats_the_optimum(name: str, compute: float, step: float, unique: float) -> None:
    law, cost = load_law(name), CostCurve(1860.7, 2 / 3)
    best = optimum(law, compute, cost, unique)
    params = best.params * math.exp(step)
    neighbour = law.loss(params, compute / cost.flops_per_token(params), unique)
    assert best.loss <= neighbour * (1 + 1e-12)


@settings(deadline=None)
@given(name=laws, compute=computes, step=st.floats(-2, 2), share=st.floats(0.001, 2), epochs=st.floats(1, 50))
def test_no_neighbour_beats_the_optimum_of_limited_data(
    name: str, compute: float, step: float, share: float, epochs: float
) -> None:
    law = load_law(name)
    most = optimum(law, compute).tokens * share
    unique = most / epochs
    best = optimum(law, compute, unique_tokens=unique, most_tokens=most)
    assert best.tokens <= most * (1 + 1e-12)
    params = best.params * math.exp(step)
    neighbour = law.loss(params, min(compute / (6 * params), most), unique)
    assert best.loss <= neighbour * (1 + 1e-12)


@settings(deadline=None)
@given(name=laws, compute=computes, more=st.floats(1.01, 100))
def test_more_compute_is_never_worse(name: str, compute: float, more: float) -> None:
    law = load_law(name)
    assert optimum(law, compute * more).loss < optimum(law, compute).loss


@settings(deadline=None)
@given(name=laws, params=st.floats(1e6, 1e13), tokens=st.floats(1e7, 1e15), unique=st.floats(1e8, 1e14))
def test_slopes_are_the_derivatives_of_the_loss(name: str, params: float, tokens: float, unique: float) -> None:
    law, h = load_law(name), 1e-4
    by_params, by_tokens = law.slopes(params, tokens, unique)
    up, down = math.exp(h), math.exp(-h)
    numeric = (law.loss(params * up, tokens, unique) - law.loss(params * down, tokens, unique)) / (2 * h)
    assert by_params == pytest.approx(numeric, rel=1e-4, abs=1e-9)
    numeric = (law.loss(params, tokens * up, unique) - law.loss(params, tokens * down, unique)) / (2 * h)
    assert by_tokens == pytest.approx(numeric, rel=1e-4, abs=1e-9)


def test_leaving_the_fitted_range_is_named() -> None:
    law = load_law("besiroglu")
    assert law.outside(1e9, 2e10, 1.2e20) == ()
    assert [o.quantity for o in law.outside(7e10, 1.4e12, 5.9e23)] == ["params", "tokens", "flops"]


OWN_LAW = """
[laws.mine]
citation = "our own runs"
E = 1.8
A = 500
log_B = 7.6
alpha = 0.35
beta = 0.36
n_means = "non_embedding"
d_means = "tokens seen"
fitted = { params = [1e8, 1e10] }
"""


def test_a_law_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(OWN_LAW)
    law = load_law(str(path))
    assert law == ScalingLaw(
        name="mine",
        citation="our own runs",
        e=1.8,
        a=500,
        b=math.exp(7.6),
        alpha=0.35,
        beta=0.36,
        n_means="non_embedding",
        d_means="tokens seen",
        fitted={"params": (1e8, 1e10)},
    )


def test_a_law_without_irreducible_loss_and_with_factors_below_one(tmp_path: Path) -> None:
    path = tmp_path / "MINE.TOML"
    path.write_text(OWN_LAW.replace("E = 1.8", "E = 0").replace("A = 500", "log_A = -0.6931471805599453"))
    law = load_law(str(path))
    assert law.loss(1e9, 1e10) == pytest.approx(0.5 / 1e9**0.35 + math.exp(7.6) / 1e10**0.36, rel=TEN_DIGITS)


UNCERTAINTY = """
[laws.mine.uncertainty]
form = "zero_e"
center = [20.0, 24.0]
sigma = 0.004
kappa = 1.5
largest_run_flops = 1e21
covariance = [[1, 0.5, 0, 0], [0.5, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
"""
SURE = OWN_LAW + UNCERTAINTY


def test_a_law_says_how_sure_it_is(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(SURE)
    found = load_law(str(path)).uncertainty
    assert found is not None
    assert found == Uncertainty(
        form="zero_e",
        center=(20.0, 24.0),
        covariance=((1, 0.5, 0, 0), (0.5, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)),
        sigma=0.004,
        kappa=1.5,
        largest_run_flops=1e21,
    )


BAD_LAWS = {
    "uncertainty is no table": (OWN_LAW + "uncertainty = 3", "uncertainty = 3: expected an object"),
    "kappa missing": (SURE.replace("kappa = 1.5\n", ""), "missing kappa"),
    "kappa below 1": (SURE.replace("kappa = 1.5", "kappa = 0.5"), "kappa = 0.5: expected a number from 1"),
    "negative sigma": (SURE.replace("0.004", "-0.004"), "sigma = -0.004: expected a number from 0"),
    "no form": (SURE.replace("zero_e", "repeats"), "form = 'repeats': expected one of coupled"),
    "center of one": (SURE.replace("[20.0, 24.0]", "[20.0]"), "center = [20.0]: expected a list of 2 numbers"),
    "covariance of another form": (SURE.replace("zero_e", "coupled"), "expected a list of 6 lists of 6 numbers"),
    "covariance nan": (SURE.replace("[[1,", "[[nan,"), "a list of 4 lists of 4 numbers"),
    "covariance not symmetric": (SURE.replace("[0.5, 1,", "[0.6, 1,"), "symmetric"),
    "negative variance": (SURE.replace("[[1,", "[[-1,"), "none below 0 on the diagonal"),
    "largest run of nothing": (SURE.replace("1e21", "0"), "largest_run_flops = 0: expected a number from 1"),
    "unknown key of uncertainty": (SURE + "x = 1\n", "x: no such key"),
    "no law": ("", "expected one table"),
    "two laws": (OWN_LAW + OWN_LAW.replace("mine", "yours"), "expected one table [laws.NAME], not 2"),
    "a shipped law's name": (
        OWN_LAW.replace("mine", "hoffmann"),
        f"laws.hoffmann: expected a name that {configs_dir() / 'scaling_laws.toml'} has not",
    ),
    "not TOML": ("[laws", "not TOML"),
    "laws is no table": ("laws = 3", "laws = 3: expected an object"),
    "law is no table": ("[laws]\nmine = 3", "mine = 3: expected an object"),
    "missing beta": (OWN_LAW.replace("beta = 0.36\n", ""), "missing beta"),
    "A missing": (OWN_LAW.replace("A = 500\n", ""), "either A or log_A"),
    "another table": (OWN_LAW + "[x]\n", "x: no such key"),
    "A and log_A": (OWN_LAW.replace("A = 500", "A = 500\nlog_A = 6"), "either A or log_A"),
    "negative alpha": (OWN_LAW.replace("0.35", "-0.35"), "alpha = -0.35"),
    "nan": (OWN_LAW.replace("0.35", "nan"), "alpha = nan"),
    "negative E": (OWN_LAW.replace("1.8", "-0.1"), "E = -0.1: expected a number from 0"),
    "A of nothing": (OWN_LAW.replace("A = 500", "A = 0"), "A = 0: expected a number from 1e-12"),
    "log_B too low": (OWN_LAW.replace("7.6", "-99"), "log_B = -99: expected a number from -27"),
    "log_B nan": (OWN_LAW.replace("7.6", "nan"), "log_B = nan"),
    "infinite": (OWN_LAW.replace("A = 500", "A = inf"), "A = inf"),
    "string": (OWN_LAW.replace("E = 1.8", 'E = "1.8"'), "E = '1.8'"),
    "unknown key": (OWN_LAW + "gamma = 1\n", "gamma: no such key"),
    "unknown convention": (OWN_LAW.replace("non_embedding", "some"), "n_means = 'some'"),
    "range reversed": (OWN_LAW.replace("[1e8, 1e10]", "[1e10, 1e8]"), "rising"),
    "range of one": (OWN_LAW.replace("[1e8, 1e10]", "[1e10]"), "rising"),
    "unknown range": (OWN_LAW.replace("params = [", "epochs = ["), "epochs: no such key"),
}


@pytest.mark.parametrize("case", BAD_LAWS)
def test_a_bad_law_is_one_clear_line(case: str, tmp_path: Path) -> None:
    text, expected = BAD_LAWS[case]
    path = tmp_path / "law.toml"
    path.write_text(text)
    with pytest.raises(PlannerError) as caught:
        load_law(str(path))
    assert str(path) in str(caught.value)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_law_lists_those_there_are() -> None:
    with pytest.raises(PlannerError, match=r"no scaling law 'chinchilla'.*hoffmann.*besiroglu"):
        load_law("chinchilla")


COUPLED = ScalingLaw(
    name="mine", citation="ours", e=1.8, a=400, b=2000, alpha=0.34, beta=0.37, k=0.4, n_means="total", d_means="tokens"
)


def test_a_coupled_law_joins_its_terms_by_a_power() -> None:
    """((A / N^alpha)^(1/k) + (B / D^beta)^(1/k))^k with k = .4: powers of 2.5."""
    by_params, by_tokens = 400 / 8e9**0.34, 2000 / 2e12**0.37
    assert COUPLED.loss(8e9, 2e12) == pytest.approx(1.8 + (by_params**2.5 + by_tokens**2.5) ** 0.4, rel=1e-13)
    assert COUPLED.loss(1e15, 1e18) > 1.8
    assert replace(COUPLED, k=1.0).loss(8e9, 2e12) == pytest.approx(1.8 + by_params + by_tokens, rel=1e-13)


@pytest.mark.parametrize("unique", [math.inf, 5e11])
def test_the_slopes_of_a_coupled_law_are_its_derivatives(unique: float) -> None:
    step = 1e-5
    up, down = (math.exp(sign * step) for sign in (1, -1))
    by_params = (COUPLED.loss(8e9 * up, 2e12, unique) - COUPLED.loss(8e9 * down, 2e12, unique)) / (2 * step)
    by_tokens = (COUPLED.loss(8e9, 2e12 * up, unique) - COUPLED.loss(8e9, 2e12 * down, unique)) / (2 * step)
    assert COUPLED.slopes(8e9, 2e12, unique) == pytest.approx((by_params, by_tokens), rel=1e-6)


def test_the_optimum_of_a_coupled_law_is_the_least_loss() -> None:
    best = closed_form(COUPLED, 1e22)
    assert optimum(COUPLED, 1e22).params == pytest.approx(best.params, rel=1e-6)
    for factor in (0.99, 1.01):
        assert COUPLED.loss(best.params * factor, best.tokens / factor) > best.loss


def test_a_written_law_is_read_back_to_the_last_bit(tmp_path: Path) -> None:
    law = replace(
        COUPLED,
        a=math.pi * 100,
        fitted={"params": (1e7, 3e9)},
        citation='a "quoted" name',
        data_constrained=True,
        uncertainty=Uncertainty(
            form="tied",
            center=(math.pi, math.e),
            covariance=tuple(tuple(math.exp(-i - j) for j in range(4)) for i in range(4)),
            sigma=math.pi / 1000,
            kappa=math.e,
            largest_run_flops=math.pi * 1e20,
        ),
    )
    path = tmp_path / "mine.toml"
    path.write_text(law_toml(law, ["ours"]))
    assert load_law(str(path)) == law
    with pytest.raises(FileError, match=r"A = 1[0]{13}\.0: expected a number"):
        law_toml(replace(law, a=1e13), [])


@pytest.mark.parametrize(("a", "b"), [(1e-9, 1e9), (1e9, 1e-9)])
def test_an_optimum_beyond_all_reason_is_finite(a: float, b: float) -> None:
    best = closed_form(replace(COUPLED, a=a, b=b, alpha=0.001, beta=0.001), 1e25)
    assert all(0 < value < math.inf for value in (best.params, best.tokens, best.loss))
