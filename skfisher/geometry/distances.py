"""How far an encoder stretches distances: bi-Lipschitz constants over pairs, and one scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from skfisher._backend.arrays import Array, index_like, like, namespace, row_chunks
from skfisher._backend.draws import seed_of
from skfisher._backend.pairs import far_pairs, near_pairs, pair_mean, union_of_pairs
from skfisher._backend.rows import distinct_rows
from skfisher._backend.validation import as_sample
from skfisher.geometry.affine import RETAINED, LinearMap, as_latent, log_squared_scale

__all__ = [
    "QUANTILES",
    "BiLipschitz",
    "Scale",
    "bi_lipschitz",
    "pair_distances",
    "quantiles_of",
    "scale",
]

QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
"""Levels at which the ratios of sampled pairs are kept."""


@dataclass(frozen=True, eq=False)
class BiLipschitz:
    """Bi-Lipschitz constants of an encoder, and the ratios |z - z'| / |x - x'| of sampled pairs.

    Attributes
    ----------
    m, L : float
        In z/x. Exact for affine encoders; otherwise the extremes of the ratios of the sampled pairs
        and of the singular values on tangents, where these are given, so the true m is not larger
        and the true L not smaller. m = 0 for a folded latent or a lost direction, L = inf where
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
    pair_constants : tuple of float
        Smallest and largest ratio of the sampled pairs alone.
    tangent_constants : tuple of float
        Smallest and largest singular value of Df on the data's tangents, which say only that m is
        not larger than the one and L not smaller than the other; NaN where none were given.
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
    pair_constants: tuple[float, float] = (math.nan, math.nan)
    tangent_constants: tuple[float, float] = (math.nan, math.nan)

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


