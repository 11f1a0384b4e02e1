"""What nearest neighbours say: intrinsic dimension and agreement with labels."""

from __future__ import annotations

import math
from typing import Any

from skfisher._backend.arrays import namespace
from skfisher._backend.nearest import agreement, levina_bickel, local_mean, two_nearest
from skfisher.rivals.metric import (
    Latents,
    Metric,
    channel_of,
    missing,
    read_labels,
    read_latents,
    subsample,
)

__all__ = ["mle_dimension", "neighbour_consistency", "two_nn_dimension"]


def two_nn_dimension(
    Z: Any,
    *,
    latent_shape: Any = None,
    standardize: str = "none",
    max_points: int = 10_000,
    random_state: Any = 0,
) -> Metric:
    """Intrinsic dimension from the ratio of the distances to the two nearest neighbours.

    Parameters
    ----------
    Z : array-like of shape (N, d) or (N, C, ...)
    latent_shape : tuple of int, optional
    standardize : {"none", "rms", "channel"}
        "channel" changes the metric; the others do not change the number.
    max_points : int
        Rows that are taken at random where there are more.
    random_state : int, RandomState, Generator or None

    Returns
    -------
    Metric
        The literature does not say that less or more is better.

    Notes
    -----
    Facco et al., Scientific Reports 2017: mu = r_2 / r_1 is Pareto with exponent k where the
    density is constant over the neighbourhood. Maximum likelihood without its bias of k / N:
    (N - 1) / sum log mu; nothing is trimmed. Biased low in high dimension (curvature, borders).
    The error counts rows that share neighbours as dependent.

    Examples
    --------
    >>> import numpy as np
    >>> Z = np.random.default_rng(0).uniform(size=(2000, 2))
    >>> metric = two_nn_dimension(Z)
    >>> abs(metric.value - 2) < 4 * metric.stderr
    True
    """
    latents = read_latents(Z, latent_shape, standardize=standardize)
    latents = subsample(latents, max_points, random_state)
    metric = _blank("two_nn_dimension", latents, "doi 10.1038/s41598-017-11873-y")
    if latents.reason:
        return missing(metric, latents.reason)
    logs, index = two_nearest(latents.rows)
    return _inverse_mean(metric, logs, index, (len(logs) - 1) / len(logs))


def mle_dimension(
    Z: Any,
    *,
    latent_shape: Any = None,
    n_neighbors: int = 20,
    standardize: str = "none",
    max_points: int = 10_000,
    random_state: Any = 0,
) -> Metric:
    """Intrinsic dimension by the likelihood of the distances to k neighbours.

    Parameters
    ----------
    Z : array-like of shape (N, d) or (N, C, ...)
    latent_shape : tuple of int, optional
    n_neighbors : int
        At least 3; a smaller number sees a smaller scale.
    standardize, max_points, random_state
        As in `two_nn_dimension`.

    Returns
    -------
    Metric

    Raises
    ------
    ValueError
        Fewer than 3 neighbours.

    Notes
    -----
    Levina and Bickel, NIPS 2004, with the inverses averaged (MacKay and Ghahramani 2005): one over
    the mean of (1 / (k - 1)) sum_{j < k} log(r_k / r_j), whose expectation is one over the
    dimension on flat data of constant density. Biased low where the neighbours reach the data's
    border, and either way by its curvature. The error counts rows that share neighbours as
    dependent.
    """
    if n_neighbors < 3:
        raise ValueError(f"n_neighbors is {n_neighbors}: the estimate needs at least 3.")
    latents = read_latents(Z, latent_shape, standardize=standardize)
    latents = subsample(latents, max_points, random_state)
    metric = _blank("mle_dimension", latents, "Levina and Bickel, NIPS 2004")
    metric = _with(metric, n_neighbors=n_neighbors)
    if latents.reason:
        return missing(metric, latents.reason)
    if metric.n_rows <= n_neighbors:
        return missing(metric, f"{metric.n_rows} distinct rows for {n_neighbors} neighbours")
    logs, index = levina_bickel(latents.rows, n_neighbors)
    return _inverse_mean(metric, logs, index, 1.0)


def neighbour_consistency(
    Z: Any,
    y: Any,
    *,
    latent_shape: Any = None,
    n_neighbors: int = 10,
    metric: str = "cosine",
    pool: bool = True,
    standardize: str = "channel",
    max_points: int = 10_000,
    random_state: Any = 0,
) -> Metric:
    """Share of a latent's nearest neighbours that have its label (LNC).

    Parameters
    ----------
    Z : array-like of shape (N, d) or (N, C, ...)
    y : labels of shape (N,)
    latent_shape : tuple of int, optional
    n_neighbors : int
    metric : {"cosine", "euclidean"}
    pool : bool
        Whether the positions of a latent are averaged first, where its shape is known.
    standardize : {"channel", "rms", "none"}
    max_points : int
    random_state : int, RandomState, Generator or None

    Returns
    -------
    Metric
        In [0, 1], higher is better. ``settings["chance"]`` is its expectation for labels without
        relation to the latents.

    Raises
    ------
    ValueError
        Labels of another length or of one class, an unknown metric.

    Notes
    -----
    A row is never its own neighbour, so every row is tested on the others (arXiv 2606.03578). The
    paper averages over a foreground mask, which is not known here: all positions are averaged. The
    error counts rows that share neighbours as dependent.
    """
    if metric not in ("cosine", "euclidean"):
        raise ValueError(f"metric is {metric!r}: it is 'cosine' or 'euclidean'.")
    latents = read_latents(Z, latent_shape, standardize=standardize)
    codes = read_labels(y, latents)
    if latents.rows.shape[0] > max_points:
        latents = subsample(latents, max_points, random_state)
        codes = read_labels(y, latents)
    found = _blank("neighbour_consistency", latents, "arXiv 2606.03578", better=True)
    found = _with(found, n_neighbors=n_neighbors, metric=metric, pool=pool)
    if latents.reason:
        return missing(found, latents.reason)
    if not 1 <= n_neighbors < found.n_rows:
        return missing(found, f"{found.n_rows} distinct rows for {n_neighbors} neighbours")
    rows = latents.rows
    size = channel_of(rows.shape[1], latents.shape)
    if pool and size > 1:
        xp = namespace(rows)
        rows = xp.mean(xp.reshape(rows, (rows.shape[0], -1, size)), axis=2)
    share, index, chance = agreement(rows, codes, n_neighbors, metric)
    value, stderr = local_mean(share, index)
    return _with(found, value=value, stderr=stderr, chance=chance)


def _blank(name: str, latents: Latents, reference: str, better: bool | None = None) -> Metric:
    n_rows = latents.rows.shape[0]
    return Metric(name, math.nan, math.nan, better, n_rows, reference, latents.settings)


def _with(
    found: Metric, /, *, value: float = math.nan, stderr: float = math.nan, **settings: Any
) -> Metric:
    return Metric(
        found.name,
        value,
        stderr,
        found.higher_is_better,
        found.n_rows,
        found.reference,
        {**found.settings, **settings},
    )


def _inverse_mean(metric: Metric, logs: Any, index: Any, shrink: float) -> Metric:
    """`shrink` over the mean of `logs`, with the error of the delta method."""
    mean, stderr = local_mean(logs, index)
    if not (mean > 0 and math.isfinite(mean)):
        return missing(metric, "the neighbours of all rows are equally far")
    return _with(metric, value=shrink / mean, stderr=stderr / mean**2)
