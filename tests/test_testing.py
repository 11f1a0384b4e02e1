import math

import array_api_strict
import mpmath as mp
import numpy as np
import pytest
from strategies import covariance

from skfisher._backend.differences import central_jvp, central_step
from skfisher._backend.quadrature import integrate
from skfisher.curves import gaussian_curve
from skfisher.scores.closed import GaussianMixtureScore, GaussianScore
from skfisher.testing import (
    assert_close,
    check_score_model,
    circle_oracle,
    mixture_1d_oracle,
    sphere_oracle,
)

TWO_POINTS = ([0.5, 0.5], [-2.5, 2.5], [0.0, 0.0])
THREE = ([0.2, 0.5, 0.3], [-1.0, 0.1, 2.0], [0.5, 0.01, 0.0])
FIELDS = (
    "fisher_information",
    "fisher_information_rate",
    "mmse",
    "mmse_rate",
    "effective_dimension",
)


def other_forms(weights, means, variances, t):
    """J = -E (log p)'' and R = -dJ/dt, 20 digits: neither form is the oracle's."""
    with mp.workdps(20):
        parts = [tuple(map(mp.mpf, part)) for part in zip(weights, means, variances, strict=True)]

        def J(t):
            def integrand(x):
                p = dp = ddp = mp.mpf(0)
                for w, m, v in parts:
                    total = v + t
                    f = w * mp.npdf(x, m, mp.sqrt(total))
                    p, dp = p + f, dp - (x - m) / total * f
                    ddp += ((x - m) ** 2 / total - 1) / total * f
                return dp**2 / p - ddp

            width = [mp.sqrt(v + t) for _, _, v in parts]
            breaks = sorted(
                m + k * s
                for (_, m, _), s in zip(parts, width, strict=True)
                for k in range(-12, 13, 6)
            )
            return mp.quad(integrand, breaks)

        t = mp.mpf(t)
        return float(J(t)), float(-mp.diff(J, t, h=t * mp.mpf("1e-6")))


@pytest.mark.parametrize("law", [TWO_POINTS, THREE])
@pytest.mark.parametrize("sigma", [0.4, 6.0])
def test_mixture_oracle_equals_other_forms_in_twenty_digits(law, sigma):
    oracle = mixture_1d_oracle(*law, [sigma])
    J, R = other_forms(*law, sigma**2)
    np.testing.assert_allclose(oracle.fisher_information[0], J, rtol=1e-9)
    np.testing.assert_allclose(oracle.fisher_information_rate[0], R, rtol=1e-9)


@pytest.mark.parametrize("law", [TWO_POINTS, THREE])
def test_mixture_oracle_obeys_the_identities_between_its_columns(law):
    sigma = np.geomspace(0.05, 50.0, 9)
    oracle = mixture_1d_oracle(*law, sigma)
    t = sigma**2
    J, R = oracle.fisher_information, oracle.fisher_information_rate
    np.testing.assert_allclose(t * J, 1 - oracle.effective_dimension, rtol=1e-10)
    np.testing.assert_allclose(
        t**2 * R, oracle.mmse_rate + 1 - 2 * oracle.effective_dimension, rtol=1e-10
    )


def test_mixture_oracle_of_one_component_is_the_gaussian_curve():
    sigma = np.geomspace(1e-3, 1e3, 7)
    oracle = mixture_1d_oracle([1.0], [1e3], [2.0], sigma)
    curve = gaussian_curve(np.asarray([[2.0]]), sigma)
    for field in FIELDS:
        assert_close(getattr(oracle, field), getattr(curve, field), rtol=1e-11, err_msg=field)


def test_rate_of_two_points_half_way_apart():
    assert (
        round(float(mixture_1d_oracle(*TWO_POINTS, [1.0]).fisher_information_rate[0]), 3) == 1.178
    )


def test_mmse_of_far_points_keeps_its_digits():
    # mmse = E (x0^2 sech^2(x0 y / t)); at sigma = 0.3 it is 1e-15 of n t
    with mp.workdps(40):
        t, x0 = mp.mpf("0.3") ** 2, mp.mpf("2.5")

        def integrand(y):
            density = mp.exp(-(y**2 + x0**2) / (2 * t)) * mp.cosh(x0 * y / t)
            return x0**2 * mp.sech(x0 * y / t) ** 2 * density / mp.sqrt(2 * mp.pi * t)

        exact = mp.quad(integrand, [-2, -0.3, -0.05, 0, 0.05, 0.3, 2])
    np.testing.assert_allclose(mixture_1d_oracle(*TWO_POINTS, [0.3]).mmse[0], float(exact), 1e-10)


