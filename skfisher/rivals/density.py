"""How evenly latents fill their space, and how few Gaussians describe them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from skfisher._backend.arrays import Array, namespace
from skfisher._backend.densities import (
    embed_by_tsne,
    mixture_log_likelihoods,
    pair_potential,
    plane_densities,
    unevenness,
)
from skfisher._backend.draws import seed_of
from skfisher._backend.jackknife import jackknife_error, jackknife_weights
from skfisher.rivals.metric import Latents, Metric, missing, read_latents, row_mean, subsample

__all__ = ["gmm_likelihood", "hypersphere_uniformity", "uniformity"]

STATISTICS = {"gini": False, "density_cv": False, "normalized_entropy": True}
"""Statistics of a density, and whether more of it is better."""

_GROUPS = 20


def uniformity(
    Z: Any,
    *,
    latent_shape: Any = None,
    statistic: str = "gini",
    projection: str = "pca",
    standardize: str = "channel",
    max_points: int = 3000,
    random_state: Any = 0,
) -> Metric:
    """How evenly the latents lie in a plane that they are projected to.

    Parameters
    ----------
    Z : array-like of shape (N, d) or (N, C, ...)
    latent_shape : tuple of int, optional
    statistic : {"gini", "density_cv", "normalized_entropy"}
        Of the kernel densities at the points: Gini coefficient, standard deviation over mean, or
        entropy of the densities as shares over its largest value log N.
    projection : {"pca", "tsne"}
        The paper's is t-SNE; the two leading principal components are a cheap substitute that sees
        only those.
    standardize : {"channel", "rms", "none"}
    max_points : int
        Rows that are taken at random where there are more; t-SNE takes about 45 s for 3000 on one
        core.
    random_state : int, RandomState, Generator or None

    Returns
    -------
    Metric
        Lower is better for "gini" and "density_cv", higher for "normalized_entropy".

    Raises
    ------
    ValueError
        An unknown statistic or projection.

    Notes
    -----
    VA-VAE (arXiv 2501.01423). Whitened coordinates, Gaussian kernel of Scott's bandwidth
    h = N^-1/6, densities at the points themselves (where the paper takes them is not known to us).
    A Gaussian plane gives, with a = 1 / (1 + h^2), a Gini coefficient of a / (a + 2) and a
    coefficient of variation of a / sqrt(1 + 2a). Delete-a-group jackknife over 20 groups for fixed
    projection, bandwidth and whitening: the variation of t-SNE itself is not in the error.
    """
    if statistic not in STATISTICS:
        known = ", ".join(map(repr, STATISTICS))
        raise ValueError(f"statistic is {statistic!r}: it is one of {known}.")
    if projection not in ("pca", "tsne"):
        raise ValueError(f"projection is {projection!r}: it is 'pca' or 'tsne'.")
    seed = seed_of(random_state)
    latents = read_latents(Z, latent_shape, standardize=standardize)
    latents = subsample(latents, max_points, seed)
    settings = {**latents.settings, "statistic": statistic, "projection": projection}
    metric = Metric(
        f"uniformity_{statistic}_{projection}",
        math.nan,
        math.nan,
        STATISTICS[statistic],
        latents.rows.shape[0],
        "arXiv 2501.01423",
        settings,
    )
    if latents.reason:
        return missing(metric, latents.reason)
    plane, reason = _plane(latents)
    if reason:
        return missing(metric, reason)
    if projection == "tsne":
        plane = embed_by_tsne(latents.rows, seed)
    weights = jackknife_weights(metric.n_rows, _GROUPS, seed)
    values = unevenness(plane_densities(plane, weights), weights)[statistic]
    value, stderr = jackknife_error(values)
    return Metric(
        metric.name,
        value,
        stderr,
        metric.higher_is_better,
        metric.n_rows,
        metric.reference,
        settings,
    )


def _plane(latents: Latents) -> tuple[Array, str]:
    xp = namespace(latents.rows)
    values, vectors, centred = _principal(latents.rows)
    if latents.rows.shape[1] < 2 or float(values[-2]) <= 1e-12 * float(values[-1]):
        return centred, "the latents lie on a line, and no plane can be drawn through them"
    return centred @ xp.stack([vectors[:, -1], vectors[:, -2]], axis=1), ""


def _principal(rows: Array) -> tuple[Array, Array, Array]:
    """Eigenvalues (rising) and principal directions, and the centred rows."""
    xp = namespace(rows)
    centred = rows - xp.mean(rows, axis=0, keepdims=True)
    n_rows, d = rows.shape
    if d <= n_rows:
        values, vectors = xp.linalg.eigh(centred.T @ centred / n_rows)
        return values, vectors, centred
    values, left = xp.linalg.eigh(centred @ centred.T / n_rows)
    length = xp.sqrt(xp.where(values > 0, values, 0 * values) * n_rows)
    vectors = centred.T @ left / xp.where(length > 0, length, 1 + 0 * length)[None, :]
    return values, vectors, centred


def hypersphere_uniformity(
    Z: Any,
    *,
    latent_shape: Any = None,
    t: float = 2.0,
    standardize: str = "channel",
    max_points: int = 4000,
    random_state: Any = 0,
) -> Metric:
    """Logarithm of the mean Gaussian potential of pairs of normalised latents.

    Parameters
    ----------
    Z : array-like of shape (N, d) or (N, C, ...)
    latent_shape : tuple of int, optional
    t : float
        Sharpness of the potential exp(-t |u - v|^2).
    standardize : {"channel", "rms", "none"}
    max_points : int
    random_state : int, RandomState, Generator or None

    Returns
    -------
    Metric
        In [-4 t, 0]; lower is more uniform. The best value depends on the dimension: about -2t in
        many.

    Raises
    ------
    ValueError
        A sharpness that is not positive.

    Notes
    -----
    Wang and Isola (arXiv 2005.10242): log E exp(-t |u - v|^2) over pairs of different rows u =
    z / |z|. It sees directions only. The error is that of a U-statistic.
    """
    if not t > 0:
        raise ValueError(f"t is {t}: the sharpness of the potential is positive.")
    latents = read_latents(Z, latent_shape, standardize=standardize)
    latents = subsample(latents, max_points, random_state)
    settings = {**latents.settings, "t": t}
    n_rows = latents.rows.shape[0]
    metric = Metric(
        "hypersphere_uniformity", math.nan, math.nan, False, n_rows, "arXiv 2005.10242", settings
    )
    if latents.reason:
        return missing(metric, latents.reason)
    xp = namespace(latents.rows)
    length = xp.sqrt(xp.sum(latents.rows**2, axis=1, keepdims=True))
    if not bool(xp.all(length > 0)):
        return missing(metric, "a latent of length zero has no direction")
    value, stderr = pair_potential(latents.rows / length, t)
    return Metric(metric.name, value, stderr, False, n_rows, metric.reference, settings)


def gmm_likelihood(
    Z: Any,
    *,
    latent_shape: Any = None,
    n_components: Sequence[int] = (1, 2, 4, 8),
    max_dimensions: int = 32,
    n_folds: int = 2,
    standardize: str = "rms",
    max_points: int = 4000,
    random_state: Any = 0,
) -> Metric:
    """Held-out log-likelihood per dimension of the best Gaussian mixture, and how many it takes.

    Parameters
    ----------
    Z : array-like of shape (N, d) or (N, C, ...)
    latent_shape : tuple of int, optional
    n_components : sequence of int
        Sizes that are tried, with full covariances; rising.
    max_dimensions : int
        Leading principal components that enter where there are more dimensions.
    n_folds : int
    standardize : {"rms", "channel", "none"}
    max_points : int
    random_state : int, RandomState, Generator or None

    Returns
    -------
    Metric
        Nats per dimension, higher is better, of the size with the best mean.
        ``settings["n_modes"]`` is the smallest size within one standard error (of the paired
        difference) of the best, ``settings["log_likelihood"]`` the value of each size.

    Raises
    ------
    ValueError
        Sizes that are not positive and rising, fewer than two folds.

    Notes
    -----
    MAETok (arXiv 2502.03444) reads fewer modes as an easier latent. Sizes whose covariances the
    rows do not determine (fewer than 2 d rows per component) are left out. The densities are those
    of the standardised, projected latents; eigenvalues are floored at 1e-6 of the mean variance.
    The error is over rows for the fitted mixtures, without that of the fit.
    """
    sizes = list(n_components)
    if not sizes or sizes != sorted(set(sizes)) or sizes[0] < 1:
        raise ValueError(f"n_components is {n_components}: pass positive integers, rising.")
    if n_folds < 2:
        raise ValueError(f"n_folds is {n_folds}: a held-out likelihood needs at least 2.")
    seed = seed_of(random_state)
    latents = read_latents(Z, latent_shape, standardize=standardize)
    latents = subsample(latents, max_points, seed)
    n_rows, d = latents.rows.shape
    kept = min(d, max_dimensions)
    settings = {**latents.settings, "n_folds": n_folds, "dimensions": kept}
    metric = Metric(
        "gmm_likelihood", math.nan, math.nan, True, n_rows, "arXiv 2502.03444", settings
    )
    if latents.reason:
        return missing(metric, latents.reason)
    train = n_rows * (n_folds - 1) / n_folds
    usable = [size for size in sizes if train >= 2 * kept * size]
    if not usable:
        return missing(
            metric, f"{n_rows} rows do not determine {sizes[0]} covariances of {kept} dimensions"
        )
    rows = latents.rows
    if d > kept:
        _, vectors, centred = _principal(rows)
        rows = centred @ vectors[:, -kept:]
    found, n_open = mixture_log_likelihoods(rows, usable, n_folds, seed)
    means = found.mean(axis=1) / kept
    best = int(means.argmax())
    modes = usable[best]
    for row, size in enumerate(usable[: best + 1]):
        gap, error = row_mean((found[best] - found[row]) / kept)
        if gap <= error:
            modes = size
            break
    value, stderr = row_mean(found[best] / kept)
    settings = {
        **settings,
        "n_components": usable[best],
        "n_modes": modes,
        "log_likelihood": dict(zip(usable, means.tolist(), strict=True)),
        "fits_not_settled": n_open,
    }
    return Metric(metric.name, value, stderr, True, n_rows, metric.reference, settings)
