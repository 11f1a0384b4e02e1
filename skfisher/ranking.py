"""Scores of several encoders told apart: one resampling of the rows that they share."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from skfisher._backend.arrays import Array, namespace, to_numpy
from skfisher._backend.draws import normal, resampled_sums, seed_of

__all__ = ["Ranking", "check_resamples", "rank_scores", "row_influence"]

_RESAMPLES, _OWN = 611, 612  # streams of the draws


@dataclass(frozen=True, eq=False)
class Ranking:
    """Ranks of E scores with what the sample leaves open.

    Attributes
    ----------
    order : tuple of int
        Positions by decreasing score; scores that are not finite last.
    ranks : tuple of int
        One more than the number of others that are better beyond doubt: what cannot be told apart
        is not ranked apart.
    rank_intervals : tuple of tuple of int
        Percentile interval of each one's rank over the resamples.
    win_probability : array of shape (E, E)
        Share of resamples in which the row's score is above the column's, ties counted half.
    difference_stderr : array of shape (E, E)
        Standard error of the difference of two scores on the rows that they share.
    n_resamples : int
    confidence : float
    """

    order: tuple[int, ...]
    ranks: tuple[int, ...]
    rank_intervals: tuple[tuple[int, int], ...]
    win_probability: Array
    difference_stderr: Array
    n_resamples: int
    confidence: float

    def separated(self, i: int, j: int) -> bool:
        """Whether the i-th score is above the j-th beyond doubt."""
        return float(self.win_probability[i, j]) >= (1 + self.confidence) / 2


def check_resamples(n_resamples: Any, confidence: float = 0.95) -> None:
    """Refuse a confidence out of (0, 1) and fewer resamples than it takes to resolve it.

    Raises
    ------
    ValueError
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}: pass a number between 0 and 1.")
    fewest = round(2 / (1 - confidence))
    if not isinstance(n_resamples, numbers.Integral) or n_resamples < fewest:
        raise ValueError(
            f"n_resamples is {n_resamples!r}: pass a whole number, {fewest} or more, without which "
            f"a confidence of {confidence} is not resolved."
        )


def row_influence(contributions: Array, weights: Array | None = None) -> Array:
    """By how much a score, the weighted mean of its rows' contributions, moves without each row.

    Parameters
    ----------
    contributions : array of shape (N,)
    weights : array of shape (N,), optional

    Returns
    -------
    array of shape (N,)
        Score without the row minus score. First order: models are not fitted again.

    Examples
    --------
    >>> import numpy as np
    >>> row_influence(np.asarray([0.0, 0.0, 3.0])).tolist()
    [0.5, 0.5, -1.0]
    """
    xp = namespace(contributions)
    w = xp.ones_like(contributions) if weights is None else weights
    total = xp.sum(w)
    mean = xp.sum(w * contributions) / total
    rest = total - w
    return xp.where(rest > 0, (mean - contributions) * w / xp.where(rest > 0, rest, 1.0), 0.0 * w)


