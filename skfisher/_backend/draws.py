"""Seeded normal and sign draws whose value depends only on (seed, stream, row).

The array API standard has no random numbers. Every draw comes from a NumPy Philox counter
generator; row i of a stream starts at a fixed block of its counter, so neither the chunk size nor
the library nor the number of workers changes a draw.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.special import ndtri
from sklearn.utils import check_random_state

from skfisher._backend.arrays import Array, like, row_chunks

__all__ = [
    "integers",
    "normal",
    "permutation",
    "resampled_sums",
    "seed_of",
    "signs",
    "systematic_counts",
    "uniform",
    "weighted_integers",
]

_WORDS_PER_BLOCK = 4  # Philox4x64 yields four 64-bit words for each step of its counter
_BLOCK = 2**20  # bytes of words that are converted at a time


def seed_of(random_state: Any) -> int:
    """An integer seed from None, an int, a `RandomState` or a `Generator`.

    An instance is advanced by one draw, as everywhere in scikit-learn.
    """
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**31 - 1))
    if isinstance(random_state, (int, np.integer)) and random_state >= 0:
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31 - 1))


def normal(seed: int, stream: tuple[int, ...], rows: slice, n_columns: int, ref: Array) -> Array:
    """Standard normal draws for `rows` of a stream.

    Parameters
    ----------
    seed : int
        From `seed_of`.
    stream : tuple of int
        What the draws are for, and at which noise level.
    rows : slice
        ``rows.start`` to ``rows.stop``: the rows to draw.
    n_columns : int
        Draws per row.
    ref : array
        Its library, dtype and device are those of the result.

    Returns
    -------
    array of shape (rows.stop - rows.start, n_columns)
    """
    return like(_draw(_normal, seed, stream, rows, n_columns), ref)


def signs(seed: int, stream: tuple[int, ...], rows: slice, n_columns: int, ref: Array) -> Array:
    """Rademacher draws (+1 or -1) for `rows` of a stream; parameters as for `normal`."""
    return like(_draw(_sign, seed, stream, rows, n_columns), ref)


def integers(seed: int, stream: tuple[int, ...], rows: slice, n_columns: int, high: int) -> Any:
    """Integers 0 <= i < `high` for `rows` of a stream, as NumPy; parameters as for `normal`."""
    words = _words(seed, stream, rows, n_columns)
    # the top 53 bits: exact in a float, and for high < 2**32 uniform to better than 1e-6
    return ((words >> np.uint64(11)).astype(np.float64) * 2.0**-53 * high).astype(np.int64)


def weighted_integers(seed: int, stream: tuple[int, ...], size: int, weights: Any) -> Any:
    """`size` indices into `weights`, each drawn in proportion to its weight, as NumPy."""
    edges = np.cumsum(np.asarray(weights, dtype=np.float64))
    words = _words(seed, stream, slice(0, size), 1)[:, 0]
    points = (words >> np.uint64(11)).astype(np.float64) * 2.0**-53 * edges[-1]
    return np.minimum(np.searchsorted(edges, points, side="right"), len(edges) - 1)


def permutation(seed: int, stream: tuple[int, ...], size: int) -> Any:
    """A random order of ``range(size)`` as a NumPy vector."""
    return np.argsort(_words(seed, stream, slice(0, size), 1)[:, 0], kind="stable")


def resampled_sums(seed: int, stream: tuple[int, ...], values: Any, n_resamples: int) -> Any:
    """Sums of rows of `values` (N, E) over bootstrap resamples of N rows: (n_resamples, E)."""
    values = np.asarray(values, dtype=np.float64)
    n_rows = values.shape[0]
    out = np.empty((n_resamples, values.shape[1]))
    for part in row_chunks(n_resamples, 40 * n_rows):
        drawn = integers(seed, stream, part, n_rows, n_rows)
        drawn += n_rows * np.arange(drawn.shape[0])[:, None]
        counts = np.bincount(drawn.reshape(-1), minlength=drawn.size)
        out[part] = counts.reshape(drawn.shape).astype(np.float64) @ values
    return out


def systematic_counts(weights: Any, seed: int) -> Any:
    """How often each row enters a resample of about ``len(weights)`` rows in proportion to weight.

    Integer weights are their own counts; others are resampled systematically: one uniform offset,
    so each count is the floor or the ceiling of its expectation.
    """
    rounded = np.rint(weights)
    if np.array_equal(rounded, weights) and rounded.sum() <= 10 * len(weights):
        return rounded.astype(np.int64)
    edges = np.cumsum(weights) * (len(weights) / np.sum(weights))
    edges[-1] = len(weights)
    offset = np.random.default_rng(seed).uniform()
    return np.diff(np.floor(edges + offset).astype(np.int64), prepend=0)


def uniform(seed: int, stream: tuple[int, ...], rows: slice, n_columns: int, ref: Array) -> Array:
    """Uniform draws in (0, 1), never 0 or 1 in float64; parameters as for `normal`."""
    return like(_draw(_in_unit_interval, seed, stream, rows, n_columns), ref)


def _in_unit_interval(words: Any) -> Any:
    """The top 52 bits, centred in their cells: never 0 or 1, symmetric about one half."""
    return ((words >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52


def _normal(words: Any) -> Any:
    return ndtri(_in_unit_interval(words))


def _sign(words: Any) -> Any:
    return (words >> np.uint64(63)).astype(np.float64) * 2.0 - 1.0


def _draw(
    convert: Callable[[Any], Any], seed: int, stream: tuple[int, ...], rows: slice, n_columns: int
) -> Any:
    """Converted words of `rows`, in blocks that stay in cache."""
    out = np.empty((rows.stop - rows.start, n_columns))
    for block in row_chunks(out.shape[0], 8 * n_columns, _BLOCK):
        part = slice(rows.start + block.start, rows.start + block.stop)
        out[block] = convert(_words(seed, stream, part, n_columns))
    return out


def _words(seed: int, stream: tuple[int, ...], rows: slice, n_columns: int) -> Any:
    n_rows = rows.stop - rows.start
    blocks = -(-n_columns // _WORDS_PER_BLOCK)
    # as a spawn key, a stream never equals a longer one that ends in zeros
    key = np.random.SeedSequence(seed, spawn_key=stream).generate_state(2, np.uint64)
    bits = np.random.Philox(key=key)
    bits.advance(rows.start * blocks)
    words = bits.random_raw(n_rows * blocks * _WORDS_PER_BLOCK)
    return words.reshape(n_rows, blocks * _WORDS_PER_BLOCK)[:, :n_columns]
