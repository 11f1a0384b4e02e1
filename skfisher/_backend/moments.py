"""Traces of the covariances of weighted rows, without the covariances where rows are long."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from skfisher._backend.arrays import Array, index_like, like, namespace, row_chunks

__all__ = ["SharedRows", "covariance_traces", "posteriors", "triangle_of"]

_DROPPED = 1e-14  # weight, relative to the heaviest, below which a row leaves a posterior
_LONGEST = 64  # columns up to which covariances are formed


def posteriors(linear: Array, squares: Array, log_weights: Array, sigma: Array) -> Array:
    """Posterior weights of rows w given sigma eps: (T, n, N).

    Parameters
    ----------
    linear : array of shape (n, N)
        eps . w for n draws.
    squares, log_weights : arrays of shape (N,)
        |w|^2 and the log prior.
    sigma : array of shape (T,)
    """
    xp = namespace(linear)
    prior = log_weights[None, :] - squares[None, :] / (2.0 * sigma**2)[:, None]
    logits = linear[None, :, :] / sigma[:, None, None] + prior[:, None, :]
    logits = xp.clip(logits - xp.max(logits, axis=2, keepdims=True), min=math.log(_DROPPED) - 1.0)
    weights = xp.exp(logits)
    weights = xp.where(weights < _DROPPED, 0.0, weights)
    return weights / xp.sum(weights, axis=2, keepdims=True)


def triangle_of(size: int, reference: Array) -> tuple[Array, Array, Array]:
    """Rows, columns and factors (1 or sqrt 2) of a symmetric matrix, its diagonal first."""
    first, second = np.triu_indices(size, 1)
    diagonal = np.arange(size)
    factors = np.concatenate([np.ones(size), np.full(first.size, math.sqrt(2.0))])
    rows = index_like(np.concatenate([diagonal, first]), reference)
    return rows, index_like(np.concatenate([diagonal, second]), reference), like(factors, reference)


def covariance_traces(points: Array, P: Array, memory_budget: int) -> tuple[Array, Array]:
    """Trace tr C and |C|_F^2 of the rows of `points` under each of the weights in P.

    Parameters
    ----------
    points : array of shape (N, n)
        Relative to a point near their weighted means, for the sake of rounding.
    P : array of shape (S, N)
        Each row sums to 1.

    Returns
    -------
    trace, squared : arrays of shape (S,)
    """
    xp = namespace(points)
    heavy = xp.nonzero(xp.any(P > 0.0, axis=0))[0]
    if heavy.shape[0] < 0.7 * points.shape[0]:
        points, P = xp.take(points, heavy, axis=0), xp.take(P, heavy, axis=1)
    n_rows, size = points.shape
    mean = xp.matmul(P, points)
    if size <= _LONGEST and size * (size + 1) // 2 <= max(n_rows, 10):
        rows, columns, factors = triangle_of(size, points)
        C = -_products(mean, rows, columns, factors)
        for part in row_chunks(n_rows, 24.0 * rows.shape[0], memory_budget):
            C = C + xp.matmul(P[:, part], _products(points[part, :], rows, columns, factors))
        return xp.sum(C[:, :size], axis=1), xp.sum(C**2, axis=1)
    squares = xp.sum(points**2, axis=1)
    return _from_gram(points, squares, mean, P, None, memory_budget)


class SharedRows:
    """Rows that many posteriors weigh, with the squares of their Gram matrix kept where they fit.

    Parameters
    ----------
    points : array of shape (N, n)
    memory_budget : int
        Bytes for the squared Gram matrix, and as many for the posteriors that wait for it.
    """

    def __init__(self, points: Array, memory_budget: int) -> None:
        xp = namespace(points)
        self.points = points - xp.mean(points, axis=0)[None, :]
        self.squares = xp.sum(self.points**2, axis=1)
        self._budget = memory_budget
        self._gram: Array | None = None
        self._waiting: list[Array] = []
        self._n_waiting = 0
        self._done: list[tuple[Array, Array]] = []

    def add(self, P: Array) -> None:
        """Take the posteriors P (S, N) in; `traces` answers in the order of the calls."""
        self._waiting.append(P)
        self._n_waiting += int(P.shape[0])
        if 8.0 * self._n_waiting * self.points.shape[0] > self._budget / 4:
            self._work()

    def traces(self) -> tuple[Array, Array]:
        """Traces tr C and |C|_F^2 of everything taken in: two arrays of shape (S,)."""
        if self._waiting:
            self._work()
        xp = namespace(self.points)
        empty = self.squares[:0]
        parts = [*self._done, (empty, empty)]
        return xp.concat([p[0] for p in parts]), xp.concat([p[1] for p in parts])

    def _work(self) -> None:
        xp = namespace(self.points)
        P = xp.concat(self._waiting) if len(self._waiting) > 1 else self._waiting[0]
        if self._gram is None and 16.0 * self.points.shape[0] ** 2 <= self._budget:
            gram = xp.matmul(self.points, xp.matrix_transpose(self.points))
            self._gram = gram**2
        mean = xp.matmul(P, self.points)
        self._done.append(
            _from_gram(self.points, self.squares, mean, P, self._gram, self._budget // 4)
        )
        self._waiting, self._n_waiting = [], 0


def _products(points: Array, rows: Array, columns: Array, factors: Array) -> Array:
    xp = namespace(points)
    left, right = xp.take(points, rows, axis=1), xp.take(points, columns, axis=1)
    return left * right * factors[None, :]


def _from_gram(
    points: Array, squares: Array, mean: Array, P: Array, gram_squared: Any, memory_budget: int
) -> tuple[Array, Array]:
    """With M the second moment: |M - m m^T|^2 = p^T (g o g) p - 2 sum_i p_i (w_i . m)^2 + |m|^4."""
    xp = namespace(points)
    transposed = xp.matrix_transpose(points)
    length = xp.sum(mean**2, axis=1)
    squared = length**2 - 2.0 * xp.sum(P * xp.matmul(mean, transposed) ** 2, axis=1)
    for part in row_chunks(points.shape[0], 24.0 * points.shape[0], memory_budget):
        if gram_squared is None:
            block = xp.matmul(points[part, :], transposed) ** 2
        else:
            block = gram_squared[part, :]
        squared = squared + xp.sum(xp.matmul(P[:, part], block) * P, axis=1)
    trace = xp.matmul(P, squares[:, None])[:, 0] - length
    return xp.clip(trace, min=0.0), xp.clip(squared, min=0.0)