def rank_scores(
    scores: Sequence[float],
    contributions: Sequence[Array],
    *,
    weights: Sequence[Array | None] | None = None,
    stderrs: Sequence[float] | None = None,
    own_stderrs: Sequence[float] | None = None,
    samples: Sequence[object] | None = None,
    n_resamples: int = 2000,
    confidence: float = 0.95,
    random_state: int = 0,
) -> Ranking:
    """Rank scores by resampling rows, the same rows for all scores of one sample.

    Parameters
    ----------
    scores : sequence of E float
    contributions : sequence of E arrays of shape (N,)
        What each row brings to the score; their weighted mean moves as the score does.
    weights : sequence of E (array of shape (N,) or None), optional
    stderrs : sequence of E float, optional
        Standard error of each score. Rows that share their noise (equal rows are one) or belong
        together tell less than N independent ones: deviations are scaled to these errors. Where one
        is not finite or zero, and by default, the rows count as independent.
    own_stderrs : sequence of E float, optional
        The part of each standard error that it shares with no other score, whatever their rows;
        normal errors of this size are added to the resamples. Default: none.
    samples : sequence of E hashable, optional
        Scores with equal entries rest on the same rows in the same order and are resampled
        together; others independently. Default: together where N agrees.
    n_resamples : int
    confidence : float
        Of the rank intervals; two scores are told apart where one wins in (1 + confidence)/2 of
        the resamples.
    random_state : int

    Returns
    -------
    Ranking

    Raises
    ------
    ValueError
        No score; too few resamples for the confidence, which must lie in (0, 1); contributions that
        are not finite of a score that is.

    Notes
    -----
    Bootstrap of rows, linear in their weights: score models are not fitted again, whose error is of
    second order where they are good. Each row carries its own noise and probes, so that resampling
    rows resamples these too. Two scores on the same rows and noise share most of their error, and
    are told apart where two separate standard errors would not.

    Examples
    --------
    >>> import numpy as np
    >>> rows = np.random.default_rng(0).normal(size=200)
    >>> found = rank_scores([rows.mean(), rows.mean() - 0.05], [rows, rows - 0.05])
    >>> found.ranks, found.rank_intervals
    ((1, 2), ((1, 1), (2, 2)))
    """
    if not len(scores):
        raise ValueError("scores is empty: pass at least one score.")
    check_resamples(n_resamples, confidence)
    rows = [to_numpy(c) for c in contributions]
    given = [None] * len(rows) if weights is None else list(weights)
    errors = [math.nan] * len(rows) if stderrs is None else [float(error) for error in stderrs]
    own_errors = [0.0] * len(rows) if own_stderrs is None else [float(e) for e in own_stderrs]
    errors = [
        math.sqrt(max(error**2 - own**2, 0.0))
        for error, own in zip(errors, own_errors, strict=True)
    ]
    keys = [row.shape[0] for row in rows] if samples is None else list(samples)
    xp = namespace(rows[0])
    size = len(rows)
    moved: list[Array] = [None] * size
    deviations: list[Array] = []
    for row, w, error in zip(rows, given, errors, strict=True):
        w = xp.ones_like(row) if w is None else to_numpy(w)
        deviation = w / xp.sum(w) * (row - xp.sum(w * row) / xp.sum(w))
        own = float(xp.linalg.vector_norm(deviation))
        if math.isnan(own) and math.isfinite(scores[len(deviations)]):
            raise ValueError(
                f"contributions[{len(deviations)}] holds NaN or infinity, or its weights are all "
                f"zero, but its score is finite: leave out the levels that failed."
            )
        scaled = own > 0 and error > 0 and math.isfinite(error)
        deviations.append(deviation * (error / own) if scaled else deviation)
    for which, key in enumerate(dict.fromkeys(keys)):
        members = [i for i in range(size) if keys[i] == key]
        together = xp.stack([deviations[i] for i in members], axis=1)
        sums = resampled_sums(seed_of(random_state), (_RESAMPLES, which), together, n_resamples)
        for place, i in enumerate(members):
            moved[i] = scores[i] + sums[:, place]
    alone = normal(seed_of(random_state), (_OWN,), slice(0, n_resamples), size, rows[0])
    drawn = xp.stack(moved, axis=1) + alone * xp.asarray(own_errors)[None, :]
    finite = [math.isfinite(score) for score in scores]
    drawn = xp.where(xp.asarray(finite)[None, :], drawn, -math.inf)
    # rounding must not rank what is equal
    close = 1e-12 * xp.max(xp.abs(xp.where(xp.isfinite(drawn), drawn, 0.0)))
    above = drawn[:, :, None] > drawn[:, None, :] + close
    win = (
        xp.mean(xp.astype(above, drawn.dtype), axis=0)
        + 1
        - xp.mean(xp.astype(drawn[:, None, :] > drawn[:, :, None] + close, drawn.dtype), axis=0)
    ) / 2
    best = xp.sort(1 + xp.sum(xp.astype(above, xp.int64), axis=1), axis=0)
    last = xp.sort(size - xp.sum(xp.astype(above, xp.int64), axis=2), axis=0)
    low = math.floor((1 - confidence) / 2 * (n_resamples - 1))
    intervals = tuple((int(best[low, i]), int(last[n_resamples - 1 - low, i])) for i in range(size))
    gaps = [
        [
            math.sqrt(
                _gap_variance(deviations, keys, i, j)
                + (own_errors[i] ** 2 + own_errors[j] ** 2) * (i != j)
            )
            for j in range(size)
        ]
        for i in range(size)
    ]
    sure = [
        [i != j and float(win[i, j]) >= (1 + confidence) / 2 for j in range(size)]
        for i in range(size)
    ]
    order = sorted(range(size), key=lambda i: -scores[i] if finite[i] else math.inf)
    return Ranking(
        order=tuple(order),
        ranks=tuple(1 + sum(sure[j][i] for j in range(size)) for i in range(size)),
        rank_intervals=intervals,
        win_probability=win,
        difference_stderr=xp.asarray(gaps),
        n_resamples=n_resamples,
        confidence=confidence,
    )


def _gap_variance(deviations: Sequence[Array], keys: Sequence[object], i: int, j: int) -> float:
    """Variance of the difference of two scores: paired where they rest on the same rows."""
    one, other = deviations[i], deviations[j]
    if keys[i] == keys[j]:
        return float(((one - other) ** 2).sum())
    return float((one**2).sum() + (other**2).sum())
