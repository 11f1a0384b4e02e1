"""Neighbourhoods of some rows: the search, and the spectra of their covariances, on the host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from skfisher._backend.arrays import Array, row_chunks, to_numpy

__all__ = ["local_shares", "log_ratios", "nearest_rows"]


def nearest_rows(points: Array, queries: Any, n_neighbors: int) -> tuple[Any, Any]:
    """Distances and positions of the nearest other rows, by increasing distance.

    Parameters
    ----------
    points : array of shape (N, n)
        Distinct rows.
    queries : integer vector of length A
        Positions of the rows whose neighbours are sought.
    n_neighbors : int
        m, at most N - 1.

    Returns
    -------
    distances, neighbours : NumPy arrays of shape (A, m)
    """
    host, queries = np.asarray(to_numpy(points), dtype=np.float64), np.asarray(queries)
    # the largest scale out, so that no square overflows; the centre out, so that little cancels
    centred = host - host.mean(axis=0)
    unit = np.abs(centred).max() or 1.0
    centred = centred / unit
    squares = np.einsum("ij,ij->i", centred, centred)
    near = np.empty((len(queries), n_neighbors))
    rows: Any = np.empty((len(queries), n_neighbors), dtype=np.int64)
    for part in row_chunks(len(queries), 24 * len(host)):
        own = queries[part]
        gap = squares[own, None] + squares - 2.0 * centred[own] @ centred.T
        gap[np.arange(len(own)), own] = np.inf
        found = np.argpartition(gap, n_neighbors - 1, axis=1)[:, :n_neighbors]
        for i, (row, some) in enumerate(zip(own, found, strict=True)):
            length = np.linalg.norm(centred[some] - centred[row], axis=1)
            order = np.argsort(length, kind="stable")
            near[part.start + i], rows[part.start + i] = length[order], some[order]
    return near * unit, rows


def local_shares(
    points: Array, queries: Any, neighbours: Any, sizes: Sequence[int], n_axes: int
) -> tuple[Any, Any]:
    """Mean share of each principal direction in the variance of neighbourhoods, per size.

    Parameters
    ----------
    points : array of shape (N, n)
        Columns by decreasing variance.
    queries : integer vector of length A
    neighbours : integer array of shape (A, m)
        From `nearest_rows`.
    sizes : sequence of int
        How many neighbours count, each at most m.
    n_axes : int
        Directions are sought in the span of so many leading columns; the variance outside enters
        the whole that the shares are of.

    Returns
    -------
    shares, errors : NumPy arrays of shape (len(sizes), min(n_axes, n))
        Decreasing, with zeros beyond the rank of a neighbourhood; standard errors over the A.
    """
    host = np.asarray(to_numpy(points), dtype=np.float64)
    n_rows, p = len(host), min(n_axes, host.shape[1])
    squares = np.einsum("ij,ij->i", host, host)
    shares = np.zeros((len(sizes), p))
    errors = np.zeros((len(sizes), p))
    for row, m in enumerate(sizes):
        found = np.zeros((len(queries), p))
        for part in row_chunks(len(queries), 8 * n_rows + 32 * m * p):
            members = np.concatenate([queries[part, None], neighbours[part, :m]], axis=1)
            chosen = np.zeros((len(members), n_rows))
            np.put_along_axis(chosen, members, 1.0, axis=1)
            centre = chosen @ host / (m + 1)
            whole = squares[members].sum(axis=1) - (m + 1) * np.square(centre).sum(axis=1)
            lead = host[:, :p][members] - centre[:, None, :p]
            side = np.swapaxes(lead, 1, 2)
            spectrum = np.linalg.eigvalsh(side @ lead if p <= m + 1 else lead @ side)[:, ::-1]
            q = min(p, spectrum.shape[1])
            spectrum = np.maximum(spectrum[:, :q], 0.0)
            # a whole that is all cancellation is no less than its parts
            found[part, :q] = spectrum / np.maximum(whole, spectrum.sum(axis=1))[:, None]
        shares[row] = found.mean(axis=0)
        errors[row] = found.std(axis=0) / np.sqrt(len(queries))
    return shares, errors


def log_ratios(distances: Any) -> Any:
    """Mean over j < m of log(r_m / r_j) for each row of increasing distances: (A,)."""
    distances = np.asarray(distances)
    return np.log(distances[:, -1:] / distances[:, :-1]).mean(axis=1)
