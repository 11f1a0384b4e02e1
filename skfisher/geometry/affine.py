"""Is the encoder affine on the data, on what hull, and what map is it there."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from skfisher._backend.arrays import Array, index_like, like, namespace
from skfisher._backend.draws import integers, normal, seed_of
from skfisher._backend.validation import as_sample

__all__ = [
    "RETAINED",
    "AffineFit",
    "LinearMap",
    "affine_part",
    "as_latent",
    "hull_dimension",
    "hull_of",
    "log_squared_scale",
]

RETAINED = 1e-6
"""Singular values above this share of the largest count towards rank, scale and distortion."""

_POINTS_PER_COMBINATION = 4
_WHICH, _COEFFICIENTS = 511, 512  # streams of the draws


@dataclass(frozen=True, eq=False)
class LinearMap:
    """An encoder that is affine on the data: f(x) = image + matrix basis^T (x - origin).

    Attributes
    ----------
    matrix : array of shape (d, k)
        The map from the hull's orthonormal coordinates to the latent, in z/x.
    basis : array of shape (D, k)
        Orthonormal directions of the data's affine hull, by decreasing variance.
    origin, image : array of shape (D,), (d,)
        Mean of X and of Z.
    singular_values : array of shape (k,)
        Decreasing, in z/x; zeros for directions that are lost.
    rank_data, rank : int
        k, and the number of singular values above 1e-6 of the largest.
    m, L : float
        Smallest and largest singular value; m = 0 where a direction is lost.
    exact : bool
        Whether m and L hold on the whole affine hull of the data: the sample has more rows than
        its hull needs, or the hull is the whole space.
    verified : str
        How the affine form was verified.
    """

    matrix: Array
    basis: Array
    origin: Array
    image: Array
    singular_values: Array
    rank_data: int
    rank: int
    m: float
    L: float
    exact: bool
    verified: str

    def __call__(self, X: Array) -> Array:
        """Image of each row of X, shape (N, d)."""
        xp = namespace(X)
        coordinates = xp.matmul(X - self.origin[None, :], self.basis)
        return self.image[None, :] + xp.matmul(coordinates, xp.matrix_transpose(self.matrix))

    def __repr__(self) -> str:
        return (
            f"LinearMap(rank_data={self.rank_data}, rank={self.rank}, m={self.m:.6g}, "
            f"L={self.L:.6g}, exact={self.exact})"
        )


@dataclass(frozen=True, eq=False)
class AffineFit:
    """Whether an encoder is affine on the data.

    Attributes
    ----------
    verdict : str
        "affine", "not affine" or "unknown".
    residual : float
        Largest deviation from the affine form, as a share of the deviation that is let pass;
        NaN where nothing could be tested.
    reason : str
        What was tested, or why it could not be.
    map : LinearMap or None
        The map, where the verdict is "affine".
    """

    verdict: str
    residual: float
    reason: str
    map: LinearMap | None


def hull_dimension(X: Any, *, rtol: float | None = None) -> int:
    """Dimension k of the affine hull of the rows of X.

    Parameters
    ----------
    X : array of shape (N, n)
    rtol : float, optional
        Centred singular values count above `rtol` times the largest singular value of X with its
        mean. Default max(1e-8, 100 eps).

    Returns
    -------
    int
        0 for equal rows, at most min(N - 1, n).

    Examples
    --------
    >>> import numpy as np
    >>> hull_dimension(np.asarray([[0.0, 0.0, 1.0], [1.0, 1.0, 1.0], [2.0, 2.0, 1.0]]))
    1
    """
    X = as_sample(X)
    return int(hull_of(X, _tolerance(rtol, X))[2].shape[0])


def affine_part(
    encode: Callable[[Array], Array] | None,
    X: Any,
    Z: Any = None,
    *,
    rtol: float | None = None,
    n_combinations: int = 64,
    random_state: Any = 0,
) -> AffineFit:
    """Find out whether an encoder is affine on the data, and recover its matrix.

    Parameters
    ----------
    encode : callable or None
        Rows of X to rows of Z. With it, f(sum a_i x_i) = sum a_i f(x_i) is tested on random
        combinations of four rows with sum a_i = 1 and extrapolating a_i. With None, the pairs
        (X, Z) alone must show an affine fit by least squares.
    X : array of shape (N, D)
    Z : array of shape (N, d), optional
        encode(X), where it is known already.
    rtol : float, optional
        Tolerance of the affine form (per latent column, as a share of its RMS deviation) and of
        the hull's dimension. Default max(1e-8, 100 eps) of the coarser dtype.
    n_combinations : int
        Affine combinations that are tested.
    random_state : None, int, RandomState or Generator

    Returns
    -------
    AffineFit
        "unknown" from pairs alone when N <= k + 1, where any latent fits.

    Raises
    ------
    ValueError
        Neither `encode` nor `Z`; Z without one row per row of X; X of equal rows.

    Notes
    -----
    Least squares on the affine hull, from its singular value decomposition. A pass means affine to
    the tolerance, on the points that were tried. An encoder that refuses a point off the data with
    ValueError (as those do that want non-negative input) counts as not affine.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(50, 3))
    >>> A = np.diag([1.0, 2.0, 4.0])
    >>> fit = affine_part(lambda x: x @ A + 7.0, X)
    >>> fit.verdict, round(fit.map.m, 9), round(fit.map.L, 9)
    ('affine', 1.0, 4.0)
    >>> affine_part(np.tanh, X).verdict
    'not affine'
    """
    X = as_sample(X)
    if Z is None:
        if encode is None:
            raise ValueError("encode and Z are both None: pass an encoder, its output Z, or both.")
        Z = encode(X)
    Z = as_latent(X, Z)
    xp = namespace(X)
    tol = _tolerance(rtol, X, Z)
    eps = max(float(xp.finfo(X.dtype).eps), float(xp.finfo(Z.dtype).eps))
    given, common = X.dtype, xp.result_type(X.dtype, Z.dtype)
    X, Z = xp.astype(X, common), xp.astype(Z, common)
    N = X.shape[0]
    origin, U, S, V = hull_of(X, tol)
    k = int(S.shape[0])
    if k == 0:
        raise ValueError(
            f"X has {N} rows but a single distinct one: no direction to measure the encoder along; "
            f"pass at least two different rows."
        )
    spare = k + 1 < N
    image = xp.mean(Z, axis=0)
    centred = Z - image[None, :]
    # what passes, per latent column: a share of its spread, and the rounding of the largest column
    allowed = tol * xp.sqrt(xp.mean(centred**2, axis=0)) + 100 * eps * xp.max(xp.abs(Z))
    residual = math.nan
    U_Z = xp.matmul(xp.matrix_transpose(U), centred)
    if spare:
        residual = _share(centred - xp.matmul(U, U_Z), allowed)
    verified = f"least squares on {N} rows, hull of dimension {k}"
    if encode is not None:
        try:
            mixed, expected = _combinations(X, Z, n_combinations, seed_of(random_state))
            deviation = _image(encode, xp.astype(mixed, given), expected) - expected
        except ValueError as error:
            reason = f"the encoder refuses affine combinations of rows of X ({error})"
            return AffineFit("not affine", residual, reason, None)
        verified = f"{n_combinations} affine combinations and {verified}"
        residual = max(_share(deviation, allowed), residual if spare else 0.0)
    elif not spare:
        reason = (
            f"{N} rows span a hull of dimension {k}, where any latent fits: more than {k + 1} rows "
            f"or the encoder itself are needed"
        )
        return AffineFit("unknown", residual, reason, None)
    if not residual <= 1.0:
        return AffineFit("not affine", residual, verified, None)
    matrix = xp.matrix_transpose(U_Z / S[:, None])
    sigma = xp.linalg.svdvals(matrix)
    if sigma.shape[0] < k:
        sigma = xp.concat([sigma, like([0.0] * (k - sigma.shape[0]), sigma)])
    L, m = float(sigma[0]), float(sigma[k - 1])
    if float(xp.max(allowed)) / float(S[0]) * math.sqrt(N) >= L:
        sigma, L = xp.zeros_like(sigma), 0.0
    linear = LinearMap(
        matrix=matrix,
        basis=V,
        origin=origin,
        image=image,
        singular_values=sigma,
        rank_data=k,
        rank=int(xp.sum(xp.astype(sigma > RETAINED * L, xp.int64))) if L > 0 else 0,
        m=m if m > tol * L and L > 0 else 0.0,
        L=L,
        exact=spare or k == X.shape[1],
        verified=verified,
    )
    return AffineFit("affine", residual, verified, linear)


def as_latent(X: Array, Z: Any) -> Array:
    """Z checked as one latent row per row of X."""
    Z = as_sample(Z, name="Z")
    if Z.shape[0] != X.shape[0]:
        raise ValueError(
            f"Z has {Z.shape[0]} rows but X has {X.shape[0]}: the encoder must return one latent "
            f"row per row of X."
        )
    return Z


def hull_of(X: Array, tol: float) -> tuple[Array, Array, Array, Array]:
    """Mean, left vectors (N, k), singular values (k,) and directions (D, k) of the rows."""
    xp = namespace(X)
    origin = xp.mean(X, axis=0)
    centred = X - origin[None, :]
    Q = None
    if X.shape[0] > X.shape[1]:
        Q, centred = xp.linalg.qr(centred)
    U, S, Vt = xp.linalg.svd(centred, full_matrices=False)
    U = U if Q is None else xp.matmul(Q, U)
    # a mean far from zero brings its own rounding into the small singular values
    floor = 100.0 * float(xp.finfo(X.dtype).eps) * math.sqrt(X.shape[0])
    floor = max(tol * float(S[0]), floor * float(xp.max(xp.abs(X))))
    k = int(xp.sum(xp.astype(floor < S, xp.int64)))
    return origin, U[:, :k], S[:k], xp.matrix_transpose(Vt[:k, :])


def log_squared_scale(linear: LinearMap) -> float:
    """Logarithm of c^2 of an affine map: the mean log of its retained squared singular values."""
    if linear.rank == 0:
        return math.nan
    xp = namespace(linear.singular_values)
    return float(2.0 * xp.mean(xp.log(linear.singular_values[: linear.rank])))


def _tolerance(rtol: float | None, *arrays: Array) -> float:
    if rtol is not None:
        return float(rtol)
    return max(1e-8, *(100.0 * float(namespace(a).finfo(a.dtype).eps) for a in arrays))


def _share(deviation: Array, allowed: Array) -> float:
    """Largest deviation in any column, as a share of what is allowed there."""
    xp = namespace(deviation)
    worst = xp.max(xp.abs(deviation), axis=0)
    # 0 / 0: a column of zeros that stays zero
    return float(xp.max(xp.where(worst > 0, worst / xp.where(allowed > 0, allowed, worst), worst)))


def _combinations(X: Array, Z: Array, n_combinations: int, seed: int) -> tuple[Array, Array]:
    """Random sum a_i x_i and sum a_i z_i with sum a_i = 1: (n_combinations, D) and (., d)."""
    xp = namespace(X)
    rows, n = slice(0, n_combinations), _POINTS_PER_COMBINATION
    a = normal(seed, (_COEFFICIENTS,), rows, n - 1, X)
    a = xp.concat([1.0 - xp.sum(a, axis=1, keepdims=True), a], axis=1)
    which = integers(seed, (_WHICH,), rows, n, X.shape[0])
    mixed, expected = 0.0 * X[:1, :], 0.0 * Z[:1, :]
    for i in range(n):
        at = index_like(which[:, i], X)
        mixed = mixed + a[:, i : i + 1] * xp.take(X, at, axis=0)
        expected = expected + a[:, i : i + 1] * xp.take(Z, at, axis=0)
    return mixed, expected


def _image(encode: Callable[[Array], Array], points: Array, expected: Array) -> Array:
    with warnings.catch_warnings():  # what an encoder says of points off the data is no news
        warnings.simplefilter("ignore")
        image = encode(points)
    image = as_sample(image, name="the encoder's output")
    if image.shape != expected.shape:
        raise ValueError(f"shape {tuple(image.shape)} instead of {tuple(expected.shape)}")
    return image
