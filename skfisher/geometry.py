"""The encoder as a map between metric spaces: is it affine, how far does it stretch, what is lost.

Letters: X in R^D is the data, Z = f(X) in R^d the latent, k the dimension of the data's affine
hull, sigma_i the singular values of f on the directions of that hull, m and L constants with
m |x - x'| <= |f(x) - f(x')| <= L |x - x'| for all pairs.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from skfisher._backend.arrays import Array, index_like, like, namespace, row_chunks
from skfisher._backend.draws import integers, normal, seed_of
from skfisher._backend.pairs import (
    far_pairs,
    near_pairs,
    pair_mean,
    union_of_pairs,
)
from skfisher._backend.rows import distinct_rows
from skfisher._backend.validation import as_sample

__all__ = [
    "AffineFit",
    "BiLipschitz",
    "LinearMap",
    "Penalties",
    "Scale",
    "affine_part",
    "bi_lipschitz",
    "hull_dimension",
    "penalties",
    "scale",
]

RETAINED = 1e-6
"""Singular values above this share of the largest count towards rank, scale and distortion."""

QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
"""Levels at which the ratios of sampled pairs are kept."""

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


@dataclass(frozen=True, eq=False)
class BiLipschitz:
    """Bi-Lipschitz constants of an encoder, and the ratios |z - z'| / |x - x'| of sampled pairs.

    Attributes
    ----------
    m, L : float
        In z/x. Exact for affine encoders; otherwise the extreme ratios of the sampled pairs, so the
        true m is not larger and the true L not smaller. m = 0 for a folded latent, L = inf where
        equal rows of X have different latents.
    exact : bool
        Whether m and L are constants for all pairs.
    kind : str
        What m and L are, in words.
    quantile_levels : array of shape (9,)
        0, 1, 5, 25, 50, 75, 95, 99 and 100 %.
    near_quantiles, latent_near_quantiles, far_quantiles : array of shape (9,)
        Of the ratios over nearest neighbours in X, nearest neighbours in Z, and random pairs.
    near_pairs, near_ratios : arrays of shape (P, 2), (P,)
        The pairs of nearest neighbours in X (row numbers of X) and their ratios.
    smallest_pair, largest_pair : tuple of int
        Rows of X between which the extreme sampled ratios lie.
    n_pairs : int
        Distinct pairs compared, over the three kinds.
    n_folded : int
        Pairs of different points with one latent (to rounding).
    n_conflicts : int
        Rows of X equal to an earlier row but with another latent: then Z is no function of X.
    """

    m: float
    L: float
    exact: bool
    kind: str
    quantile_levels: Array
    near_quantiles: Array
    latent_near_quantiles: Array
    far_quantiles: Array
    near_pairs: Array
    near_ratios: Array
    smallest_pair: tuple[int, int]
    largest_pair: tuple[int, int]
    n_pairs: int
    n_folded: int
    n_conflicts: int

    def __repr__(self) -> str:
        return f"BiLipschitz(m={self.m:.6g}, L={self.L:.6g}, kind={self.kind!r})"


@dataclass(frozen=True, eq=False)
class Scale:
    """The one scale c at which data at noise t is compared with the latent at c^2 t.

    Attributes
    ----------
    c : float
        In z/x; NaN where every direction is lost.
    log_squared, log_squared_stderr : float
        log c^2 and its standard error (0 where exact).
    exact : bool
    kind : str
        How it was found.
    """

    c: float
    log_squared: float
    log_squared_stderr: float
    exact: bool
    kind: str


@dataclass(frozen=True, eq=False)
class Penalties:
    """The four penalties as geometry, without unit except the curvatures (1/x^2).

    Attributes
    ----------
    dimensional_compression : float
        Share of the data's own directions that are lost, 1 - rank / k.
    tangential_distortion : float
        E |log(G / c^2)|_F^2 / rank over the retained values, G the pull-back metric.
    encoder_curvature, data_curvature : float
        Mean squared acceleration of images of geodesics, mean squared second fundamental form.
    data_dimension, latent_dimension, intrinsic_dimension : int
        D, d and k.
    reasons : mapping of str to str
        For each of the four: how it was found and under which condition, or why it is NaN.
    along_noise : object or None
        The account of the Fisher information rate along the noise, where one was made.
    """

    dimensional_compression: float
    tangential_distortion: float
    encoder_curvature: float
    data_curvature: float
    data_dimension: int
    latent_dimension: int
    intrinsic_dimension: int
    reasons: Mapping[str, str]
    along_noise: Any = None


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
    return int(_hull(X, _tolerance(rtol, X))[2].shape[0])


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
    Z = _as_latent(X, Z)
    xp = namespace(X)
    tol = _tolerance(rtol, X, Z)
    eps = max(float(xp.finfo(X.dtype).eps), float(xp.finfo(Z.dtype).eps))
    given, common = X.dtype, xp.result_type(X.dtype, Z.dtype)
    X, Z = xp.astype(X, common), xp.astype(Z, common)
    N = X.shape[0]
    origin, U, S, V = _hull(X, tol)
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


def bi_lipschitz(
    X: Any,
    Z: Any,
    *,
    linear: LinearMap | None = None,
    n_pairs: int = 20_000,
    n_neighbors: int = 5,
    random_state: Any = 0,
) -> BiLipschitz:
    """Bi-Lipschitz constants m and L of Z = f(X).

    Parameters
    ----------
    X, Z : arrays of shape (N, D), (N, d)
    linear : LinearMap, optional
        From `affine_part`; then m and L are its extreme singular values.
    n_pairs : int
        At most so many pairs of each kind; all pairs of X where they are no more than that.
    n_neighbors : int
        Neighbours per point in the two near kinds.
    random_state : None, int, RandomState or Generator

    Returns
    -------
    BiLipschitz
        Without `linear` an inner estimate: every pair is a fact, the pairs not drawn are unknown,
        so m is biased upward, L downward, and no standard error describes it.

    Raises
    ------
    ValueError
        Z without one row per row of X; fewer than two different rows of X.

    Notes
    -----
    Singular values of Df on tangents, which short pairs approach, are no substitute for chords: an
    almost full circle unrolled has all singular values 1 and an L without limit (see the theory
    page of the documentation). Hence pairs near in X, near in Z (folds) and far apart.

    Examples
    --------
    >>> import numpy as np
    >>> angle = np.linspace(0.1, 6.2, 400)
    >>> circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    >>> found = bi_lipschitz(circle, angle[:, None], n_pairs=100_000)
    >>> found.exact, round(found.m, 3), found.L > 30
    (False, 1.0, True)
    """
    X = as_sample(X)
    Z = _as_latent(X, Z)
    xp = namespace(X)
    seed = seed_of(random_state)
    rows, place = distinct_rows(X)
    first_equal = rows[place]
    if len(rows) < 2:
        raise ValueError(
            f"X has {X.shape[0]} rows but {len(rows)} distinct: pass at least two different rows."
        )
    rounding_x = 1e3 * float(xp.finfo(X.dtype).eps) * float(xp.max(xp.abs(X)))
    rounding_z = 1e3 * float(xp.finfo(Z.dtype).eps) * float(xp.max(xp.abs(Z)))
    moved = _row_norms(Z - xp.take(Z, index_like(first_equal, Z), axis=0)) > rounding_z
    n_conflicts = int(xp.sum(xp.astype(moved, xp.int64)))

    at = index_like(rows, X)
    near_x = near_pairs(seed, xp.take(X, at, axis=0), n_neighbors, n_pairs)
    near_z = near_pairs(seed, xp.take(Z, at, axis=0), n_neighbors, n_pairs)
    far = far_pairs(seed, len(rows), n_pairs)
    union, members = union_of_pairs([rows[part] for part in (near_x, near_z, far)])
    pairs = index_like(union, X)
    dx, dz = _pair_distances(X, pairs), _pair_distances(Z, pairs)
    apart = xp.nonzero(dx > rounding_x)[0]
    if apart.shape[0] == 0:
        raise ValueError(f"X has {len(rows)} distinct rows, equal to rounding: centre X first.")
    ratio = xp.where(dz > rounding_z, dz / dx, xp.zeros_like(dz))
    ratio = xp.where(dx > rounding_x, ratio, xp.full_like(ratio, math.nan))
    known = xp.take(ratio, apart, axis=0)
    n_folded = int(xp.sum(xp.astype(known == 0.0, xp.int64)))
    at_m, at_L = int(apart[int(xp.argmin(known))]), int(apart[int(xp.argmax(known))])
    smallest_pair = (int(union[at_m, 0]), int(union[at_m, 1]))
    largest_pair = (int(union[at_L, 0]), int(union[at_L, 1]))
    near, latent_near, distant = (xp.take(ratio, index_like(part, X), axis=0) for part in members)
    measured = xp.nonzero(xp.isfinite(near))[0]
    m, L = float(ratio[at_m]), float(ratio[at_L])
    exact, kind = False, "inner estimate from pairs: not refuted"
    if n_conflicts:
        row = int(xp.argmax(xp.astype(moved, xp.int64)))
        largest_pair = (int(first_equal[row]), row)
        L, kind = math.inf, "equal rows of X have different latents: Z is no function of X"
    elif linear is not None:
        m, L, exact = linear.m, linear.L, linear.exact
        kind = "exact on the affine hull" if exact else "exact on the hull of the sample only"
    elif n_folded:
        kind = "folded: different points have one latent"
    return BiLipschitz(
        m=m,
        L=L,
        exact=exact,
        kind=kind,
        quantile_levels=like(QUANTILES, X),
        near_quantiles=_quantiles(near),
        latent_near_quantiles=_quantiles(latent_near),
        far_quantiles=_quantiles(distant),
        near_pairs=xp.take(pairs, xp.take(index_like(members[0], X), measured, axis=0), axis=0),
        near_ratios=xp.take(near, measured, axis=0),
        smallest_pair=smallest_pair,
        largest_pair=largest_pair,
        n_pairs=int(apart.shape[0]),
        n_folded=n_folded,
        n_conflicts=n_conflicts,
    )


def scale(lipschitz: BiLipschitz | None = None, *, linear: LinearMap | None = None) -> Scale:
    """Find the global scale c of an encoder: log c^2 = E tr log G / rank over retained values.

    Parameters
    ----------
    lipschitz : BiLipschitz, optional
        Its near pairs give the estimate where the encoder is not affine.
    linear : LinearMap, optional
        Gives c exactly, as the geometric mean of the retained singular values.

    Returns
    -------
    Scale
        From pairs: the mean log squared ratio of near pairs above 1e-6 of the largest, with a
        standard error in which pairs that share a point are dependent. Biased upward where G is
        anisotropic, as log u^T G u exceeds tr log G / k in the mean over directions u, and by
        curvature over the neighbours' distance.

    Raises
    ------
    ValueError
        Neither argument.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(60, 3))
    >>> round(scale(linear=affine_part(lambda x: x * np.asarray([1.0, 2.0, 4.0]), X).map).c, 9)
    2.0
    """
    if linear is not None:
        log_squared = _log_squared_scale(linear)
        kind = "exact: geometric mean of the retained singular values"
        if not linear.exact:
            kind += ", on the hull of the sample"
        return Scale(math.exp(log_squared / 2), log_squared, 0.0, linear.exact, kind)
    if lipschitz is None:
        raise ValueError("lipschitz and linear are both None: pass one of them.")
    ratio = lipschitz.near_ratios
    xp = namespace(ratio)
    kind = "estimate from near pairs"
    kept = ratio > RETAINED * (xp.max(ratio) if ratio.shape[0] else 0.0)
    if not bool(xp.any(kept)):
        return Scale(math.nan, math.nan, math.nan, False, f"{kind}: every one of them is lost")
    pairs = xp.take(lipschitz.near_pairs, xp.nonzero(kept)[0], axis=0)
    log_squared, stderr = pair_mean(2.0 * xp.log(ratio[kept]), pairs)
    return Scale(math.exp(log_squared / 2), log_squared, stderr, False, kind)


def penalties(
    X: Any,
    Z: Any,
    *,
    linear: LinearMap | None = None,
    intrinsic_dimension: int | None = None,
    along_noise: Any = None,
) -> Penalties:
    """Dimensional compression, tangential distortion, encoder curvature and data curvature.

    Parameters
    ----------
    X, Z : arrays of shape (N, D), (N, d)
    linear : LinearMap, optional
        From `affine_part`; makes the three encoder terms exact for data that fill their hull.
    intrinsic_dimension : int, optional
        k, the dimension of the data's tangent spaces, where it is known. Default the dimension of
        their affine hull.
    along_noise : object, optional
        An account along the noise, kept beside the four.

    Returns
    -------
    Penalties
        NaN, with the reason, where only derivatives or local fits would tell.

    Raises
    ------
    ValueError
        Z without one row per row of X; X of equal rows; `intrinsic_dimension` out of 1..hull.

    Notes
    -----
    Definitions: the theory page of the documentation, after Gu et al., arXiv 2604.02751. For
    affine f on data that fill their hull: 1 - rank / k and
    (1 / rank) sum (log(sigma_i^2 / c^2))^2. Curved data of smaller dimension than their hull may
    lose fewer of their directions than this says.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(60, 3))
    >>> Z = X * np.asarray([1.0, 2.0, 4.0])
    >>> found = penalties(X, Z, linear=affine_part(None, X, Z).map)
    >>> round(found.tangential_distortion, 2), found.dimensional_compression
    (1.28, 0.0)
    """
    X = as_sample(X)
    Z = _as_latent(X, Z)
    hull = linear.rank_data if linear is not None else hull_dimension(X)
    if hull == 0:
        raise ValueError(
            f"X has {X.shape[0]} rows but a single distinct one: pass at least two different rows."
        )
    k = hull if intrinsic_dimension is None else int(intrinsic_dimension)
    if not 1 <= k <= hull:
        raise ValueError(
            f"intrinsic_dimension is {k}, but the affine hull of X has dimension {hull}: pass a "
            f"value from 1 to {hull}, or None."
        )
    fills = "for data that fill their affine hull"
    if linear is not None and not linear.exact:
        fills += ", of which this sample spans a part"
    reasons = {"data_curvature": "not measured: needs local quadratic fits of the data"}
    if linear is not None and k == hull:
        xp = namespace(linear.singular_values)
        compression = 1.0 - linear.rank / k
        reasons["dimensional_compression"] = f"exact for an affine encoder, {fills}"
        if linear.rank:
            retained = linear.singular_values[: linear.rank]
            spread = 2.0 * xp.log(retained) - _log_squared_scale(linear)
            distortion = float(xp.mean(spread**2))
            reasons["tangential_distortion"] = f"exact for an affine encoder, {fills}"
        else:
            distortion = math.nan
            reasons["tangential_distortion"] = "every direction is lost"
    else:
        rank = linear.rank if linear is not None else hull_dimension(Z)
        compression = max(0.0, 1.0 - rank / k)
        condition = fills if k == hull else f"for data of dimension {k}"
        reasons["dimensional_compression"] = (
            f"lower bound {condition}: what the {rank} dimensions of the latent's hull force"
        )
        distortion = math.nan
        reasons["tangential_distortion"] = (
            "not measured: needs the encoder's derivatives along the data's tangents"
        )
    curvature = math.nan
    reasons["encoder_curvature"] = "not measured: needs the encoder's second derivatives"
    if linear is not None and k == hull:
        curvature = 0.0
        reasons["encoder_curvature"] = f"exact for an affine encoder, {fills}"
    return Penalties(
        dimensional_compression=compression,
        tangential_distortion=distortion,
        encoder_curvature=curvature,
        data_curvature=math.nan,
        data_dimension=int(X.shape[1]),
        latent_dimension=int(Z.shape[1]),
        intrinsic_dimension=k,
        reasons=reasons,
        along_noise=along_noise,
    )


def _as_latent(X: Array, Z: Any) -> Array:
    Z = as_sample(Z, name="Z")
    if Z.shape[0] != X.shape[0]:
        raise ValueError(
            f"Z has {Z.shape[0]} rows but X has {X.shape[0]}: the encoder must return one latent "
            f"row per row of X."
        )
    return Z


def _tolerance(rtol: float | None, *arrays: Array) -> float:
    if rtol is not None:
        return float(rtol)
    return max(1e-8, *(100.0 * float(namespace(a).finfo(a.dtype).eps) for a in arrays))


def _hull(X: Array, tol: float) -> tuple[Array, Array, Array, Array]:
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


def _log_squared_scale(linear: LinearMap) -> float:
    if linear.rank == 0:
        return math.nan
    xp = namespace(linear.singular_values)
    return float(2.0 * xp.mean(xp.log(linear.singular_values[: linear.rank])))


def _row_norms(rows: Array) -> Array:
    xp = namespace(rows)
    return xp.sqrt(xp.sum(rows**2, axis=1))


def _pair_distances(points: Array, pairs: Array) -> Array:
    """|p_i - p_j| for each pair of row numbers, in chunks."""
    xp = namespace(points)
    parts = [
        _row_norms(
            xp.take(points, pairs[chunk, 0], axis=0) - xp.take(points, pairs[chunk, 1], axis=0)
        )
        for chunk in row_chunks(pairs.shape[0], 32.0 * points.shape[1])
    ]
    return xp.concat(parts)


def _quantiles(values: Array) -> Array:
    xp = namespace(values)
    values = values[xp.isfinite(values)]
    if values.shape[0] == 0:
        return like([math.nan] * len(QUANTILES), values)
    ordered = xp.sort(values)
    last = ordered.shape[0] - 1
    out = []
    for level in QUANTILES:
        low = math.floor(level * last)
        share = level * last - low
        at_low, at_high = float(ordered[low]), float(ordered[min(low + 1, last)])
        out.append(at_low + share * (at_high - at_low))
    return like(out, values)
