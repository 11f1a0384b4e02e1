"""Samples of fewer rows than features, as latents of image models are."""

import array_api_strict
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from sklearn.covariance import ledoit_wolf

from skfisher import FIRateEstimator
from skfisher.candidates import fit_candidate
from skfisher.scores.fitting import fit_gaussian, sample_moments


def smooth_fields(n_rows, channels, side, seed=0):
    """Smooth random fields with edges, float32 rows of a latent (channels, side, side)."""
    rng = np.random.default_rng(seed)
    Z = rng.standard_normal((n_rows, channels, side, side))
    Z = gaussian_filter(Z, (0, 0, 1.5, 1.5), mode="wrap")
    Z = np.tanh(2 * Z / Z.std()) + 0.05 * rng.standard_normal(Z.shape)
    return Z.reshape(n_rows, -1).astype(np.float32)


@pytest.mark.parametrize(("n_rows", "n"), [(3, 5), (20, 20), (20, 60), (60, 61)])
def test_shrinkage_is_that_of_scikit_learn(n_rows, n, rng):
    X = rng.standard_normal((n_rows, n)) * np.linspace(0.2, 3.0, n) + 5.0
    expected, _ = ledoit_wolf(X)
    model = fit_gaussian(X)
    np.testing.assert_allclose(model.covariance, expected, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(model.mean, X.mean(axis=0), rtol=1e-12)


def test_equal_weights_change_nothing_and_others_count_as_weights(rng):
    X = rng.standard_normal((12, 30))
    plain = fit_gaussian(X).covariance
    np.testing.assert_allclose(fit_gaussian(X, np.full(12, 7.0)).covariance, plain, rtol=1e-10)
    w = rng.uniform(0.5, 2.0, 12)
    w /= w.sum()
    mean, S = sample_moments(X, w)
    U = X - mean
    error = np.sum(w**2 * np.sum((U[:, :, None] * U[:, None, :] - S) ** 2, axis=(1, 2)))
    level = np.trace(S) / 30
    share = error / np.sum((S - level * np.eye(30)) ** 2)
    expected = (1 - share) * S + share * level * np.eye(30)
    assert 0 < share < 1
    np.testing.assert_allclose(fit_gaussian(X, w).covariance, expected, rtol=1e-9, atol=1e-12)


def test_more_rows_than_features_are_not_shrunk(rng):
    X = rng.standard_normal((31, 30))
    np.testing.assert_array_equal(fit_gaussian(X).covariance, sample_moments(X)[1])


def test_constant_coordinates_get_no_variance(rng):
    X = np.concatenate([rng.standard_normal((10, 20)), np.full((10, 5), 0.1)], axis=1)
    S = fit_gaussian(X).covariance
    np.testing.assert_allclose(S[:20, :20], fit_gaussian(X[:, :20]).covariance, rtol=1e-10)
    assert not np.any(S[20:])
    # as many varying coordinates as make the sample a full one: nothing is shrunk
    few = np.where(np.arange(25) < 8, X, 0.1)
    np.testing.assert_allclose(fit_gaussian(few).covariance, sample_moments(few)[1], atol=1e-12)


def test_rows_that_fill_a_subspace_stay_in_it(rng):
    X = (rng.standard_normal((20, 3)) @ rng.standard_normal((3, 40))).astype(np.float32)
    X = X.astype(float)
    model = fit_gaussian(X)
    np.testing.assert_allclose(model.covariance, sample_moments(X)[1], atol=1e-9)
    trace = model.moments(X[:1], 0.01).denoiser_trace
    assert 2.9 < trace[0] <= 3.0


def test_directions_of_small_variance_are_at_right_angles(rng):
    X = rng.standard_normal((15, 40)) * np.logspace(0, -5, 40)
    Q = fit_gaussian(X)._Q
    np.testing.assert_allclose(Q.T @ Q, np.eye(14), atol=1e-12)


def test_equal_rows_are_a_point():
    model = fit_gaussian(np.full((3, 5), 0.3))
    assert not np.any(model.covariance)
    np.testing.assert_allclose(model.divergence(np.zeros((1, 5)), 2.0)[1], [-1.25])


def test_wide_samples_follow_the_array_library(rng):
    X = rng.standard_normal((6, 9))
    model = fit_gaussian(array_api_strict.asarray(X))
    np.testing.assert_allclose(np.asarray(model.covariance), fit_gaussian(X).covariance, rtol=1e-9)


def test_one_component_of_few_rows_is_the_shrunk_gaussian(rng):
    X = rng.standard_normal((6, 9))
    one = fit_candidate("mixture-1", X, None, 0)
    np.testing.assert_array_equal(one.covariance, fit_gaussian(X).covariance)


@pytest.mark.parametrize("score_model", ["auto", "gaussian", "mixture"])
def test_fewer_rows_than_features_give_a_curve(score_model):
    X = smooth_fields(150, 3, 8)
    est = FIRateEstimator(score_model=score_model, noise_levels=[0.3, 1.0]).fit(X)
    curve, n = est.curve_, X.shape[1]
    assert est.fisher_information_.dtype == np.float32
    t = np.asarray([0.3, 1.0]) ** 2
    # of the correlations some are seen: less noise is left than of independent coordinates
    alone = np.mean(X.var(axis=0) / (X.var(axis=0) + t[:, None]), axis=1)
    assert np.all(curve.effective_dimension / n < alone)
    assert np.all(curve.effective_dimension > 0)
    assert np.all(curve.fisher_information_rate > 0)


@pytest.mark.slow
def test_latents_of_four_thousand_dimensions_fit_in_memory_and_patience():
    X = smooth_fields(2000, 4, 32)
    n, t = X.shape[1], np.asarray([0.3, 1.0]) ** 2
    est = FIRateEstimator(
        score_model="auto", noise_levels=[0.3, 1.0], latent_shape=(4, 32, 32)
    ).fit(X)
    assert est.curve_.score_models == ("network", "network")
    closed = FIRateEstimator(score_model="gaussian", noise_levels=[0.3, 1.0]).fit(X)
    lower = [e.curve_.fisher_information_bounds[:, 0] * t / n for e in (est, closed)]
    assert np.all(lower[0] > lower[1])
    assert np.all(lower[0] < 1)