@pytest.mark.parametrize(
    ("oracle", "n", "J1", "R2"),
    [(circle_oracle, 2, -1 / 2, 5 / 4), (sphere_oracle, 3, 1.0, -1.0)],
)
def test_curved_oracles_have_their_expansions_at_small_noise(oracle, n, J1, R2):
    # the sphere's follow from d_eff = 2 - t/r^2 + ... in the same way
    r = 2.0
    for sigma in (0.02, 0.1):
        t = sigma**2
        found = oracle(r, [sigma])
        J = found.fisher_information[0] - 1 / t
        R = found.fisher_information_rate[0] - 1 / t**2
        assert abs(J - J1 / r**2) <= 4 * t / r**4 + 1e-10 / t
        assert abs(R - R2 / r**4) <= 20 * t / r**6 + 1e-10 / t**2
        assert found.n_features == n


@pytest.mark.parametrize(("oracle", "n"), [(circle_oracle, 2), (sphere_oracle, 3)])
def test_curved_oracles_obey_identities_scale_law_and_limits(oracle, n):
    r, sigma = 3.0, 3.0 * np.geomspace(1e-3, 1e3, 13)
    found = oracle(r, sigma)
    t, J, R = sigma**2, found.fisher_information, found.fisher_information_rate
    np.testing.assert_allclose(t * J, n - found.effective_dimension, rtol=1e-10)
    np.testing.assert_allclose(
        t**2 * R, found.mmse_rate + n - 2 * found.effective_dimension, rtol=1e-10
    )
    np.testing.assert_allclose(found.effective_dimension[0], n - 1, rtol=1e-5)
    np.testing.assert_allclose(found.mmse[-1], r**2, rtol=1e-5)
    other = oracle(1e6 * r, 1e6 * sigma)
    np.testing.assert_allclose(other.fisher_information_rate * 1e24, R, rtol=1e-10)


@pytest.mark.parametrize(("oracle", "n"), [(circle_oracle, 2), (sphere_oracle, 3)])
@pytest.mark.parametrize("sigma", [0.1, 0.5, 2.0])
def test_curved_oracles_equal_averages_over_many_points(oracle, n, sigma, rng):
    centres = rng.standard_normal((400, n))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    y = centres + sigma * rng.standard_normal(centres.shape)
    # the posterior over a dense regular cover of the shell
    k = 10_000
    if n == 2:
        angle = 2 * np.pi * np.arange(k) / k
        cover = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    else:
        height = 1 - (2 * np.arange(k) + 1) / k
        angle = np.pi * (1 + np.sqrt(5)) * np.arange(k)
        ring = np.sqrt(1 - height**2)
        cover = np.stack([ring * np.cos(angle), ring * np.sin(angle), height], axis=1)
    logs = y @ cover.T / sigma**2
    w = np.exp(logs - logs.max(axis=1, keepdims=True))
    w /= w.sum(axis=1, keepdims=True)
    D = w @ cover
    C = np.stack([(v[:, None] * (cover - d)).T @ (cover - d) for v, d in zip(w, D, strict=True)])
    found = oracle(1.0, [sigma])
    trace = np.trace(C, axis1=1, axis2=2)
    for values, exact in (
        (trace, found.mmse[0]),
        (np.sum(C**2, axis=(1, 2)) / sigma**4, found.mmse_rate[0]),
        (np.sum((D - y) ** 2, axis=1) / sigma**4, found.fisher_information[0]),
    ):
        assert abs(values.mean() - exact) <= 4 * values.std(ddof=1) / math.sqrt(len(values))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0], [0.0, 1.0], [1.0], [1.0]), "have 1, 2 and 1 entries"),
        (([0.5, 0.6], [0.0, 1.0], [1.0, 1.0], [1.0]), "must sum to 1"),
        (([1.0], [0.0], [-1.0], [1.0]), r"variances \[-1.0\]: both must not be negative"),
        (([1.0], [0.0], [1.0], [0.0]), "noise_levels is 0.0"),
    ],
)
def test_mixture_oracle_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        mixture_1d_oracle(*arguments)


def test_circle_oracle_refuses_a_radius_that_is_none():
    with pytest.raises(ValueError, match=r"radius is -1\.0"):
        circle_oracle(-1.0, [1.0])


def test_quadrature_says_where_it_does_not_settle():
    with pytest.raises(RuntimeError, match="did not settle to 1e-12 in 60 halvings"):
        integrate(lambda x: np.stack([1 / np.abs(x)]), [0.0, 1.0])


