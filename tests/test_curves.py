"""The curve: its closed form, its integrals and their tails, its marks."""

import math
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from strategies import covariance, noise_ratios, scales, seeds

from skfisher.assembly import UpperBound, assemble_curve
from skfisher.curves import (
    InformationCurve,
    Validity,
    gaussian_curve,
    information_weights,
    mean_complexity,
    select_levels,
    viv_of_gaussian,
    viv_weights,
)
from skfisher.forms import FORMS
from skfisher.testing import mixture_1d_oracle

# -- the closed form -----------------------------------------------------------------------------


@given(
    seed=seeds(),
    n=st.integers(1, 6),
    rank=st.integers(0, 6),
    ratio=noise_ratios(1e-3, 1e3),
    scale=scales(),
)
def test_gaussian_curve_equals_matrix_algebra(seed, n, rank, ratio, scale):
    rng = np.random.default_rng(seed)
    S = scale**2 * covariance(rng, n, 100.0, min(rank, n))
    sigma = scale * ratio
    t = sigma**2
    curve = gaussian_curve(S, np.asarray([sigma, 2 * sigma]))
    P = np.linalg.inv(S + t * np.eye(n))
    D = S @ P
    expected = {
        "fisher_information": np.trace(P),
        "fisher_information_rate": np.sum(P * P),
        "mmse": t * np.trace(D),
        "mmse_rate": np.sum(D * D.T),
        "effective_dimension": np.trace(D),
        "complexity_penalty": t**2 * np.sum(P * P),
        "mutual_information": 0.5 * np.linalg.slogdet(np.eye(n) + S / t)[1],
    }
    sizes = {"mmse": n * t, "fisher_information": n / t, "fisher_information_rate": n / t**2}
    for name, value in expected.items():
        assert abs(getattr(curve, name)[0] - value) < 1e-9 * sizes.get(name, 1.0) + 1e-8 * abs(
            value
        )
    assert abs(curve.noise_gain[0] - (n - 2 * t * np.trace(P))) < 1e-9 * n


def test_gaussian_curve_is_consistent_and_without_error():
    curve = gaussian_curve(np.diag([4.0, 1.0, 0.0]), np.geomspace(0.1, 10, 5))
    np.testing.assert_allclose(curve.mmse_rate, curve.noise_gain + curve.complexity_penalty)
    for field in fields(InformationCurve):
        value = getattr(curve, field.name)
        if field.name.endswith(("stderr", "covariance", "residual")):
            assert np.all(np.asarray(value) == 0), field.name
    np.testing.assert_array_equal(
        curve.fisher_information_bounds, np.stack([curve.fisher_information] * 2, axis=1)
    )
    assert np.all(curve.valid)
    assert not any(curve.reasons)
    assert curve.viv == curve.viv_gaussian == pytest.approx(math.pi / 2 * (2 + 1 + 0) / 3)
    assert repr(curve) == "InformationCurve(5 levels, n_features=3, n_samples=0, valid=5)"


@pytest.mark.parametrize("lam", [[1.0], [4.0, 1.0, 0.25], [2.0, -1e-17]])
def test_viv_of_a_gaussian_is_the_integral_of_its_effective_dimension(lam):
    lam = np.asarray(lam)
    positive = np.clip(lam, 0, None)
    whole = quad(lambda s: np.mean(positive / (positive + s**2)), 0, np.inf, epsabs=1e-10)[0]
    assert viv_of_gaussian(lam) == pytest.approx(whole, rel=1e-8)


def test_gaussian_curve_follows_its_library(library):
    S, levels = library(np.diag([3.0, 1.0])), library([0.5, 1.0])
    curve = gaussian_curve(S, levels)
    for name in ("fisher_information", "mmse_rate", "mutual_information"):
        assert library.owns(getattr(curve, name)), name


# -- a part of a curve ---------------------------------------------------------------------------


