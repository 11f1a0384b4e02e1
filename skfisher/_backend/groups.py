"""Sums over groups of rows: the scatter-add that the array API standard lacks."""

from __future__ import annotations

from typing import Any

import numpy as np

from skfisher._backend.arrays import Array, like, to_numpy

__all__ = ["group_sums"]


def group_sums(rows: Array, codes: Any) -> Array:
    """Sum of the rows of each group.

    Parameters
    ----------
    rows : array of shape (m, q)
    codes : integer array of shape (m,)
        Group of each row, 0..G-1 with none missing, as `as_groups` returns them.

    Returns
    -------
    array of shape (G, q)
        In the library, dtype and device of `rows`.
    """
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    return like(np.add.reduceat(to_numpy(rows)[order], starts, axis=0), rows)