def test_central_differences_reach_their_order():
    y = np.linspace(-2.0, 2.0, 9)[:, None]
    value, product = central_jvp(np.sin, y, np.full_like(y, 3.0), central_step(y))
    np.testing.assert_array_equal(value, np.sin(y))
    np.testing.assert_allclose(product, 3 * np.cos(y), atol=1e-9)
    y = y.astype(np.float32)
    assert_close(
        central_jvp(np.sin, y, np.full_like(y, 3.0), central_step(y))[1],
        3 * np.cos(y),
        rtol=0.0,
        atol=1e-3,
    )
    assert not central_jvp(np.sin, y, np.zeros_like(y), 1e-2)[1].any()


class Altered:
    """A model with some of its methods replaced."""

    def __init__(self, model, call=None, jvp=None, **others):
        self._call = call or model.__call__
        self.jvp = jvp or model.jvp
        for name, method in others.items():
            setattr(self, name, method)

    def __call__(self, y, sigma):
        return self._call(y, sigma)


@pytest.fixture
def gaussian(rng):
    return GaussianScore(rng.standard_normal(3), covariance(rng, 3, 10.0))


def failing_laws(model, X, noise_levels=None):
    with pytest.raises(AssertionError, match=r"checks failed for .*\nFAILED .* at sigma=.*limit"):
        check_score_model(model, X, noise_levels)
    report = check_score_model(model, X, noise_levels, raise_on_failure=False)
    assert not report.passed
    return {check.law for check in report.failures}


def test_a_bare_callable_is_linearised_and_passes(gaussian):
    report = check_score_model(lambda y, sigma: gaussian(y, sigma), gaussian.sample(1000, 0))
    assert report.passed
    assert "symmetry of H" in str(report)
    assert not any(check.law == "finite differences" for check in report.checks)


def test_single_precision_models_pass(gaussian):
    check_score_model(gaussian, gaussian.sample(1000, 0).astype(np.float32))
    check_score_model(lambda y, s: gaussian(y, s), gaussian.sample(1000, 0).astype(np.float32))


def test_more_features_than_probes_are_checked_along_random_directions(rng):
    model = GaussianScore(np.zeros(12), covariance(rng, 12, 10.0))
    report = check_score_model(model, model.sample(500, 0), [0.5], n_probes=4)
    assert not any("moments, |H|^2" in check.law for check in report.checks)

    def rotated(y, sigma):
        return model(y, sigma) + 0.1 * (np.roll(y, 1, axis=1) - np.roll(y, -1, axis=1))

    report = check_score_model(
        rotated, model.sample(500, 0), [0.5], n_probes=4, raise_on_failure=False
    )
    assert "symmetry of H" in {check.law for check in report.failures}