def test_selected_levels_are_those_of_the_curve_in_the_order_asked():
    curve = replace(
        gaussian_curve(np.diag([4.0, 1.0]), np.geomspace(0.1, 10, 5)),
        complexity_penalty_covariance=np.arange(25.0).reshape(5, 5),
        reasons=tuple("abcde"),
        forms=tuple("vwxyz"),
    )
    part = select_levels(curve, [3, 1])
    for field in fields(InformationCurve):
        whole, value = getattr(curve, field.name), getattr(part, field.name)
        if field.name.startswith("viv") or isinstance(whole, int):
            assert value == whole
        elif isinstance(whole, tuple):
            assert value == (whole[3], whole[1])
        elif field.name == "complexity_penalty_covariance":
            np.testing.assert_array_equal(value, [[18.0, 16.0], [8.0, 6.0]])
        else:
            np.testing.assert_array_equal(value, whole[[3, 1]])


def test_selecting_from_two_levels_leaves_the_integrals_whole():
    # two levels and two ends of the VIV's bracket have one length
    curve = replace(gaussian_curve(np.eye(2), np.asarray([0.5, 2.0])), viv_bounds=(1.0, 2.0))
    assert select_levels(curve, [1]).viv_bounds == (1.0, 2.0)


def test_mean_complexity_is_that_of_the_finite_levels_with_its_error():
    curve = replace(
        gaussian_curve(np.eye(2), np.asarray([0.5, 1.0, 2.0])),
        complexity_penalty=np.asarray([0.4, np.nan, 1.6]),
        complexity_penalty_covariance=np.asarray([[4, 0, 2], [0, 0, 0], [2, 0, 9.0]]) * 1e-4,
    )
    mean, error = mean_complexity(curve)
    assert mean == pytest.approx((0.4 + 1.6) / 2 / 2)
    assert error == pytest.approx(math.sqrt((4 + 9 + 2 * 2) * 1e-4) / 4)
    nowhere = replace(curve, complexity_penalty=np.full(3, np.nan))
    assert all(map(math.isnan, mean_complexity(nowhere)))


# -- integrals along the noise -------------------------------------------------------------------


@given(scale=scales(), lam=noise_ratios(0.1, 10.0))
def test_information_weights_integrate_the_effective_dimension(scale, lam):
    sigma = scale * np.geomspace(0.05, 5, 21)
    d_eff = lam / (lam + (sigma / scale) ** 2)
    exact = 0.5 * (np.log1p(lam * scale**2 / sigma**2) - np.log1p(lam * scale**2 / sigma[-1] ** 2))
    np.testing.assert_allclose(information_weights(sigma) @ d_eff, exact, atol=2e-4)


@given(scale=scales(), lam=noise_ratios(0.1, 10.0))
def test_viv_weights_integrate_the_effective_dimension(scale, lam):
    sigma = scale * np.geomspace(0.05, 5, 21)
    d_eff = lam / (lam + (sigma / scale) ** 2)
    root = math.sqrt(lam) * scale
    exact = root * (math.atan(sigma[-1] / root) - math.atan(sigma[0] / root))
    assert viv_weights(sigma, 1, ends=False) @ d_eff == pytest.approx(exact, rel=3e-4)


def test_one_level_covers_no_part_of_an_integral():
    np.testing.assert_array_equal(information_weights(np.asarray([0.5])), [[0.0]])
    np.testing.assert_array_equal(viv_weights(np.asarray([0.5]), 3, ends=False), [0.0])


def assembled(
    oracle, eigenvalues, *, error=1e-4, means=None, bounds=None, validity=None, n_rows=1e4
):
    """The curve that forms without error would give, with a small covariance beside them."""
    t = oracle.noise_levels**2
    j, rho = t * oracle.fisher_information, t**2 * oracle.fisher_information_rate
    rate, levels = oracle.mmse_rate, len(t)
    mu = np.stack([j, j, j, j, rho, rate, rho, rate], axis=1) if means is None else means
    mu = mu.reshape(-1)
    return assemble_curve(
        mu,
        np.diag((error * np.abs(mu)) ** 2),
        n_rows,
        oracle.noise_levels,
        n_features=oracle.n_features,
        n_samples=int(n_rows),
        eigenvalues=np.asarray(eigenvalues),
        one_step=True,
        with_rate=True,
        upper_bounds=[UpperBound(float(a), 1e-4 * float(a), 100.0) for a in j]
        if bounds is None
        else bounds,
        score_models=("mixture",) * levels,
        n_products=0,
        validity=validity or Validity(),
    )


