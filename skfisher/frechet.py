"""The Frechet distance of two samples as Gaussians, and what each row does to it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from skfisher._backend.arrays import Array, namespace, to_numpy
from skfisher._backend.rows import error_of_mean
from skfisher._backend.validation import as_groups

__all__ = ["FrechetDistance", "frechet_distance", "frechet_of_samples"]


@dataclass(frozen=True, eq=False)
class FrechetDistance:
    """A squared Frechet (Bures-Wasserstein) distance of two independent samples as Gaussians.

    Attributes
    ----------
    value : float
        In squared units of the rows; biased upwards by about c / N where the two hardly differ.
    influence_a : array of shape (N,)
    influence_b : array of shape (M,)
        By how much the value moves with each row's weight, per weight; of mean zero.
    stderr_a, stderr_b : float
        The parts of its standard error that are due to the rows of either, independent as they are.
    """

    value: float
    influence_a: Array
    influence_b: Array
    stderr_a: float
    stderr_b: float

    @property
    def stderr(self) -> float:
        """Standard error of the value."""
        return math.hypot(self.stderr_a, self.stderr_b)


def frechet_of_samples(
    A: Array, B: Array, weights: Array | None = None, groups: Any = None
) -> FrechetDistance:
    """|m_A - m_B|^2 + tr(S_A + S_B) - 2 tr (S_A^1/2 S_B S_A^1/2)^1/2 of independent samples.

    Parameters
    ----------
    A, B : array of shape (N, q), (M, q)
        At least two rows each.
    weights : array of shape (M,), optional
        Of the rows of B, two of them positive at least.
    groups : array of labels of shape (M,), optional
        Rows of B with one label enter its error as one.

    Returns
    -------
    FrechetDistance

    Raises
    ------
    ValueError
        If fewer than two rows, or two groups, of positive weight leave no error to measure.

    Notes
    -----
    The last term is the sum of the singular values of S_A^1/2 S_B^1/2, which is exact to rounding
    where both are equal. With the optimal map T = S_A^-1/2 (S_A^1/2 S_B S_A^1/2)^1/2 S_A^-1/2 the
    derivatives are I - T along S_A and I - T^-1 along S_B (pseudo-inverses where singular).

    Examples
    --------
    >>> import numpy as np
    >>> A = np.random.default_rng(0).standard_normal((50, 3))
    >>> found = frechet_of_samples(A, A[:40] + 1.0)
    >>> bool(abs(found.influence_b.mean()) < 1e-12), found.influence_a.shape
    (True, (50,))
    """
    xp = namespace(A)
    groups = as_groups(groups, B.shape[0])
    for name, rows in (("A", A.shape[0]), ("B", _independent(B, weights, groups))):
        if rows < 2:
            raise ValueError(
                f"{name} has {rows} independent rows of positive weight: pass at least two."
            )
    a, mean_a, cov_a, w_a = _moments(A, None)
    b, mean_b, cov_b, w_b = _moments(B, weights)
    gap = mean_a - mean_b
    (half_a, back_a), (half_b, _) = _roots(cov_a), _roots(cov_b)
    left, size, _ = xp.linalg.svd(half_a @ half_b, full_matrices=False)
    value = float(xp.sum(gap**2)) + float(xp.linalg.trace(cov_a) + xp.linalg.trace(cov_b))
    value = max(value - 2 * float(xp.sum(size)), 0.0)
    live = size > 1e-8 * xp.max(size)
    inverse = xp.where(live, 1 / xp.where(live, size, xp.ones_like(size)), 0 * size)
    # columns of `left` beyond the rank carry no weight in either map
    forward = back_a @ ((left * size[None, :]) @ left.T) @ back_a
    backward = half_a @ ((left * inverse[None, :]) @ left.T) @ half_a
    of_a = 2 * (a @ gap) + xp.sum(a * (a - a @ forward), axis=1)
    of_b = -2 * (b @ gap) + xp.sum(b * (b - b @ backward), axis=1)
    of_a, of_b = (f - xp.sum(w * f) for f, w in ((of_a, w_a), (of_b, w_b)))
    errors = error_of_mean(of_a, w_a), error_of_mean(of_b, w_b, groups)
    return FrechetDistance(value, of_a, of_b, *errors)


def frechet_distance(A: Array, B: Array) -> tuple[float, float]:
    """Squared Frechet (Bures-Wasserstein) distance of paired samples as Gaussians, and its error.

    Parameters
    ----------
    A, B : arrays of shape (N, q)
        Rows in pairs: the error is that of pairs (a_n, b_n) drawn together.

    Returns
    -------
    value, stderr : float

    Notes
    -----
    As `frechet_of_samples`.

    Examples
    --------
    >>> import numpy as np
    >>> A = np.random.default_rng(0).standard_normal((50, 3))
    >>> value, stderr = frechet_distance(A, A + 1.0)
    >>> round(value, 8), round(stderr, 8)
    (3.0, 0.0)
    """
    found = frechet_of_samples(A, B)
    both = found.influence_a + found.influence_b
    xp, n_rows = namespace(both), both.shape[0]
    return found.value, math.sqrt(float(xp.sum(both**2)) / (n_rows * (n_rows - 1)))


def _independent(X: Array, weights: Any, groups: Any) -> int:
    """Rows of positive weight, those of one group counting once."""
    kept = [True] * X.shape[0] if weights is None else [float(w) > 0 for w in to_numpy(weights)]
    codes = range(len(kept)) if groups is None else groups
    return len({int(code) for code, keep in zip(codes, kept, strict=True) if keep})


def _moments(X: Array, weights: Array | None) -> tuple[Array, Array, Array, Any]:
    """Centred rows, mean, covariance without bias, and weights of sum one."""
    xp = namespace(X)
    w = xp.full_like(X[:, 0], 1 / X.shape[0]) if weights is None else weights / xp.sum(weights)
    mean = xp.sum(w[:, None] * X, axis=0)
    x = X - mean
    return x, mean, x.T @ (x * w[:, None]) / (1 - float(xp.sum(w * w))), w


def _roots(cov: Array) -> tuple[Array, Array]:
    """Root of a covariance, and the pseudo-inverse of it."""
    xp = namespace(cov)
    values, vectors = xp.linalg.eigh(cov)
    live = values > 1e-12 * xp.max(values)
    root = xp.sqrt(xp.where(live, values, 0 * values))
    inverse = xp.where(live, 1 / xp.where(live, root, xp.ones_like(root)), 0 * root)
    return (vectors * root[None, :]) @ vectors.T, (vectors * inverse[None, :]) @ vectors.T
