"""Pairs of rows, near and far, chosen on the host; sums over the pairs that share a row."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from skfisher._backend.arrays import Array, to_numpy
from skfisher._backend.draws import integers

__all__ = ["far_pairs", "near_pairs", "pair_mean", "union_of_pairs"]

_FAR, _QUERY = 501, 502  # streams of the draws


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
