"""Exact score of a Gaussian."""

from __future__ import annotations

from typing import Any

from skfisher._backend.arrays import Array, like, namespace
from skfisher._backend.draws import normal, seed_of
from skfisher._backend.validation import as_sigma
from skfisher.scores.closed.parameters import (
    NORMALS,
    as_count,
    as_parameter,
    as_points,
    log_normaliser,
    spectra,
)
from skfisher.scores.contract import LocalMoments

__all__ = ["GaussianScore"]


class GaussianScore:
    """Exact score of a Gaussian of any rank.

    Parameters
    ----------
    mean : array of shape (n,)
        In units of X.
    covariance : array of shape (n, n)
        Symmetric and positive semi-definite; zero eigenvalues are allowed, and negative ones of
        the size of rounding are set to zero.

    Attributes
    ----------
    mean, covariance : array
        As given, lists and integers in float64. The spectrum is kept in float64 and cast to each
        input's library, dtype and device.
    n_features : int
        n.
    name : str
        "gaussian".

    Raises
    ------
    TypeError
        Parameters, or points, that are not real numbers.
    ValueError
        Shapes that do not fit, NaN or infinity, a covariance that is not symmetric or has a
        clearly negative eigenvalue; points of another number of columns.

    Notes
    -----
    s = -(S + tI)^-1 (y - mean), H = -(S + tI)^-1; textbook identities.

    Examples
    --------
    >>> import numpy as np
    >>> model = GaussianScore(np.zeros(2), np.diag([3.0, 1.0]))
    >>> model(np.asarray([[4.0, 2.0]]), 1.0)
    array([[-1., -1.]])
    >>> model.moments(np.asarray([[4.0, 2.0]]), 1.0).hessian_trace
    array([-0.75])
    """

    name = "gaussian"

    def __init__(self, mean: Array, covariance: Array) -> None:
        self.mean, mu, _ = as_parameter(mean, "mean", 1)
        self.covariance, S, tolerance = as_parameter(covariance, "covariance", 2)
        n = mu.shape[0]
        if S.shape != (n, n):
            raise ValueError(
                f"covariance has shape {S.shape} but mean has {n} entries: pass a covariance of "
                f"shape ({n}, {n})."
            )
        lam, Q = spectra(S[None, :, :], tolerance, "covariance")
        self.n_features = n
        self._mean, self._lam, self._Q = mu, lam[0, :], Q[0, :, :]

    def __repr__(self) -> str:
        return f"GaussianScore(n_features={self.n_features})"

    def __sklearn_clone__(self) -> GaussianScore:
        return self

    def __call__(self, y: Array, sigma: float) -> Array:
        """Score at each row.

        Parameters
        ----------
        y : array of shape (m, n)
            Noisy points.
        sigma : float
            Noise level, in units of X.

        Returns
        -------
        array of shape (m, n)
            s, in 1/units of X.
        """
        xp = as_points(y, "y", self.n_features)
        total = self._lam + as_sigma(sigma) ** 2
        Q = like(self._Q, y)
        coordinates = xp.matmul(y - like(self._mean, y), Q)
        return -xp.matmul(coordinates / like(total, y), xp.matrix_transpose(Q))

    def jvp(self, y: Array, sigma: float, v: Array) -> tuple[Array, Array]:
        """Score and H v, each of shape (m, n); `y`, `v` of shape (m, n), `sigma` in units of X."""
        s = self(y, sigma)
        xp = as_points(v, "v", self.n_features, like_rows=y)
        Q = like(self._Q, y)
        total = like(self._lam + as_sigma(sigma) ** 2, y)
        return s, -xp.matmul(xp.matmul(v, Q) / total, xp.matrix_transpose(Q))

    def divergence(self, y: Array, sigma: float) -> tuple[Array, Array]:
        """Score (m, n) and tr H (m,) at the rows of `y`; `sigma` in units of X."""
        s = self(y, sigma)
        precision = 1 / (self._lam + as_sigma(sigma) ** 2)
        return s, _everywhere(-_sum(precision), y)

    def moments(self, y: Array, sigma: float, clean: Array | None = None) -> LocalMoments:
        """Score, traces and norms at each row of `y`.

        Parameters
        ----------
        y : array of shape (m, n)
            Noisy points.
        sigma : float
            Noise level, in units of X.
        clean : array of shape (m, n), optional
            Clean points, for `residual_form`.

        Returns
        -------
        LocalMoments
        """
        s = self(y, sigma)
        t = as_sigma(sigma) ** 2
        precision, shrink = 1 / (self._lam + t), self._lam / (self._lam + t)
        residual_form = None
        if clean is not None:
            xp = as_points(clean, "clean", self.n_features, like_rows=y)
            r = xp.matmul(clean - (y + t * s), like(self._Q, y))
            residual_form = xp.sum(r * r * like(shrink, y), axis=1)
        return LocalMoments(
            score=s,
            hessian_trace=_everywhere(-_sum(precision), y),
            hessian_squared_norm=_everywhere(_sum(precision**2), y),
            denoiser_trace=_everywhere(_sum(shrink), y),
            denoiser_squared_norm=_everywhere(_sum(shrink**2), y),
            residual_form=residual_form,
        )

    def log_density(self, y: Array, sigma: float) -> Array:
        """Log p_t at each row of `y`, shape (m,); the density is in units of X^-n."""
        xp = as_points(y, "y", self.n_features)
        total = self._lam + as_sigma(sigma) ** 2
        z = xp.matmul(y - like(self._mean, y), like(self._Q, y)) / like(total, y) ** 0.5
        return float(log_normaliser(total)) - 0.5 * xp.sum(z * z, axis=1)

    def sample(self, n_samples: int, random_state: Any = None) -> Array:
        """Draws of X, shape (n_samples, n), in the library, dtype and device of `mean`."""
        rows = slice(0, as_count(n_samples))
        z = normal(seed_of(random_state), (NORMALS,), rows, self.n_features, self._mean)
        xp = namespace(z)
        root = self._Q * xp.sqrt(self._lam)
        return like(self._mean + xp.matmul(z, xp.matrix_transpose(root)), self.mean)


def _sum(x: Array) -> Array:
    return namespace(x).sum(x, axis=-1)


def _everywhere(value: Any, y: Array) -> Array:
    """One number at every row of `y`."""
    xp = namespace(y)
    return xp.zeros_like(y[:, 0]) + like(value, y)