LAWS = {
    "gaussian": ([1.0], [0.0], [1.0]),
    "two modes": ([0.5, 0.5], [-1.0, 1.0], [0.04, 0.09]),
    "atoms": ([0.5, 0.5], [-1.0, 1.0], [0.0, 0.0]),
}


def variance_of(weights, means, variances):
    return np.dot(weights, np.square(means) + variances) - np.dot(weights, means) ** 2


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("levels", [(0.05, 5.0, 21), (0.3, 2.0, 9), (0.2, 3.0, 15)])
def test_tails_bracket_what_no_grid_covers(law, levels):
    def d_eff(sigma):
        return mixture_1d_oracle(*LAWS[law], [sigma]).effective_dimension[0]

    sigma = np.geomspace(*levels)
    oracle = mixture_1d_oracle(*LAWS[law], sigma)
    curve = assembled(oracle, [variance_of(*LAWS[law])])
    spline = 5e-3  # of a cubic through few points
    information = quad(lambda u: d_eff(math.exp(u)), math.log(sigma[0]), 9, epsabs=1e-6, limit=200)[
        0
    ]
    low, high = curve.mutual_information_bounds[0]
    assert low - spline <= information <= high + spline
    assert low <= curve.mutual_information[0] <= high
    viv = quad(lambda u: d_eff(math.exp(u)) * math.exp(u), -12, 9, epsabs=1e-6, limit=200)[0]
    low, high = curve.viv_bounds
    assert low - spline <= viv <= high + spline
    assert low <= curve.viv <= high
    assert viv <= curve.viv_gaussian + 1e-3
    if law == "gaussian":  # its upper tail is closed exactly
        assert curve.mutual_information_bounds[0, 1] == pytest.approx(information, abs=spline)


def test_levels_that_failed_are_left_out_of_the_integrals():
    sigma = np.geomspace(0.05, 5, 9)
    oracle = mixture_1d_oracle(*LAWS["gaussian"], sigma)
    t = sigma**2
    j, rho = t * oracle.fisher_information, t**2 * oracle.fisher_information_rate
    rate = oracle.mmse_rate
    means = np.stack([j, j, j, j, rho, rate, rho, rate], axis=1)
    means[[0, 4]] = np.nan
    with np.errstate(invalid="ignore"):
        part = assembled(oracle, [1.0], means=means)
    whole = assembled(oracle, [1.0])
    assert not part.valid[0]
    assert part.reasons[4] == "the score is not finite"
    assert np.isnan(part.mutual_information[[0, 4]]).all()
    kept = [1, 2, 3, 5, 6, 7, 8]
    np.testing.assert_allclose(
        part.mutual_information[kept], whole.mutual_information[kept], atol=0.02
    )
    assert part.viv == pytest.approx(whole.viv, abs=0.02)
    nowhere = assembled(oracle, [1.0], means=np.full_like(means, np.nan))
    assert not nowhere.valid.any()
    assert math.isnan(nowhere.viv)
    assert nowhere.viv_gaussian == pytest.approx(math.pi / 2)


# -- assembly ------------------------------------------------------------------------------------


