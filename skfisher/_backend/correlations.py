"""Correlations of two columns under many weightings of their rows at once, on the host.

A resample of rows is a vector of counts, a left-out row a zero among ones. Every statistic here is
a function of such weights, so bootstrap, jackknife and leave-one-family-out are one product each.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from skfisher._backend.arrays import to_numpy

__all__ = [
    "METHODS",
    "Interval",
    "as_column",
    "as_labels",
    "correlations",
    "group_codes",
    "interval",
    "leave_out",
    "resample_counts",
    "stack_columns",
    "without_missing",
]

METHODS = ("pearson", "spearman", "kendall")

_RTOL = 1e-12
"""A weighted variance below this share of the column's mean square is rounding."""

_BLOCK = 2**22
"""Numbers that one block of weights may expand to."""


class Interval(NamedTuple):
    """Ends and standard error, the bootstrap percentiles, the share of resamples with a value."""

    low: float
    high: float
    stderr: float
    percentile_low: float
    percentile_high: float
    defined: float


def correlations(x: Any, y: Any, weights: Any, covariates: Any = None) -> dict[str, Any]:
    """Pearson, Spearman and Kendall (tau-b) correlation under each row of `weights`.

    Parameters
    ----------
    x, y : vectors of length n
    weights : array of shape (B, n)
        Non-negative counts.
    covariates : array of shape (n, q), optional
        Given these, "pearson" and "spearman" are partial correlations, of values and of ranks, and
        "kendall" is left out.

    Returns
    -------
    dict of str to vector of length B
        NaN where a column is constant under the weights.

    Notes
    -----
    Ranks are those within the weighted sample: the mid-rank of row i is
    1/2 + sum_j w_j (1[x_j < x_i] + 1/2 1[x_j = x_i]). Kendall's tau-b is
    w'Pw / sqrt(w'|A|w w'|B|w) with the sign matrices A, B of x and y and P = A B entrywise.
    """
    columns = [np.asarray(c, dtype=np.float64) for c in (x, y)]
    if covariates is not None:
        columns += list(np.asarray(covariates, dtype=np.float64).T)
    signs = [np.sign(c[:, None] - c[None, :]) for c in columns]
    parts: dict[str, list[Any]] = {name: [] for name in METHODS}
    step = max(1, _BLOCK // max(1, len(x) * len(columns)))
    for start in range(0, len(weights), step):
        w = np.asarray(weights[start : start + step], dtype=np.float64)
        values = np.stack([np.broadcast_to(c, w.shape) for c in columns], axis=-1)
        parts["pearson"].append(_weighted(w, values))
        total = w.sum(axis=1, keepdims=True)
        ranks = np.stack([(total + w @ s.T + 1) / 2 for s in signs], axis=-1)
        parts["spearman"].append(_weighted(w, ranks))
        if covariates is None:
            parts["kendall"].append(_kendall(w, *signs))
    return {name: np.concatenate(found) for name, found in parts.items() if found}


def as_column(values: Any) -> Any:
    """`values` as a float64 vector; TypeError or ValueError where they are no numbers."""
    column = np.asarray(to_numpy(values), dtype=np.float64)
    if column.ndim != 1:
        raise ValueError(f"has shape {column.shape}, and one value per encoder is a vector")
    return column


def as_labels(values: Any) -> list[Any]:
    """Labels as a list of Python values."""
    return list(np.asarray(values).tolist())


def group_codes(labels: Any) -> tuple[list[Any], Any]:
    """Distinct labels in order of appearance, and the code of each row."""
    names = list(dict.fromkeys(labels))
    place = {name: k for k, name in enumerate(names)}
    return names, np.asarray([place[label] for label in labels], dtype=np.int64)


def stack_columns(columns: Any) -> Any:
    """Columns side by side: (n, q)."""
    return np.stack(columns, axis=1)


def without_missing(columns: Any) -> Any:
    """Indices of the rows in which every column is finite."""
    return np.flatnonzero(np.all(np.isfinite(np.stack(columns, axis=1)), axis=1))


def _weighted(w: Any, values: Any) -> Any:
    """Weighted correlation of the first two columns given the others, for each row of `w`."""
    share = (w / w.sum(axis=1, keepdims=True))[:, None, :]
    centred = values - (share @ values)
    cov = np.swapaxes(centred * share.swapaxes(1, 2), 1, 2) @ centred
    size = (share @ values**2)[:, 0, :]
    spread = np.diagonal(cov, axis1=1, axis2=2)
    dead = np.any(spread <= _RTOL * size, axis=1)
    scale = np.sqrt(np.where(spread > 0, spread, 1.0))
    corr = cov / scale[:, :, None] / scale[:, None, :]
    if values.shape[2] > 2:
        corr, lost = _given(corr)
        dead |= lost
    scale = np.where(dead, 1.0, corr[:, 0, 0] * corr[:, 1, 1])
    return np.where(dead, np.nan, np.clip(corr[:, 0, 1] / np.sqrt(scale), -1.0, 1.0))


def _given(corr: Any) -> tuple[Any, Any]:
    """Schur complement of the columns from the third on, and where it leaves nothing."""
    inner, cross = corr[:, 2:, 2:], corr[:, :2, 2:]
    dead = np.linalg.cond(inner) > 1e10
    inner = np.where(dead[:, None, None], np.eye(inner.shape[1]), inner)
    rest = corr[:, :2, :2] - cross @ np.linalg.solve(inner, np.swapaxes(cross, 1, 2))
    left = np.diagonal(rest, axis1=1, axis2=2)
    gone = dead | np.any(left <= 1e-10, axis=1)
    return np.where(gone[:, None, None], np.eye(2), rest), gone


def _kendall(w: Any, a: Any, b: Any) -> Any:
    def form(matrix: Any) -> Any:
        return np.sum((w @ matrix) * w, axis=1)

    scale = form(np.abs(a)) * form(np.abs(b))
    good = scale > 0
    return np.where(good, form(a * b) / np.sqrt(np.where(good, scale, 1.0)), np.nan)


def resample_counts(groups: Any, n_resamples: int, seed: int) -> Any:
    """Counts of each row in resamples of whole groups: (n_resamples, n).

    As many groups are drawn with replacement as there are.
    """
    n_groups = int(groups.max()) + 1
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(n_groups, np.full(n_groups, 1.0 / n_groups), size=n_resamples)
    return counts[:, groups]


def leave_out(groups: Any) -> Any:
    """Weights that leave out one group each: (G, n)."""
    return (np.arange(int(groups.max()) + 1)[:, None] != groups[None, :]).astype(np.float64)


def interval(
    value: float,
    replicates: Any,
    left_out: Any,
    confidence: float,
    *,
    ranks: bool = False,
    bounded: bool = True,
) -> Interval:
    """Interval of a correlation from its bootstrap replicates and its leave-one-out values.

    Parameters
    ----------
    value : float
    replicates : vector
        Bootstrap values; NaN ones are dropped.
    left_out : vector of length G
        Values with one independent group left out.
    confidence : float
    ranks : bool
        A statistic of ranks: resampling makes ties, which inflate its spread (an interval of 95 %
        covers 99.7 % at n = 8), so the jackknife alone gives the width.
    bounded : bool
        Whether it lives in [-1, 1]: then Fisher's z = artanh carries the interval.

    Notes
    -----
    z +- t(G - 2) se, with se the larger of the bootstrap's standard deviation of z, scaled by
    sqrt(G / (G - 1)), and the jackknife's. Values at +-1, where z is infinite, are pulled in to
    1 - 1 / G^2, the largest that G points resolve.
    """
    from scipy.special import stdtrit

    kept = replicates[np.isfinite(replicates)]
    jack = left_out[np.isfinite(left_out)]
    defined = len(kept) / max(1, len(replicates))
    n_groups = len(left_out)
    if n_groups < 4 or len(kept) < 2 or len(jack) < n_groups - 1:
        return Interval(np.nan, np.nan, np.nan, np.nan, np.nan, defined)
    inflate = np.sqrt(n_groups / (n_groups - 1))
    edge = 1 - 1 / n_groups**2

    def error(transform: Any) -> float:
        spread = transform(jack) - transform(jack).mean()
        jackknife = float(np.sqrt((len(jack) - 1) / len(jack) * (spread @ spread)))
        boot = 0.0 if ranks else float(np.std(transform(kept), ddof=1)) * inflate
        return max(jackknife, boot)

    def fisher(r: Any) -> Any:
        return np.arctanh(np.clip(r, -edge, edge))

    stderr = error(lambda r: r)
    tail = (1 - confidence) / 2
    first, last = (float(np.quantile(kept, q)) for q in (tail, 1 - tail))
    quantile = float(stdtrit(n_groups - 2, 0.5 + confidence / 2))
    if not bounded:
        half = quantile * stderr
        return Interval(value - half, value + half, stderr, first, last, defined)
    centre, half = float(fisher(value)), quantile * error(fisher)
    low, high = float(np.tanh(centre - half)), float(np.tanh(centre + half))
    return Interval(min(low, value), max(high, value), stderr, first, last, defined)