def test_a_score_that_is_no_gradient_fails_symmetry(gaussian):
    turn = np.asarray([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    # a turn about the mean keeps E <s, y - mean> and tr H
    laws = failing_laws(
        lambda y, sigma: gaussian(y, sigma) + 0.1 * (y - gaussian.mean) @ turn / (1 + sigma**2),
        gaussian.sample(1000, 0),
    )
    assert "symmetry of H" in laws


def test_products_of_the_wrong_scale_fail_finite_differences(gaussian):
    def jvp(y, sigma, v):
        s, hv = gaussian.jvp(y, sigma, v)
        return s, 1.01 * hv

    assert "finite differences" in failing_laws(Altered(gaussian, jvp=jvp), gaussian.sample(500, 0))


def test_a_doubled_covariance_fails_steins_identity_at_small_noise_only(gaussian):
    doubled = GaussianScore(gaussian.mean, 2 * gaussian.covariance)
    X = gaussian.sample(1000, 0)
    assert "Stein's identity" in failing_laws(doubled, X, [0.05])
    # n (E|s|^2 + E tr H) / J is about lam/t here, below its error; the linear field is not
    laws = failing_laws(doubled, X, [5.0])
    assert laws == {"denoising residual, linear field"}


def test_a_gaussian_score_of_two_modes_satisfies_stein_and_fails_the_sine_field():
    two = GaussianMixtureScore([0.5, 0.5], [[-2.5], [2.5]], [[[0.1]], [[0.1]]])
    laws = failing_laws(GaussianScore([0.0], [[6.35]]), two.sample(2000, 0), [1.0])
    assert laws == {"denoising residual, sine field"}


def test_a_denoiser_that_overshoots_fails_positive_semi_definiteness():
    model = GaussianScore(np.zeros(2), np.eye(2))
    # I + tH = I - 2t/(1 + t) I is negative for t > 1
    laws = failing_laws(lambda y, sigma: 2 * model(y, sigma), model.sample(500, 0), [3.0])
    assert "I + tH positive semi-definite" in laws


def test_wrong_traces_and_moments_are_named(gaussian):
    def divergence(y, sigma):
        s, trace = gaussian.divergence(y, sigma)
        return s, trace + 1.0

    def moments(y, sigma, clean=None):
        found = vars(gaussian.moments(y, sigma, clean))
        return type(gaussian.moments(y, sigma))(
            **{k: v if v is None or k == "score" else 1.1 * v for k, v in found.items()}
        )

    laws = failing_laws(
        Altered(gaussian, divergence=divergence, moments=moments), gaussian.sample(500, 0), [0.5]
    )
    assert laws >= {
        "divergence equals tr H",
        "moments, tr H",
        "moments, |H|^2",
        "moments, tr(I + tH)",
        "moments, |I + tH|^2",
        "moments, residual form",
    }


def test_a_scale_in_the_model_fails_the_scale_law(gaussian):
    def rescaled(a):
        return GaussianScore(a * gaussian.mean, gaussian.covariance)

    report = check_score_model(
        gaussian, gaussian.sample(200, 0), rescaled=rescaled, raise_on_failure=False
    )
    assert {check.law for check in report.failures} == {"scale law, a=0.01", "scale law, a=3"}


@pytest.mark.parametrize(
    ("wrong", "law"),
    [
        (lambda s: s[:, :1], "shape and dtype of call"),
        (lambda s: s.astype(np.float32), "shape and dtype of call"),
        (lambda s: array_api_strict.asarray(s), "shape and dtype of call"),
        (lambda s: s.tolist(), "shape and dtype of call"),
        (lambda s: s * np.nan, "finite call"),
    ],
)
def test_outputs_of_the_wrong_kind_are_named(gaussian, wrong, law):
    model = Altered(gaussian, call=lambda y, sigma: wrong(gaussian(y, sigma)))
    assert law in failing_laws(model, gaussian.sample(100, 0))


def test_a_jvp_with_another_score_is_named(gaussian):
    def jvp(y, sigma, v):
        s, hv = gaussian.jvp(y, sigma, v)
        return 1.01 * s, hv

    laws = failing_laws(Altered(gaussian, jvp=jvp), gaussian.sample(100, 0))
    assert laws == {"jvp, score equals call"}


def test_check_score_model_refuses_noise_levels_that_are_not_positive(gaussian):
    with pytest.raises(ValueError, match=r"noise_levels is -1\.0"):
        check_score_model(gaussian, gaussian.sample(100, 0), [-1.0])


@pytest.mark.parametrize(
    ("actual", "desired", "message"),
    [
        (np.ones(2), array_api_strict.ones(2), "library: .* is not .*array_api_strict"),
        (np.ones(2, np.float32), np.ones(2), "dtype: float32 is not float64"),
        (np.ones((2, 1)), np.ones(2), r"shape: \(2, 1\) is not \(2,\)"),
        (
            np.asarray([[1.0, 2.0], [3.0, 4.5]]),
            np.asarray([[1.0, 2.1], [3.0, 4.0]]),
            r"2 of 4 values .* worst at \(1, 1\): 4.5 is not 4.0 \(difference 0.5\)",
        ),
        (np.asarray([np.nan]), np.ones(1), r".*worst at \(0,\): nan is not 1.0"),
        (np.asarray([np.inf]), np.asarray([-np.inf]), ".*inf is not -inf"),
        (np.asarray(1.0), np.asarray(2.0), r"1 of 1 values .* worst at \(\)"),
        (
            array_api_strict.ones(2, device=array_api_strict.Device("device1")),
            array_api_strict.ones(2),
            "device: .*device1.* is not",
        ),
    ],
)
def test_assert_close_names_what_differs(actual, desired, message):
    with pytest.raises(AssertionError, match=f"here: {message}"):
        assert_close(actual, desired, rtol=1e-3, err_msg="here")


def test_assert_close_takes_equal_infinities_and_nan():
    values = np.asarray([np.inf, -np.inf, np.nan, 1.0])
    assert_close(values, values * (1 + 1e-9), rtol=1e-8)
    assert_close(np.asarray([], dtype=float), np.asarray([], dtype=float), rtol=0.0)
    assert_close(np.asarray([True, False]), np.asarray([True, False]), rtol=0.0)