def test_assembled_curve_gives_back_the_quantities_behind_its_forms():
    sigma = np.geomspace(0.1, 3, 7)
    oracle = mixture_1d_oracle(*LAWS["two modes"], sigma)
    curve = assembled(oracle, [variance_of(*LAWS["two modes"])])
    for name in ("fisher_information", "fisher_information_rate", "mmse", "mmse_rate"):
        np.testing.assert_allclose(getattr(curve, name), getattr(oracle, name), rtol=1e-9)
    np.testing.assert_allclose(curve.effective_dimension, oracle.effective_dimension, rtol=1e-9)
    low, high = curve.fisher_information_bounds.T
    np.testing.assert_allclose(low, oracle.fisher_information, rtol=1e-9)
    np.testing.assert_allclose(high, oracle.fisher_information, rtol=1e-9)
    np.testing.assert_allclose(curve.stein_residual, 0.0, atol=1e-12)
    np.testing.assert_allclose(curve.consistency_residual, 0.0, atol=1e-12)
    assert np.all(curve.valid)


ONE = mixture_1d_oracle(*LAWS["two modes"], [0.5])
J_ONE = 0.25 * ONE.fisher_information[0]
RIGHT = np.asarray([J_ONE] * 4 + [0.0625 * ONE.fisher_information_rate[0], ONE.mmse_rate[0]] * 2)


def scaled(**factors):
    """Means of the forms, some of them times a factor."""
    return RIGHT * np.asarray(
        [factors.get(name.replace(" ", "_").replace("-", "_"), 1.0) for name in FORMS]
    )


REASONS = {
    "standard error of J above 3%": {"error": 0.2},
    "standard error of R above 3%": {"error": 0.2},
    "standard error of MMSE above 3%": {"error": 0.2},
    "standard error of the MMSE rate above": {"error": 0.2},
    "bracket wider than 10% of J": {"bounds": [UpperBound(1.2 * J_ONE, 1e-4, 100.0)]},
    "lower bound above upper bound": {"bounds": [UpperBound(0.9 * J_ONE, 1e-4, 100.0)]},
    "J above its upper bound": {"bounds": [UpperBound(0.9 * J_ONE, 1e-4, 100.0)]},
    "posterior rests on fewer than 5 points": {"bounds": [UpperBound(J_ONE, 1e-4, 2.0)]},
    "Stein residual above 5%": {"means": scaled(norm=1.2, trace=1.1)},
    "consistency residual above 8%": {"means": scaled(plug_in_rho=1.2)},
}


@pytest.mark.parametrize("reason", REASONS)
def test_each_flaw_is_marked_with_its_reason(reason):
    right = assembled(ONE, [1.0])
    assert right.valid[0], right.reasons
    curve = assembled(ONE, [1.0], **REASONS[reason])
    assert reason in curve.reasons[0]
    assert not curve.valid[0]


def test_flaws_within_their_error_are_not_marked():
    # an upper bound two errors too low is no contradiction
    bounds = [UpperBound(0.99 * J_ONE, 0.01 * J_ONE, 100.0)]
    assert assembled(ONE, [1.0], bounds=bounds).valid[0]


def test_limits_of_validity_can_be_moved():
    strict = Validity(effective_sample_size=1000.0)
    assert "fewer than 1000 points" in assembled(ONE, [1.0], validity=strict).reasons[0]


def test_errors_count_the_fitted_multiples():
    small, large = (assembled(ONE, [1.0], n_rows=n) for n in (12.0, 1e6))
    # same covariance of the means, but three degrees of freedom of twelve are spent
    ratio = small.fisher_information_stderr[0] / large.fisher_information_stderr[0]
    assert ratio == pytest.approx(math.sqrt(12 / 9), rel=0.1)


def test_the_score_never_falls_for_a_penalty_that_no_law_has():
    curve = gaussian_curve(np.diag([2.0, 1.0]), np.asarray([0.5, 1.0, 2.0]))
    wild = replace(curve, complexity_penalty=np.asarray([-50.0, *curve.complexity_penalty[1:]]))
    t, J = curve.noise_levels**2, curve.fisher_information
    floor = (t[0] * J[0]) ** 2 / 2
    expected = (floor + curve.complexity_penalty[1] + curve.complexity_penalty[2]) / 6
    assert mean_complexity(wild)[0] == pytest.approx(expected, rel=1e-12)
    assert mean_complexity(curve)[0] == pytest.approx(np.mean(curve.complexity_penalty) / 2)
