"""How the stretch of distances depends on the distance itself."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from skfisher._backend.arrays import Array, index_like, like, namespace, take_rows
from skfisher._backend.draws import seed_of
from skfisher._backend.pairs import binned_log_means, log_bins, ranked_pairs
from skfisher._backend.rows import distinct_rows
from skfisher._backend.validation import as_sample
from skfisher.geometry.affine import as_latent
from skfisher.geometry.distances import pair_distances, quantiles_of

__all__ = ["PROFILE_LEVELS", "DistanceProfile", "distance_profile"]

PROFILE_LEVELS = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
"""Levels at which the ratios of each bin are kept."""

_FEWEST_ROWS = 10
"""Distinct rows below which a bin's pairs do not tell their own error."""


@dataclass(frozen=True, eq=False)
class DistanceProfile:
    """Ratios |z - z'| / (c |x - x'|) of pairs, by the distance between their rows.

    Attributes
    ----------
    by : str
        "data" (bins of |x - x'|, in x) or "latent" (bins of |z - z'| / c, in x).
    c : float
        The scale that the ratios are divided by, in z/x.
    edges : array of shape (B + 1,)
        Ends of the bins, geometric from the smallest to the largest distance of the pairs.
    counts : array of shape (B,)
        Pairs in each bin.
    quantile_levels, quantiles : arrays of shape (7,), (B, 7)
        0, 5, 25, 50, 75, 95 and 100 % of the ratios in each bin; NaN in an empty one.
    log_ratio, log_ratio_stderr : array of shape (B,)
        Mean of the logarithm of the positive ratios and its standard error, in which pairs that
        share a row are dependent; the error is NaN with fewer than 10 distinct rows.
    n_folded : int
        Pairs of different rows with one latent to rounding: left out of the means, and of the bins
        too for "latent".
    squeezed_pairs, squeezed_ratios : arrays of shape (W, 2), (W,)
        Row numbers of X and ratios of the pairs with the smallest ratios, worst first.
    stretched_pairs, stretched_ratios : arrays of shape (W, 2), (W,)
        The same for the largest.
    """

    by: str
    c: float
    edges: Array
    counts: Array
    quantile_levels: Array
    quantiles: Array
    log_ratio: Array
    log_ratio_stderr: Array
    n_folded: int
    squeezed_pairs: Array
    squeezed_ratios: Array
    stretched_pairs: Array
    stretched_ratios: Array

    def __repr__(self) -> str:
        return (
            f"DistanceProfile(by={self.by!r}, {self.counts.shape[0]} bins from "
            f"{float(self.edges[0]):.3g} to {float(self.edges[-1]):.3g}, ratios "
            f"{float(self.squeezed_ratios[0]):.3g} to {float(self.stretched_ratios[0]):.3g})"
        )


