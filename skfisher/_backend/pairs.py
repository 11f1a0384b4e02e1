"""Pairs of rows, near and far, chosen on the host; sums over the pairs that share a row."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from skfisher._backend.arrays import Array, row_chunks, to_numpy
from skfisher._backend.draws import integers

__all__ = [
    "binned_log_means",
    "far_pairs",
    "log_bins",
    "near_pairs",
    "pair_mean",
    "ranked_pairs",
    "row_shares",
    "union_of_pairs",
]

_FAR, _QUERY, _RANKED = 501, 502, 503  # streams of the draws
_COPY_BUDGET = 64 * 2**20


def far_pairs(seed: int, n_points: int, n_pairs: int) -> Any:
    """All pairs i < j of `n_points` if `n_pairs` hold them, otherwise random ones: (P, 2)."""
    if n_points * (n_points - 1) // 2 <= n_pairs:
        return np.stack(np.triu_indices(n_points, 1), axis=1)
    rows = slice(0, n_pairs)
    first = integers(seed, (_FAR, 0), rows, 1, n_points)
    step = integers(seed, (_FAR, 1), rows, 1, n_points - 1)
    return _unordered(np.concatenate([first, (first + 1 + step) % n_points], axis=1))


def near_pairs(seed: int, points: Array, n_neighbors: int, n_pairs: int) -> Any:
    """Pairs i < j of rows and their nearest neighbours, from at most `n_pairs` / q rows: (P, 2)."""
    from sklearn.neighbors import NearestNeighbors

    host = to_numpy(points)
    n_points = host.shape[0]
    q = min(n_neighbors, n_points - 1)
    n_queries = max(1, n_pairs // q)
    if n_queries >= n_points:
        queries = np.arange(n_points)
    else:
        queries = np.unique(integers(seed, (_QUERY,), slice(0, n_queries), 1, n_points))
    neighbors = NearestNeighbors(n_neighbors=q + 1).fit(host)
    found = neighbors.kneighbors(host[queries], return_distance=False)
    pairs = np.stack([np.repeat(queries, q + 1), found.reshape(-1)], axis=1)
    return _unordered(pairs[pairs[:, 0] != pairs[:, 1]])


def ranked_pairs(seed: int, points: Array, n_pairs: int) -> Any:
    """Pairs at every distance, (P, 2): all where `n_pairs` hold them, else partners by rank.

    Each of some random rows is paired with its 1st, 2nd, 4th, 8th, ... neighbour and the farthest
    row, which covers the scales between nearest neighbours and the diameter evenly.
    """
    host = to_numpy(points).astype(np.float64, copy=False)
    n_points = host.shape[0]
    if n_points * (n_points - 1) // 2 <= n_pairs:
        return np.stack(np.triu_indices(n_points, 1), axis=1)
    ranks = np.unique(np.append(2 ** np.arange(int(math.log2(n_points - 1)) + 1), n_points - 1))
    n_queries = min(n_points, max(1, n_pairs // len(ranks)))
    queries = np.unique(integers(seed, (_RANKED,), slice(0, n_queries), 1, n_points))
    host = host - host.mean(axis=0)
    squares = np.sum(host**2, axis=1)
    found = []
    for chunk in row_chunks(len(queries), 24.0 * n_points, _COPY_BUDGET):
        rows = queries[chunk]
        # up to a constant per row, which changes no order; the row itself comes first
        distance = squares - 2.0 * (host[rows] @ host.T)
        distance[np.arange(len(rows)), rows] = -np.inf
        order = np.argpartition(distance, ranks, axis=1)[:, ranks]
        found.append(np.stack([np.repeat(rows, len(ranks)), order.reshape(-1)], axis=1))
    return _unordered(np.concatenate(found))


def log_bins(values: Array, n_bins: int) -> tuple[Any, Any]:
    """Edges of geometric bins from the least to the largest positive value, and each one's bin.

    Returns
    -------
    edges : NumPy vector of length n_bins + 1
    place : NumPy vector of int
        0 to n_bins - 1, and -1 for values that are not positive and finite.
    """
    host = to_numpy(values).astype(np.float64)
    known = np.isfinite(host) & (host > 0)
    low, high = float(host[known].min()), float(host[known].max())
    edges = np.geomspace(low, high, n_bins + 1) if high > low else np.full(n_bins + 1, low)
    place = np.searchsorted(edges[1:-1], host, side="right")
    return edges, np.where(known, place, -1)


def binned_log_means(
    ratios: Array, pairs: Any, place: Any, n_bins: int, fewest_rows: int
) -> tuple[Any, Any]:
    """Mean log of the positive ratios in each bin, and its standard error as in `pair_mean`.

    NaN for an empty bin; the error is NaN where fewer than `fewest_rows` rows make the pairs.
    """
    host = to_numpy(ratios).astype(np.float64)
    means, errors = np.full(n_bins, np.nan), np.full(n_bins, np.nan)
    for b in range(n_bins):
        inside = (place == b) & (host > 0)
        if inside.any():
            means[b], error = pair_mean(np.log(host[inside]), pairs[inside])
            if len(np.unique(pairs[inside])) >= fewest_rows:
                errors[b] = error
    return means, errors


def row_shares(flags: Array, pairs: Any, n_rows: int) -> Any:
    """Per row, the share of its pairs that carry the flag; NaN for rows without a pair."""
    flags, pairs = to_numpy(flags).astype(np.float64), to_numpy(pairs).astype(np.int64)
    both = pairs.reshape(-1)
    total = np.bincount(both, minlength=n_rows)
    marked = np.bincount(both, weights=np.repeat(flags, 2), minlength=n_rows)
    return np.where(total > 0, marked / np.maximum(total, 1), np.nan)


def pair_mean(values: Array, pairs: Any) -> tuple[float, float]:
    """Mean over pairs and its standard error, in which pairs that share a row are dependent.

    Notes
    -----
    With residuals e_p the variance is (sum_i (sum of e_p over pairs with i)^2 - sum_p e_p^2) / P^2:
    the dyadic cluster-robust estimator of Aronow, Samii and Assenova, Political Analysis 2015.
    Where it comes out below the variance of independent pairs, that is taken.
    """
    values, pairs = to_numpy(values).astype(np.float64), to_numpy(pairs)
    mean = float(values.mean())
    residual = values - mean
    per_row = np.bincount(pairs.reshape(-1), weights=np.repeat(residual, 2))
    independent = float(residual @ residual)
    return mean, math.sqrt(max(float(per_row @ per_row) - independent, independent)) / len(values)


def union_of_pairs(parts: list[Any]) -> tuple[Any, list[Any]]:
    """Each pair once, and for every part the positions of its pairs there."""
    union, inverse = np.unique(np.concatenate(parts), axis=0, return_inverse=True)
    ends = np.cumsum([len(part) for part in parts])[:-1]
    return union, np.split(inverse.reshape(-1), ends)


def _unordered(pairs: Any) -> Any:
    return np.unique(np.sort(pairs, axis=1), axis=0)
