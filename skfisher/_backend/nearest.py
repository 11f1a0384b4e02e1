"""Nearest rows on the host, and means over rows whose values share neighbours."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from skfisher._backend.arrays import Array, row_chunks, to_numpy

__all__ = ["agreement", "levina_bickel", "local_mean", "nearest", "two_nearest"]


def nearest(points: Array, n_neighbors: int, metric: str = "euclidean") -> tuple[Any, Any]:
    """Distances and indices of the nearest other rows, (N, k) each, as NumPy.

    "cosine" distances are those of the rows scaled to length one.
    """
    from sklearn.neighbors import NearestNeighbors

    host = np.asarray(to_numpy(points), dtype=np.float64)
    if metric == "cosine":
        length = np.linalg.norm(host, axis=1, keepdims=True)
        host = host / np.where(length > 0, length, 1.0)
    _, index = NearestNeighbors(n_neighbors=n_neighbors).fit(host).kneighbors()
    distance: Any = np.empty(index.shape)
    # scikit-learn expands |x - y|^2, which loses close pairs to rounding
    for part in row_chunks(len(host), 16 * host.shape[1] * n_neighbors):
        distance[part] = np.linalg.norm(host[part, None, :] - host[index[part]], axis=2)
    order = np.argsort(distance, axis=1, kind="stable")
    return np.take_along_axis(distance, order, axis=1), np.take_along_axis(index, order, axis=1)


def local_mean(values: Any, index: Any) -> tuple[float, float]:
    """Mean of one value per row, and its error where rows that share a neighbour are dependent.

    Notes
    -----
    Var = sum over pairs (i, j) that have a point in common, among i and its neighbours and j and
    its own, of e_i e_j / N^2. Where that comes out below the variance of independent rows, that is
    taken.
    """
    from scipy.sparse import csr_array

    n_rows = len(values)
    mean = float(values.mean())
    residual = values - mean
    points = np.concatenate([np.arange(n_rows)[:, None], index], axis=1)
    rows: Any = np.repeat(np.arange(n_rows), points.shape[1])
    ones = np.ones(points.size)
    touches = csr_array((ones, (rows, points.reshape(-1))), shape=(n_rows, n_rows))
    shared = touches @ touches.T
    shared.data[:] = 1.0
    together = float(residual @ (shared @ residual))
    return mean, math.sqrt(max(together, float(residual @ residual))) / n_rows


def two_nearest(points: Array) -> tuple[Any, Any]:
    """log(r_2 / r_1) of every row, and the indices of both neighbours."""
    distance, index = nearest(points, 2)
    return np.log(distance[:, 1] / distance[:, 0]), index


def levina_bickel(points: Array, n_neighbors: int) -> tuple[Any, Any]:
    """(1 / (k - 1)) sum_j log(r_k / r_j) of every row, and the indices of its neighbours."""
    distance, index = nearest(points, n_neighbors)
    return np.mean(np.log(distance[:, -1:] / distance[:, :-1]), axis=1), index


def agreement(points: Array, codes: Any, n_neighbors: int, metric: str) -> tuple[Any, Any, float]:
    """Share of neighbours with the row's own label, their indices, and its value by chance."""
    _, index = nearest(points, n_neighbors, metric)
    counts = np.bincount(codes).astype(np.float64)
    n_rows = len(codes)
    chance = float(counts @ (counts - 1) / (n_rows * (n_rows - 1)))
    return np.mean(codes[index] == codes[:, None], axis=1), index, chance
