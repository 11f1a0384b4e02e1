"""One number about a sample of latents, and how the sample is read for all of them alike."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from skfisher._backend.arrays import Array, namespace, take_rows
from skfisher._backend.draws import permutation, seed_of
from skfisher._backend.labels import label_codes
from skfisher._backend.rows import distinct_rows, recode, sorted_index
from skfisher.channels import check_latent_shape, flatten_latents

__all__ = [
    "MIN_ROWS",
    "STANDARDIZATIONS",
    "Latents",
    "Metric",
    "channel_of",
    "missing",
    "read_labels",
    "read_latents",
    "row_mean",
    "spatial_shape",
    "subsample",
]

MIN_ROWS = 10
"""Distinct rows below which nothing is measured."""

STANDARDIZATIONS = ("none", "rms", "channel")

_SUBSAMPLE = 701  # stream of the rows that a costly metric is computed on


@dataclass(frozen=True, eq=False)
class Metric:
    """A published number about latents.

    Attributes
    ----------
    name : str
    value, stderr : float
        NaN with a `reason` where the number is not defined or may not be believed. The error is
        that of the sample of rows.
    higher_is_better : bool or None
        As the literature reads it; None where it does not say.
    n_rows : int
        Distinct rows that entered.
    reference : str
        Where it was published.
    settings : mapping
        How the latents were standardised, and every choice that changes the number.
    reason : str
        Why a number is missing; empty where none is.
    """

    name: str
    value: float
    stderr: float
    higher_is_better: bool | None
    n_rows: int
    reference: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""

    def __repr__(self) -> str:
        if math.isnan(self.value):
            return f"Metric({self.name}: nan, {self.reason})"
        return f"Metric({self.name}: {self.value:.4g} +- {self.stderr:.2g}, {self.n_rows} rows)"


class Latents(NamedTuple):
    """Distinct rows in double precision, and how they were made."""

    rows: Array  # (N, d)
    shape: tuple[int, ...] | None
    index: Any  # of each row in what was given
    settings: dict[str, Any]
    reason: str  # why nothing can be measured
    n_given: int  # rows before equal ones were dropped


def missing(metric: Metric, reason: str) -> Metric:
    """`metric` without a value, for a reason."""
    return replace(metric, value=math.nan, stderr=math.nan, reason=reason)


def read_latents(
    Z: Any, latent_shape: Any = None, *, standardize: str = "none", name: str = "Z"
) -> Latents:
    """Distinct rows of `Z` in float64, centred and scaled as asked.

    Parameters
    ----------
    Z : array-like of shape (N, d) or (N, C, ...)
    latent_shape : tuple of int, optional
        (C, ...) of one latent, where Z is flat.
    standardize : {"none", "rms", "channel"}
        "none" leaves the rows as they are; "rms" divides them by the root of their mean variance
        per coordinate; "channel" subtracts the mean of every channel, over rows and positions, and
        divides by its standard deviation. Where no latent shape is known every coordinate is a
        channel.

    Notes
    -----
    Equal rows are no independent evidence, and put neighbours at distance zero: one of each is
    kept, and their number recorded.

    Raises
    ------
    ValueError
        An unknown standardisation, or a latent shape that does not fit.
    """
    if standardize not in STANDARDIZATIONS:
        known = ", ".join(map(repr, STANDARDIZATIONS))
        raise ValueError(f"standardize is {standardize!r}: it is one of {known}.")
    rows, found = flatten_latents(Z, name=name)
    given = found if latent_shape is None else latent_shape
    shape = None if given is None else check_latent_shape(given, rows.shape[1])
    xp = namespace(rows)
    rows = xp.astype(rows, xp.float64)
    index, _ = distinct_rows(rows)
    dropped = rows.shape[0] - len(index)
    if dropped:
        rows = take_rows(rows, index)
    settings = {"standardize": standardize, "latent_shape": shape, "duplicates_dropped": dropped}
    out = Latents(rows, shape, index, settings, "", rows.shape[0] + dropped)
    if rows.shape[0] < MIN_ROWS:
        reason = f"{rows.shape[0]} distinct rows, and at least {MIN_ROWS} are needed"
        return out._replace(reason=reason)
    centred = rows - xp.mean(rows, axis=0, keepdims=True)
    total = float(xp.mean(centred**2))
    if total <= 1e-24 * float(xp.mean(rows**2)):
        return out._replace(reason="the latents are constant")
    if standardize == "rms":
        scale = math.sqrt(total * rows.shape[0] / (rows.shape[0] - 1))
        rows = rows / scale
        settings["scale"] = scale
    elif standardize == "channel":
        rows, dead = _per_channel(rows, shape)
        if dead:
            settings["constant_channels"] = dead
    return out._replace(rows=rows)


def channel_of(n_features: int, shape: tuple[int, ...] | None) -> int:
    """Coordinates of one channel: they stand together, channels first."""
    return 1 if shape is None else n_features // shape[0]


def _per_channel(rows: Array, shape: tuple[int, ...] | None) -> tuple[Array, int]:
    xp = namespace(rows)
    size = channel_of(rows.shape[1], shape)
    cells = xp.reshape(rows, (rows.shape[0], rows.shape[1] // size, size))
    mean = xp.mean(cells, axis=(0, 2), keepdims=True)
    cells = cells - mean
    std = xp.sqrt(xp.mean(cells**2, axis=(0, 2), keepdims=True))
    dead = std <= 1e-12 * xp.max(std)
    cells = xp.where(dead, 0.0 * cells, cells / xp.where(dead, xp.ones_like(std), std))
    return xp.reshape(cells, rows.shape), int(xp.count_nonzero(dead))


def spatial_shape(shape: tuple[int, ...] | None, name: str) -> tuple[int, int, int]:
    """(C, H, W); a sequence of tokens (C, L) counts as (C, L, 1).

    Raises
    ------
    ValueError
        No shape, or none with one or two axes of positions.
    """
    if shape is None or len(shape) not in (2, 3):
        raise ValueError(
            f"{name} needs positions, and the latent shape is {shape}: pass Z of shape "
            f"(N, C, H, W) or (N, C, L), or latent_shape beside flat rows."
        )
    return shape[0], shape[1], shape[2] if len(shape) == 3 else 1


def read_labels(y: Any, latents: Latents) -> Any:
    """Labels of the distinct rows as codes 0..L-1.

    Raises
    ------
    ValueError
        Wrong length, or one label only.
    """
    return recode(label_codes(y, latents.n_given)[latents.index])


def subsample(latents: Latents, max_points: int, random_state: Any) -> Latents:
    """At most `max_points` rows, in their order, and the number recorded."""
    n_rows = latents.rows.shape[0]
    if n_rows <= max_points:
        return latents
    picked = sorted_index(permutation(seed_of(random_state), (_SUBSAMPLE,), n_rows)[:max_points])
    return latents._replace(
        rows=take_rows(latents.rows, picked),
        index=latents.index[picked],
        settings={**latents.settings, "max_points": max_points},
    )


def row_mean(values: Array) -> tuple[float, float]:
    """Mean of one value per row and its standard error."""
    xp = namespace(values)
    n_rows = values.shape[0]
    mean = float(xp.mean(values))
    return mean, math.sqrt(float(xp.sum((values - mean) ** 2)) / (n_rows - 1) / n_rows)
