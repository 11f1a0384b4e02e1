"""How far the seeds of a generator agree on the order of the encoders."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq

from benchmarks.zoo.correlates import spearman_of
from benchmarks.zoo.table import Quality

__all__ = ["Reliability", "reliability"]

TARGET_RELIABILITY = 0.95
N_RESAMPLES = 1000
"""Of the encoders, for the interval."""


class Reliability(NamedTuple):
    """How well the mean over seeds orders the encoders of a setting.

    `split_half` is the mean Spearman over all splits of the seeds into two parts, brought to all
    seeds by Spearman and Brown; `intraclass` the share of the variance of the means that is not
    their error, with a bootstrap interval over encoders; `ceiling` the square root of
    `split_half`, which bounds a rank correlation with anything; `seeds_needed` for a reliability
    of 0.95.
    """

    n_encoders: int
    n_seeds: int
    split_half: float
    intraclass: float
    low: float
    high: float
    ceiling: float
    seeds_needed: int | None
    spread: float


def reliability(quality: Mapping[str, Quality], random_state: int = 0) -> Reliability:
    """Reliability of a setting from the encoders that have every seed; NaN with one seed."""
    counts = [len(q.values) for q in quality.values()]
    seeds = max(
        {tuple(q.values) for q in quality.values()},
        key=lambda s: (len(s), sum(tuple(q.values) == s for q in quality.values())),
        default=(),
    )
    complete = [q for q in quality.values() if set(seeds) <= set(q.values)]
    n, k = len(complete), len(seeds)
    nan = math.nan
    if n < 4 or k < 2:
        return Reliability(n, min(counts, default=0), nan, nan, nan, nan, nan, None, nan)
    values = np.array([[q.values[s] for s in seeds] for q in complete])
    split = _split_half(values)
    noise = values.var(axis=1, ddof=1)
    intraclass = float(_intraclass(values.mean(axis=1)[None], noise[None], k)[0])
    rng = np.random.default_rng(random_state)
    rows = rng.integers(n, size=(N_RESAMPLES, n))
    resampled = _intraclass(values.mean(axis=1)[rows], noise[rows], k)
    low, high = np.nanquantile(resampled, [0.025, 0.975])
    single = split / (k - (k - 1) * split) if split > 0 else nan
    ratio = TARGET_RELIABILITY / (1 - TARGET_RELIABILITY)
    needed = math.ceil(ratio * (1 - single) / single - 1e-9) if single > 0 else None
    ceiling = math.sqrt(split) if split > 0 else nan
    spread = float(np.sqrt(noise.mean()))
    return Reliability(n, k, split, intraclass, float(low), float(high), ceiling, needed, spread)


def _intraclass(means: np.ndarray, noise: np.ndarray, k: int) -> np.ndarray:
    total = means.var(axis=1, ddof=1)
    return np.where(total > 0, 1 - noise.mean(axis=1) / k / np.where(total > 0, total, 1), np.nan)


def _split_half(values: np.ndarray) -> float:
    """Mean rank correlation of the two parts of the seeds, over all splits, for all k seeds.

    With parallel seeds of reliability r each, means of a and of b seeds correlate by
    sqrt(R_a R_b), R_m = m r / (1 + (m - 1) r) (Spearman and Brown); r is solved for, R_k returned.
    """
    k = values.shape[1]
    a = k // 2
    found = []
    for part in combinations(range(k), a):
        if 2 * a == k and 0 not in part:
            continue  # the same split the other way round
        other = [s for s in range(k) if s not in part]
        one, two = values[:, list(part)].mean(axis=1), values[:, other].mean(axis=1)
        found.append(spearman_of(one, two))
    r = float(np.mean(found))
    if not 0 < r < 1:
        return max(r, 0.0) if math.isfinite(r) else math.nan

    def of(m: int, single: float) -> float:
        return m * single / (1 + (m - 1) * single)

    single = brentq(lambda s: math.sqrt(of(a, s) * of(k - a, s)) - r, 0.0, 1.0)
    return of(k, single)
