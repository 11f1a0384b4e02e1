"""Labels of rows as integer codes."""

from __future__ import annotations

from typing import Any

import numpy as np

from skfisher._backend.arrays import to_numpy

__all__ = ["label_codes", "rows_by_code"]


def label_codes(y: Any, n_rows: int) -> Any:
    """`y` as codes 0..L-1 of length `n_rows`.

    Raises
    ------
    ValueError
        Wrong length, or one label only.
    """
    labels = np.asarray(to_numpy(y))
    if labels.shape != (n_rows,):
        raise ValueError(f"y has shape {labels.shape} but Z has {n_rows} rows: one label per row.")
    names, codes = np.unique(labels, return_inverse=True)
    if len(names) < 2:
        raise ValueError(
            f"y holds the single label {names[0]!r}: classes are compared, so pass at least two, "
            f"or y=None."
        )
    return codes


def rows_by_code(codes: Any) -> list[Any]:
    """Row indices of each code 0..L-1."""
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.cumsum(np.bincount(codes))[:-1])
