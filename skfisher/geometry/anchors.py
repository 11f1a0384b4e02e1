"""Rows at which geometry is measured, and the rows around them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from skfisher._backend.arrays import Array, index_like, namespace, row_chunks, take_rows, to_numpy
from skfisher._backend.draws import permutation
from skfisher._backend.neighbourhoods import nearest_rows
from skfisher._backend.rows import distinct_rows

__all__ = [
    "ANCHORS",
    "LARGEST",
    "SMALLEST",
    "Neighbourhoods",
    "check_positive",
    "choose_anchors",
    "neighbourhood_sizes",
    "neighbourhoods",
    "principal_bases",
    "row_numbers",
]

ANCHORS = 521
"""Stream of the draws that choose anchors."""

SMALLEST, LARGEST = 12, 400
"""Neighbours in the smallest and the largest neighbourhood that is tried for tangents."""


@dataclass(frozen=True, eq=False)
class Neighbourhoods:
    """Anchors, rows of X, and their nearest other distinct rows.

    Attributes
    ----------
    anchors : integer array of shape (A,)
        Row numbers, increasing.
    rows : integer NumPy array of shape (A, M)
        Row numbers of the neighbours by increasing distance.
    distances : NumPy array of shape (A, M)
    n_distinct : int
        Different rows of X.
    """

    anchors: Array
    rows: Any
    distances: Any
    n_distinct: int


def choose_anchors(X: Array, max_anchors: int, seed: int) -> Any:
    """Row numbers, increasing, of at most `max_anchors` different rows drawn at random: NumPy."""
    first, _ = distinct_rows(X)
    chosen = permutation(seed, (ANCHORS,), len(first))[:max_anchors]
    return first[sorted(int(i) for i in chosen)]


def neighbourhoods(X: Array, anchors: Any, n_neighbors: int) -> Neighbourhoods:
    """The nearest distinct other rows of some rows, by increasing distance.

    Parameters
    ----------
    X : array of shape (N, D)
    anchors : integer vector of length A
        Row numbers.
    n_neighbors : int
        Fewer are returned where X has not so many different rows.
    """
    first, place = distinct_rows(X)
    m = min(n_neighbors, len(first) - 1)
    anchors = row_numbers(anchors)
    distances, rows = nearest_rows(take_rows(X, first), place[anchors], m)
    return Neighbourhoods(index_like(anchors, X), first[rows], distances, len(first))


def principal_bases(X: Array, near: Neighbourhoods, n_neighbors: int, k: int) -> Array:
    """Leading k principal directions of each anchor with its neighbours: (A, D, k)."""
    xp = namespace(X)
    m, D = min(n_neighbors, near.rows.shape[1]), X.shape[1]
    parts = []
    for part in row_chunks(near.rows.shape[0], 40 * m * D):
        rows = near.rows[part, :m]
        around = xp.reshape(take_rows(X, rows.reshape(-1)), (rows.shape[0], m, D))
        own = xp.take(X, near.anchors[part], axis=0)
        local = xp.concat([0.0 * own[:, None, :], around - own[:, None, :]], axis=1)
        local = local - xp.mean(local, axis=1, keepdims=True)
        turned = xp.matrix_transpose(local)
        if m + 1 >= D:
            leading = xp.linalg.eigh(xp.matmul(turned, local))[1][:, :, D - k :]
        else:
            vectors = xp.linalg.eigh(xp.matmul(local, turned))[1][:, :, m + 1 - k :]
            leading = xp.linalg.qr(xp.matmul(turned, vectors))[0]
        parts.append(xp.flip(leading, axis=2))
    return xp.concat(parts, axis=0)


def neighbourhood_sizes(n_rows: int) -> list[int]:
    """Doubling neighbourhood sizes from 12 up to a sixth of the rows, at most 400."""
    sizes = [SMALLEST]
    while 2 * sizes[-1] <= min(n_rows // 6, LARGEST):
        sizes.append(2 * sizes[-1])
    return sizes


def row_numbers(rows: Any) -> Any:
    """Row numbers as a NumPy vector."""
    return to_numpy(rows).reshape(-1).astype("int64")


def check_positive(**arguments: int) -> None:
    """Refuse named numbers below 1."""
    for name, value in arguments.items():
        if value < 1:
            raise ValueError(f"{name} is {value}: pass 1 or more.")