def distance_profile(
    X: Any,
    Z: Any,
    *,
    c: float = 1.0,
    by: str = "data",
    n_bins: int = 10,
    n_pairs: int = 4000,
    n_worst: int = 5,
    random_state: Any = 0,
) -> DistanceProfile:
    """Distortion of distances as a function of distance, from neighbours to the diameter.

    Parameters
    ----------
    X, Z : arrays of shape (N, D), (N, d)
    c : float
        Scale of the encoder, in z/x; the ratios of an isometry up to c are 1.
    by : {"data", "latent"}
        Whose distances make the bins and choose the pairs. Folds show by latent distance: pairs
        that are near in Z and far in X.
    n_bins : int
        Geometric bins.
    n_pairs : int
        About so many pairs: all of them where they are no more, otherwise random rows with their
        1st, 2nd, 4th, 8th, ... neighbour, so that every scale has its share.
    n_worst : int
        Pairs that are named at each end.
    random_state : None, int, RandomState or Generator

    Returns
    -------
    DistanceProfile
        Of the pairs drawn: extremes are inner estimates. A bin holds the pairs of random rows at
        ranks that reach it, not a uniform sample of all its pairs.

    Raises
    ------
    ValueError
        Z without one row per row of X; fewer than two different rows of X, or of Z for
        `by` = "latent"; c, `by`, `n_bins` or `n_worst` out of range.

    Examples
    --------
    >>> import numpy as np
    >>> angle = np.linspace(0.1, 6.2, 300)
    >>> circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    >>> profile = distance_profile(circle, angle[:, None], n_bins=4, n_pairs=50_000)
    >>> bool(profile.stretched_ratios[0] > 30), [int(row) for row in profile.stretched_pairs[0]]
    (True, [0, 299])
    """
    c = float(c)
    if not (math.isfinite(c) and c > 0):
        raise ValueError(f"c is {c}: the scale of an encoder is finite and positive.")
    if by not in ("data", "latent"):
        raise ValueError(f"by is {by!r}: pass 'data' or 'latent'.")
    for name, count in (("n_bins", n_bins), ("n_worst", n_worst)):
        if int(count) < 1:
            raise ValueError(f"{name} is {count}: pass 1 or more.")
    X = as_sample(X)
    Z = as_latent(X, Z)
    xp = namespace(X)
    space, name = (X, "X") if by == "data" else (Z, "Z")
    rows = distinct_rows(space)[0]
    if len(rows) < 2:
        raise ValueError(
            f"{name} has {X.shape[0]} rows but {len(rows)} distinct: pass at least two different "
            f"rows."
        )
    chosen = rows[ranked_pairs(seed_of(random_state), take_rows(space, rows), int(n_pairs))]
    pairs = index_like(chosen, X)
    dx, dz = pair_distances(X, pairs), pair_distances(Z, pairs)
    eps = 1e3 * float(xp.finfo(X.dtype).eps)
    apart = dx > eps * float(xp.max(xp.abs(X)))
    dz = xp.where(dz > eps * float(xp.max(xp.abs(Z))), dz, xp.zeros_like(dz))
    if not bool(xp.any(apart)):
        raise ValueError(f"X has {len(rows)} distinct rows, equal to rounding: centre X first.")
    n_folded = int(xp.sum(xp.astype(apart & (dz == 0.0), xp.int64)))
    ratio = xp.where(apart, dz / (c * xp.where(apart, dx, xp.ones_like(dx))), math.nan)
    distance = dx if by == "data" else dz / c
    binned = xp.where(apart, distance, xp.full_like(distance, math.nan))
    if not bool(xp.any(binned > 0)):
        raise ValueError("Z is constant to rounding: there is no latent distance to bin by.")
    edges, place = log_bins(binned, int(n_bins))
    bins = [take_rows(ratio, (place == b).nonzero()[0]) for b in range(int(n_bins))]
    means, errors = binned_log_means(ratio, chosen, place, int(n_bins), _FEWEST_ROWS)
    # equal to rounding is equal: the first of such pairs stand for all
    positive = xp.isfinite(ratio) & (ratio > 0)
    logs = xp.round(xp.log(xp.where(positive, ratio, xp.ones_like(ratio))) * 2.0**17)
    rest = xp.where(ratio == 0, xp.full_like(ratio, -math.inf), xp.full_like(ratio, math.inf))
    order = xp.argsort(xp.where(positive, logs, rest))
    n_known = int(xp.sum(xp.astype(apart, xp.int64)))
    worst = min(int(n_worst), n_known)
    low, high = order[:worst], xp.flip(order[n_known - worst : n_known])
    return DistanceProfile(
        by=by,
        c=c,
        edges=like(edges, X),
        counts=like([float(inside.shape[0]) for inside in bins], X),
        quantile_levels=like(PROFILE_LEVELS, X),
        quantiles=xp.stack([quantiles_of(inside, PROFILE_LEVELS) for inside in bins]),
        log_ratio=like(means, X),
        log_ratio_stderr=like(errors, X),
        n_folded=n_folded,
        squeezed_pairs=xp.take(pairs, low, axis=0),
        squeezed_ratios=xp.take(ratio, low, axis=0),
        stretched_pairs=xp.take(pairs, high, axis=0),
        stretched_ratios=xp.take(ratio, high, axis=0),
    )
