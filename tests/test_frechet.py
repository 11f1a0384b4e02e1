"""The Frechet distance: closed forms, derivatives by row, errors that mean what they say."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from skfisher.frechet import frechet_distance, frechet_of_samples


def normal(rng, n, cov):
    return rng.standard_normal((n, len(cov))) @ np.linalg.cholesky(cov).T


def test_frechet_distance_of_gaussians_is_the_closed_form():
    rng = np.random.default_rng(16)
    cov_a, cov_b = np.diag([1.0, 4.0, 9.0]), np.diag([4.0, 4.0, 1.0])
    truth = 3 * 0.25 + (1 - 2) ** 2 + 0 + (3 - 1) ** 2
    z = {"paired": [], "independent": []}
    for _ in range(40):
        A, B = normal(rng, 800, cov_a), normal(rng, 1600, cov_b) + 0.5
        value, stderr = frechet_distance(A, B[:800])
        z["paired"].append((value - truth) / stderr)
        found = frechet_of_samples(A, B)
        z["independent"].append((found.value - truth) / found.stderr)
    for values in z.values():
        assert abs(np.mean(values)) < 1.0
        assert 0.7 < np.std(values, ddof=1) < 1.4


def test_it_is_the_formula_with_roots_of_matrices(rng):
    A, B = rng.standard_normal((30, 4)) @ rng.standard_normal((4, 4)), rng.standard_normal((50, 4))
    S, T = np.cov(A.T), np.cov(B.T)
    root = sqrtm(S)
    gap = A.mean(axis=0) - B.mean(axis=0)
    expected = gap @ gap + np.trace(S + T - 2 * np.real(sqrtm(root @ T @ root)))
    assert frechet_of_samples(A, B).value == pytest.approx(expected, rel=1e-8)


def test_the_influence_is_the_derivative_in_a_rows_weight(rng):
    A, B = rng.standard_normal((60, 3)), 1.5 * rng.standard_normal((80, 3)) + 0.3
    w = rng.uniform(0.5, 2.0, 80)
    w /= w.sum()
    found = frechet_of_samples(A, B, w)
    assert abs(w @ found.influence_b) < 1e-12

    def value(weights):
        """Covariances without the correction for bias, whose own derivative is of order 1/N."""
        weights = weights / weights.sum()
        made = frechet_of_samples(A, (B - weights @ B) * np.sqrt(1 - weights @ weights), weights)
        shift = A.mean(axis=0) - weights @ B
        still = A.mean(axis=0) - weights @ ((B - weights @ B) * np.sqrt(1 - weights @ weights))
        return made.value + shift @ shift - still @ still

    step = 1e-6
    for row in (0, 7, 41):
        up, down = w.copy(), w.copy()
        up[row] += step
        down[row] -= step
        slope = (value(up) - value(down)) / (2 * step)
        assert slope == pytest.approx(found.influence_b[row], rel=0.05, abs=0.02)


def test_equal_weights_are_no_weights(rng):
    A, B = rng.standard_normal((40, 3)), rng.standard_normal((50, 3))
    plain, weighted = frechet_of_samples(A, B), frechet_of_samples(A, B, np.full(50, 3.0))
    assert weighted.value == pytest.approx(plain.value, rel=1e-12)
    assert weighted.stderr == pytest.approx(plain.stderr, rel=1e-12)


def test_features_that_do_not_vary_are_told_by_their_means(rng):
    A = np.concatenate([rng.standard_normal((40, 2)), np.ones((40, 1))], axis=1)
    found = frechet_of_samples(A, A + np.asarray([0.0, 0.0, 2.0]))
    assert found.value == pytest.approx(4.0, rel=1e-10)
    assert np.isfinite(found.stderr)


@pytest.mark.parametrize(
    ("n", "options"),
    [
        (1, {}),
        (4, {"weights": np.asarray([0.0, 1.0, 0.0, 0.0])}),
        (4, {"weights": np.asarray([0.0, 1.0, 1.0, 0.0]), "groups": np.asarray([0, 1, 1, 0])}),
    ],
)
def test_a_distance_without_an_error_is_refused(n, options):
    A = np.random.default_rng(0).normal(size=(5, 2))
    with pytest.raises(ValueError, match="at least two"):
        frechet_of_samples(A, A[:n] + 1.0, **options)
    with pytest.raises(ValueError, match="A has 1 independent rows"):
        frechet_of_samples(A[:1], A)
