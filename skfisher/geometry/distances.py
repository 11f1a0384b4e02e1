"""How far an encoder stretches distances: bi-Lipschitz constants over pairs, and one scale."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from skfisher._backend.arrays import Array, index_like, like, namespace, row_chunks
from skfisher._backend.draws import seed_of
from skfisher._backend.pairs import far_pairs, near_pairs, pair_mean, union_of_pairs
from skfisher._backend.rows import distinct_rows
from skfisher._backend.validation import as_sample
from skfisher.geometry.affine import RETAINED, LinearMap, as_latent, log_squared_scale

__all__ = ["QUANTILES", "BiLipschitz", "Scale", "bi_lipschitz", "scale"]

QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
"""Levels at which the ratios of sampled pairs are kept."""


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
        log_squared = log_squared_scale(linear)
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
