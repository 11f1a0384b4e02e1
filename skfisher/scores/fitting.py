"""Closed-form score models fitted to a sample: Gaussian, and mixtures of several sizes."""

from __future__ import annotations

import warnings
from typing import Any

from skfisher._backend.arrays import Array, like, namespace, to_numpy
from skfisher._backend.draws import systematic_counts
from skfisher._backend.threads import single_blas_thread
from skfisher.scores.closed import GaussianMixtureScore, GaussianScore

__all__ = ["fit_gaussian", "fit_mixture", "mixture_sizes", "sample_moments"]

_SIZES = (2, 4, 8, 16, 32, 64)


def fit_gaussian(X: Array, weights: Array | None = None) -> GaussianScore:
    """Gaussian score of the weighted sample moments (maximum likelihood).

    Parameters
    ----------
    X : array of shape (N, n)
    weights : array of shape (N,) or None

    Examples
    --------
    >>> import numpy as np
    >>> model = fit_gaussian(np.asarray([[0.0], [2.0]]))
    >>> model(np.asarray([[3.0]]), 1.0)
    array([[-1.]])
    """
    return GaussianScore(*sample_moments(X, weights))


def sample_moments(X: Array, weights: Array | None = None) -> tuple[Array, Array]:
    """Weighted mean (n,) and covariance (n, n), by maximum likelihood (divided by N)."""
    mean, centred, w = _centred(X, weights)
    return mean, centred.T @ (centred * w[:, None])


def mixture_sizes(n_rows: int, n_features: int) -> tuple[int, ...]:
    """Numbers of components that leave at least three rows to each free parameter's axis.

    A full covariance in n dimensions needs more than n rows; 3 (n + 1) rows to a component keep
    its condition bounded, and the held-out score decides among the sizes that remain.
    """
    return tuple(k for k in _SIZES if 3 * k * (n_features + 1) <= n_rows)


def fit_mixture(
    X: Array,
    n_components: int,
    weights: Array | None = None,
    *,
    seed: int = 0,
    start: GaussianMixtureScore | None = None,
    max_iter: int = 50,
) -> GaussianMixtureScore:
    """Gaussian mixture with full covariances by expectation-maximisation (scikit-learn).

    The sample is brought to unit RMS scale first, so that the regularisation of the covariances,
    1e-6 of the mean variance, does not depend on the unit of X.

    Parameters
    ----------
    X : array of shape (N, n)
    n_components : int
    weights : array of shape (N,) or None
        scikit-learn's mixtures take none; rows are repeated by systematic resampling instead,
        exactly for integer weights.
    seed : int
    start : GaussianMixtureScore or None
        Where the iterations start; otherwise k-means++.
    max_iter : int

    Examples
    --------
    >>> import numpy as np
    >>> X = np.concatenate([np.linspace(-4, -3, 50), np.linspace(3, 4, 50)])[:, None]
    >>> [round(float(m), 3) for m in sorted(fit_mixture(X, 2).means[:, 0])]
    [-3.5, 3.5]
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    if n_components == 1:
        mean, covariance = sample_moments(X, weights)
        return GaussianMixtureScore([1.0], mean[None, :], covariance[None, :, :])
    xp = namespace(X)
    mean, centred, w = _centred(X, weights)
    scale = float(xp.sqrt(xp.sum(w * xp.mean(centred * centred, axis=1))))
    sample = to_numpy(centred / scale)
    if weights is not None:
        sample = sample.repeat(systematic_counts(to_numpy(weights), seed), axis=0)
    options: dict[str, Any] = {"init_params": "k-means++"}
    if start is not None:
        covariances = to_numpy(start.covariances) / scale**2
        options |= {
            "weights_init": to_numpy(start.weights),
            "means_init": to_numpy((start.means - mean) / scale),
            "precisions_init": to_numpy(xp.linalg.inv(like(covariances, X))),
        }
    mixture = GaussianMixture(n_components, max_iter=max_iter, random_state=seed, **options)
    # its many small triangular solves run ten times slower when BLAS threads contend for them
    with warnings.catch_warnings(), single_blas_thread():
        # a mixture short of its optimum is a score model like any other: the held-out score judges
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture.fit(sample)
    return GaussianMixtureScore(
        like(mixture.weights_, X),
        like(mixture.means_, X) * scale + mean,
        like(mixture.covariances_, X) * scale**2,
    )


def _centred(X: Array, weights: Array | None) -> tuple[Array, Array, Array]:
    xp = namespace(X)
    n_rows = X.shape[0]
    w = xp.full((n_rows,), 1 / n_rows, dtype=X.dtype) if weights is None else weights
    w = w / xp.sum(w)
    # centring twice: the first mean of a sample far from the origin carries rounding of its offset
    mean = xp.sum(w[:, None] * X, axis=0)
    mean = mean + xp.sum(w[:, None] * (X - mean), axis=0)
    return mean, X - mean, w