def bi_lipschitz(
    X: Any,
    Z: Any,
    *,
    linear: LinearMap | None = None,
    singular_values: Array | None = None,
    intrinsic_dimension: int | None = None,
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
    singular_values : array of shape (A, q), optional
        Of Df on the data's tangent spaces at some rows, zeros for lost directions. They tighten an
        inner estimate and are no constants themselves: chords may stretch more.
    intrinsic_dimension : int, optional
        k, the dimension of these tangent spaces; where it exceeds the q values that a latent of
        few dimensions has, the directions between are lost. Default q.
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
        Z without one row per row of X; fewer than two different rows of X; `singular_values` that
        are not a finite, non-negative matrix.

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
    Z = as_latent(X, Z)
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
    dx, dz = pair_distances(X, pairs), pair_distances(Z, pairs)
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
    m, L = by_pairs = float(ratio[at_m]), float(ratio[at_L])
    exact, kind = False, "inner estimate from pairs: not refuted"
    by_tangents = (math.nan, math.nan)
    if singular_values is not None:
        by_tangents = _tangent_extremes(singular_values)
        if intrinsic_dimension is not None and intrinsic_dimension > singular_values.shape[1]:
            by_tangents = 0.0, by_tangents[1]
        m, L = min(m, by_tangents[0]), max(L, by_tangents[1])
        kind = "inner estimate from pairs and tangents: not refuted"
    if n_conflicts:
        row = int(xp.argmax(xp.astype(moved, xp.int64)))
        largest_pair = (int(first_equal[row]), row)
        L, kind = math.inf, "equal rows of X have different latents: Z is no function of X"
    elif linear is not None:
        m, L, exact = linear.m, linear.L, linear.exact
        kind = "exact on the affine hull" if exact else "exact on the hull of the sample only"
    elif n_folded:
        kind = "folded: different points have one latent"
    elif m == 0.0:
        kind = "a direction of the data's tangent space is lost: m = 0"
    return BiLipschitz(
        m=m,
        L=L,
        exact=exact,
        kind=kind,
        quantile_levels=like(QUANTILES, X),
        near_quantiles=quantiles_of(near),
        latent_near_quantiles=quantiles_of(latent_near),
        far_quantiles=quantiles_of(distant),
        near_pairs=xp.take(pairs, xp.take(index_like(members[0], X), measured, axis=0), axis=0),
        near_ratios=xp.take(near, measured, axis=0),
        smallest_pair=smallest_pair,
        largest_pair=largest_pair,
        n_pairs=int(apart.shape[0]),
        n_folded=n_folded,
        n_conflicts=n_conflicts,
        pair_constants=by_pairs,
        tangent_constants=by_tangents,
    )


def scale(
    lipschitz: BiLipschitz | None = None,
    *,
    linear: LinearMap | None = None,
    singular_values: Array | None = None,
) -> Scale:
    """Find the global scale c of an encoder: log c^2 = E tr log G / rank over retained values.

    Parameters
    ----------
    lipschitz : BiLipschitz, optional
        Its near pairs give the estimate where nothing better is given.
    linear : LinearMap, optional
        Gives c exactly, as the geometric mean of the retained singular values.
    singular_values : array of shape (A, q), optional
        Of Df on the data's tangent spaces at rows drawn without regard to the encoder. Used where
        the encoder is not affine.

    Returns
    -------
    Scale
        From singular values: the mean over anchors of the mean of log sigma^2 over those above
        1e-6 of the largest of all anchors, without bias where they are exact, with its standard
        error. From pairs: the mean log squared ratio of near pairs above 1e-6 of the largest, with
        a standard error in which pairs that share a point are dependent; biased upward where G is
        anisotropic, as log u^T G u exceeds tr log G / k in the mean over directions u, and by
        curvature over the neighbours' distance.

    Raises
    ------
    ValueError
        No argument; `singular_values` that are not a finite, non-negative matrix.

    Examples
    --------
    >>> import numpy as np
    >>> from skfisher.geometry import affine_part
    >>> X = np.random.default_rng(0).normal(size=(60, 3))
    >>> round(scale(linear=affine_part(lambda x: x * np.asarray([1.0, 2.0, 4.0]), X).map).c, 9)
    2.0
    >>> round(scale(singular_values=np.asarray([[4.0, 1.0], [2.0, 0.5]])).log_squared, 9)
    0.693147181
    """
    if linear is not None:
        log_squared = log_squared_scale(linear)
        kind = "exact: geometric mean of the retained singular values"
        if not linear.exact:
            kind += ", on the hull of the sample"
        return Scale(math.exp(log_squared / 2), log_squared, 0.0, linear.exact, kind)
    if singular_values is not None:
        return _scale_on_tangents(singular_values)
    if lipschitz is None:
        raise ValueError(
            "lipschitz and linear are both None: pass one of them, or singular_values."
        )
    ratio = lipschitz.near_ratios
    xp = namespace(ratio)
    kind = "estimate from near pairs"
    kept = ratio > RETAINED * (xp.max(ratio) if ratio.shape[0] else 0.0)
    if not bool(xp.any(kept)):
        return Scale(math.nan, math.nan, math.nan, False, f"{kind}: every one of them is lost")
    pairs = xp.take(lipschitz.near_pairs, xp.nonzero(kept)[0], axis=0)
    log_squared, stderr = pair_mean(2.0 * xp.log(ratio[kept]), pairs)
    return Scale(math.exp(log_squared / 2), log_squared, stderr, False, kind)


def _scale_on_tangents(singular_values: Array) -> Scale:
    """Mean over anchors, of those that keep any direction, of tr log G / rank."""
    _tangent_extremes(singular_values)
    xp = namespace(singular_values)
    largest = float(xp.max(singular_values))
    n_anchors = singular_values.shape[0]
    kind = f"singular values on the tangent spaces of {n_anchors} rows"
    if largest <= 0:
        return Scale(math.nan, math.nan, math.nan, False, f"{kind}: every direction is lost")
    kept = singular_values > RETAINED * largest
    log_squared = 2.0 * xp.log(xp.where(kept, singular_values, xp.ones_like(singular_values)))
    count = xp.sum(xp.astype(kept, singular_values.dtype), axis=1)
    own = (xp.sum(log_squared, axis=1) / xp.where(count > 0, count, 1.0))[count > 0]
    mean, n_own = float(xp.mean(own)), int(own.shape[0])
    stderr = math.nan
    if n_own > 1:
        stderr = math.sqrt(float(xp.sum((own - mean) ** 2)) / (n_own - 1) / n_own)
    return Scale(math.exp(mean / 2), mean, stderr, False, kind)


def _tangent_extremes(singular_values: Array) -> tuple[float, float]:
    """Smallest and largest singular value of all anchors; 0 for those below 1e-6 of the largest."""
    xp = namespace(singular_values)
    shape = tuple(singular_values.shape)
    sound = len(shape) == 2 and 0 not in shape
    if not sound or not bool(xp.all(xp.isfinite(singular_values) & (singular_values >= 0))):
        raise ValueError(
            f"singular_values has shape {shape} and must be a matrix of finite values from 0, one "
            f"row per anchor and one column per tangent direction: leave out the anchors where the "
            f"derivative could not be taken."
        )
    low, high = float(xp.min(singular_values)), float(xp.max(singular_values))
    return (low if low > RETAINED * high else 0.0), high


def _row_norms(rows: Array) -> Array:
    xp = namespace(rows)
    return xp.sqrt(xp.sum(rows**2, axis=1))


def pair_distances(points: Array, pairs: Array) -> Array:
    """|p_i - p_j| for each pair of row numbers, in chunks."""
    xp = namespace(points)
    parts = [
        _row_norms(
            xp.take(points, pairs[chunk, 0], axis=0) - xp.take(points, pairs[chunk, 1], axis=0)
        )
        for chunk in row_chunks(pairs.shape[0], 32.0 * points.shape[1])
    ]
    return xp.concat(parts)


def quantiles_of(values: Array, levels: Sequence[float] = QUANTILES) -> Array:
    """Quantiles of the finite values, interpolated linearly; NaN where there are none."""
    xp = namespace(values)
    values = values[xp.isfinite(values)]
    if values.shape[0] == 0:
        return like([math.nan] * len(levels), values)
    ordered = xp.sort(values)
    last = ordered.shape[0] - 1
    out = []
    for level in levels:
        low = math.floor(level * last)
        share = level * last - low
        at_low, at_high = float(ordered[low]), float(ordered[min(low + 1, last)])
        out.append(at_low + share * (at_high - at_low))
    return like(out, values)
