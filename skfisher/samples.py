"""Rows as a sample: equal ones merged, weights and groups beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from skfisher._backend.arrays import Array, like, namespace, take_rows, to_numpy
from skfisher._backend.rows import distinct_rows, held_codes, linked_groups, recode, sum_by_code

__all__ = ["Sample", "independent_rows", "make_sample"]


@dataclass(frozen=True, eq=False)
class Sample:
    """Distinct rows of a sample with their weights and groups.

    Equal rows are merged and their weights added: a repeated row is no independent evidence, and a
    score model must not be tested on a point that it has seen under another index. Groups that
    share a row become one. Rows of weight zero are dropped. Integer weights thus equal repetition
    exactly.

    Attributes
    ----------
    X : array of shape (N, n)
    weights : array of shape (N,) or None
        None where all are equal.
    groups : int array of shape (N,) or None
    place : int array of shape (n_given,) or None
        Row of the sample that holds each row given, -1 where it was dropped; None where the sample
        is the rows given.
    """

    X: Array
    weights: Array | None
    groups: Any
    place: Any = None


def make_sample(X: Array, sample_weight: Any = None, groups: Any = None) -> Sample:
    """Merge equal rows of `X`, drop rows without weight.

    Raises
    ------
    ValueError
        All rows with weight are equal, or in one group.
    """
    first, place = distinct_rows(X)
    n_rows = X.shape[0]
    if len(first) == n_rows and sample_weight is None:
        return Sample(X, None, groups)
    raw = to_numpy(X[:, 0]) * 0 + 1 if sample_weight is None else sample_weight
    total = sum_by_code(raw, place, len(first))
    kept = total > 0
    if kept.sum() < 2:
        raise ValueError(
            f"X holds one distinct sample of positive weight in {n_rows} rows, so it has no scale: "
            f"pass at least two different rows."
        )
    first, total = first[kept], total[kept]
    held = held_codes(kept, place)
    rows = take_rows(X, first)
    equal = bool((total == total[0]).all())
    codes = None if groups is None else recode(linked_groups(groups, place)[first])
    if codes is not None and codes.max() == 0:
        raise ValueError(
            "groups leave one independent group once rows of weight zero are dropped and groups "
            "that share a row are joined: pass at least two, or groups=None."
        )
    return Sample(rows, None if equal else like(total, X), codes, held)


def independent_rows(sample: Sample, index: Any = None) -> float:
    """Number of groups, or the effective number of weighted rows, among all rows or some."""
    xp = namespace(sample.X)
    n_rows = sample.X.shape[0] if index is None else len(index)
    if sample.groups is not None:
        groups = sample.groups if index is None else sample.groups[index]
        return float(len(set(groups.tolist())))
    if sample.weights is None:
        return float(n_rows)
    w = sample.weights if index is None else take_rows(sample.weights, index)
    return float(xp.sum(w)) ** 2 / float(xp.sum(w**2))
