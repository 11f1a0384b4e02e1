"""Bookkeeping of rows that the array API standard has no words for: duplicates, folds, scatter."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from skfisher._backend.arrays import Array, row_chunks, to_numpy

__all__ = [
    "deal_folds",
    "distinct_rows",
    "error_of_mean",
    "held_codes",
    "inverse_index",
    "inverse_order",
    "is_in",
    "linked_groups",
    "majority",
    "recode",
    "sorted_index",
    "sum_by_code",
]

_LONG = 256  # bytes of a row above which its digest is sorted in its place
_COPY_BUDGET = 32 * 2**20


def distinct_rows(X: Array) -> tuple[Any, Any]:
    """First index of each distinct row, in order of appearance, and each row's place among them.

    Rows longer than 256 bytes are told apart by digests of 128 bits, so that no copy of X is sorted
    or held: a collision among N rows has a chance of N^2 / 2^129.
    """
    parts = []
    for chunk in row_chunks(X.shape[0], 32 * X.shape[1], _COPY_BUDGET):
        rows = np.ascontiguousarray(to_numpy(X[chunk, :]) + 0.0)  # -0.0 becomes 0.0
        width = rows.dtype.itemsize * rows.shape[1]
        if width > _LONG:
            digests = (blake2b(row, digest_size=16).digest() for row in rows)
            rows, width = np.frombuffer(b"".join(digests), dtype=np.uint8), 16
        parts.append(rows.reshape(-1).view(np.dtype((np.void, width))))
    keys = np.concatenate(parts)
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return first[order], rank[inverse]


def deal_folds(order: Any, groups: Any, n_folds: int) -> list[Any]:
    """Row indices of each fold: rows, or whole groups, dealt one after another in a random order.

    Parameters
    ----------
    order : int vector
        Random order of the rows (no groups) or of the groups.
    groups : int vector or None
        Codes 0..G-1, one per row.
    n_folds : int
    """
    place: Any = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order)) % n_folds
    fold_of_row = place if groups is None else place[groups]
    return [np.flatnonzero(fold_of_row == f) for f in range(n_folds)]


def is_in(rows: Any, others: Any) -> Any:
    """Mask of `rows` that stand among `others`."""
    return np.isin(rows, others)


def linked_groups(groups: Any, place: Any) -> Any:
    """Groups joined where they hold the same row; `place` is each row's place among the distinct.

    Returns
    -------
    int vector
        Codes 0..G-1, one per row.
    """
    n_groups, n_distinct = int(groups.max()) + 1, int(place.max()) + 1
    size = n_groups + n_distinct
    links = coo_array((np.ones(len(groups)), (groups, n_groups + place)), shape=(size, size))
    return connected_components(links, directed=False)[1][groups]


def sorted_index(rows: Any) -> Any:
    """Row indices as a sorted integer vector."""
    return np.sort(np.asarray(rows, dtype=np.int64))


def recode(codes: Any) -> Any:
    """Codes renumbered 0..G-1 without gaps."""
    return np.unique(codes, return_inverse=True)[1]


def error_of_mean(values: Array, weights: Any = None, groups: Any = None) -> float:
    """Standard error of the weighted mean of rows, groups of rows counting as one each."""
    values = to_numpy(values)
    w = np.ones_like(values) if weights is None else to_numpy(weights)
    w = w / w.sum()
    moved = w * (values - w @ values)
    if groups is not None:
        n_groups = int(groups.max()) + 1
        moved, w = (sum_by_code(part, groups, n_groups) for part in (moved, w))
    return math.sqrt(float((moved**2).sum()) / (1 - float((w**2).sum())))


def sum_by_code(values: Any, codes: Any, size: int) -> Any:
    """Sum of `values` for each code 0..size-1."""
    return np.bincount(codes, weights=to_numpy(values), minlength=size)


def held_codes(kept: Any, codes: Any) -> Any:
    """Codes renumbered over those that are `kept`, -1 for the others; NumPy vectors."""
    return np.where(kept[codes], (np.cumsum(kept) - 1)[codes], -1)


def majority(labels: Sequence[str]) -> str:
    """The most frequent label, the earliest of equals."""
    return Counter(labels).most_common(1)[0][0]


def inverse_index(index: Any, n_rows: int) -> Any:
    """Where each of `n_rows` rows stands in `index`; one past its end for a row that does not."""
    place: Any = np.full(n_rows, len(index), dtype=np.int64)
    place[np.asarray(index)] = np.arange(len(index))
    return place


def inverse_order(parts: Sequence[Any]) -> Any:
    """Where each row stands in the concatenation of `parts`, which hold every row once."""
    return np.argsort(np.concatenate([np.asarray(part) for part in parts]), kind="stable")
