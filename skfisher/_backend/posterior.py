"""Posterior weights of reference points: in place and over threads where NumPy holds them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from skfisher._backend.arrays import Array, is_numpy, namespace
from skfisher._backend.threads import blas_libraries, single_blas_thread

__all__ = [
    "map_chunks",
    "n_workers",
    "product",
    "unnormalised_posterior",
    "weigh",
    "workspace",
]

_MOST_WORKERS = 8
_LIMITING = threading.Lock()

Item = TypeVar("Item")
Result = TypeVar("Result")


def n_workers(reference: Array) -> int:
    """Threads to share out chunks to: for NumPy those of its BLAS, otherwise one."""
    if not is_numpy(reference):
        return 1
    threads = [library["num_threads"] for library in blas_libraries().info()]
    return min(_MOST_WORKERS, max(threads, default=1))


def map_chunks(
    function: Callable[[Item], Result], chunks: Sequence[Item], workers: int
) -> list[Result]:
    """`function` of every chunk or other item, in order, on `workers` threads of one BLAS thread.

    Exponentials then run on all cores and no matrix product waits for another thread. The number
    of BLAS threads belongs to the process: a second call at the same time leaves it alone.
    """
    if workers < 2 or len(chunks) < 2 or not _LIMITING.acquire(blocking=False):
        return [function(chunk) for chunk in chunks]
    try:
        with single_blas_thread(), ThreadPoolExecutor(workers) as pool:
            return list(pool.map(function, chunks))
    finally:
        _LIMITING.release()


def workspace(rows: int, columns: int, reference: Array) -> Array | None:
    """Uninitialised NumPy matrix to be reused as `out`; None for every other library."""
    return np.empty((rows, columns), reference.dtype) if is_numpy(reference) else None


def product(left: Array, right: Array, out: Array | None) -> Array:
    """Matrix product, written into the leading rows of `out` where there is one."""
    if out is None:
        return namespace(left).matmul(left, right)
    return np.matmul(left, right, out=out[: left.shape[0]])


def weigh(factors: Array, weights: Array) -> Array:
    """``factors * weights``, overwriting NumPy `factors`."""
    return np.multiply(factors, weights, out=factors) if is_numpy(factors) else factors * weights


def unnormalised_posterior(
    queries: Array, table: Array, left_out: Any, out: Array | None = None
) -> tuple[Array, Array]:
    """Weights of all points relative to the heaviest, and which that is.

    Parameters
    ----------
    queries, table : array of shape (m, k), array of shape (N, k)
        Their inner products are log weights up to a constant per row.
    left_out : integer NumPy array of shape (m, 2) or None
        Per row the slice of `table` whose weight is zero; start = stop leaves nothing out.
    out : array of shape (>= m, N) or None
        From `workspace`.

    Returns
    -------
    weights : array of shape (m, N)
        Zero for the heaviest point itself and for what is left out. Every other weight is at
        least e^8 times the smallest normal number: below, exponentials and products with them
        run a hundred times slower.
    heaviest : integer array of shape (m,)
    """
    logits = product(queries, table.T, out)
    xp = namespace(logits)
    floor = float(np.log(xp.finfo(logits.dtype).smallest_normal)) + 8.0
    if not is_numpy(logits):
        index = xp.arange(table.shape[0], device=logits.device)[None, :]
        unseen = xp.zeros_like(logits, dtype=xp.bool)
        if left_out is not None:
            start, stop = (xp.asarray(ends, device=logits.device) for ends in left_out.T)
            unseen = (index >= start[:, None]) & (index < stop[:, None])
            logits = xp.where(unseen, -xp.inf, logits)
        heaviest = xp.argmax(logits, axis=1)
        weights = xp.exp(xp.clip(logits - xp.max(logits, axis=1, keepdims=True), min=floor))
        return xp.where(unseen | (index == heaviest[:, None]), 0.0, weights), heaviest
    slices = [] if left_out is None else left_out.tolist()
    for row, (start, stop) in zip(logits, slices, strict=False):
        row[start:stop] = -np.inf
    heaviest = np.argmax(logits, axis=1)[:, None]
    logits -= np.take_along_axis(logits, heaviest, axis=1)
    if logits.size and logits.min() < floor:
        np.maximum(logits, floor, out=logits)
    np.exp(logits, out=logits)
    for row, (start, stop) in zip(logits, slices, strict=False):
        row[start:stop] = 0.0
    np.put_along_axis(logits, heaviest, 0.0, axis=1)
    return logits, heaviest[:, 0]
