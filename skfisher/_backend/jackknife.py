"""Delete-a-group jackknife: weights that leave out one group of rows each."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["jackknife_error", "jackknife_weights"]


def jackknife_weights(n_rows: int, n_groups: int, seed: int) -> Any:
    """All rows, then all but one group of random rows at a time: (1 + G, n_rows) of 0 and 1."""
    n_groups = min(n_groups, n_rows)
    group = np.random.default_rng(seed).permutation(n_rows) % n_groups
    left = (np.arange(n_groups)[:, None] != group[None, :]).astype(np.float64)
    return np.concatenate([np.ones((1, n_rows)), left])


def jackknife_error(values: Any) -> tuple[float, float]:
    """The value of all rows, and the error from those without one group each."""
    left = values[1:]
    spread = left - left.mean()
    return float(values[0]), float(np.sqrt((len(left) - 1) / len(left) * (spread @ spread)))
