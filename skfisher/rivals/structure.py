"""What the positions of a latent have to do with each other: spectrum and self-similarity."""

from __future__ import annotations

import math
from typing import Any

from array_api_compat import device

from skfisher._backend.arrays import Array, namespace, row_chunks
from skfisher.rivals.metric import (
    Latents,
    Metric,
    missing,
    read_latents,
    row_mean,
    spatial_shape,
    subsample,
)

__all__ = [
    "correlation_decay_slope",
    "local_distant_similarity",
    "spectral_energy_concentration",
]


def spectral_energy_concentration(
    Z: Any,
    *,
    latent_shape: Any = None,
    threshold: float = 0.5,
    standardize: str = "channel",
) -> Metric:
    """Share of the latents' DCT energy at high spatial frequency.

    Parameters
    ----------
    Z : array-like of shape (N, C, H, W), (N, C, L) or (N, d)
    latent_shape : tuple of int, optional
    threshold : float
        Share of the largest frequency (H - 1) + (W - 1) beyond which energy counts as high.
    standardize : {"channel", "rms", "none"}

    Returns
    -------
    Metric
        In [0, 1]; lower is smoother.

    Raises
    ------
    ValueError
        No positions, or a threshold outside [0, 1).

    Notes
    -----
    Orthonormal DCT-II of every channel, energy averaged over rows and channels, share of the
    frequencies with u + v > threshold * (H - 1 + W - 1) (arXiv 2606.03578, eq. 9). The constant
    (0, 0) is part of the energy, so the mean that standardisation leaves matters. The error is that
    of a ratio of means over rows.

    Examples
    --------
    >>> import numpy as np
    >>> Z = np.random.default_rng(0).standard_normal((300, 2, 4, 4))
    >>> metric = spectral_energy_concentration(Z)  # white: 6 of 16 frequencies lie beyond
    >>> abs(metric.value - 6 / 16) < 4 * metric.stderr
    True
    """
    if not 0.0 <= threshold < 1.0:
        raise ValueError(f"threshold is {threshold}: a share of the largest frequency in [0, 1).")
    latents = read_latents(Z, latent_shape, standardize=standardize)
    n_channels, height, width = spatial_shape(latents.shape, "spectral_energy_concentration")
    metric = Metric(
        f"sec_{threshold:g}",
        math.nan,
        math.nan,
        False,
        latents.rows.shape[0],
        "arXiv 2606.03578",
        {**latents.settings, "threshold": threshold},
    )
    if latents.reason:
        return missing(metric, latents.reason)
    if height * width == 1:
        return missing(metric, "a latent of one position has no spatial frequency")
    rows = latents.rows
    xp = namespace(rows)
    left, right = _dct_matrix(height, rows), _dct_matrix(width, rows)
    beyond = xp.sum(_grid(height, width, rows), axis=2) > threshold * (height + width - 2)
    high, total = [], []
    for chunk in row_chunks(rows.shape[0], 32 * rows.shape[1]):
        cells = xp.reshape(rows[chunk, :], (-1, n_channels, height, width))
        energy = xp.sum(xp.matmul(xp.matmul(left, cells), right.T) ** 2, axis=1)
        total.append(xp.sum(energy, axis=(1, 2)))
        high.append(xp.sum(xp.where(beyond, energy, xp.zeros_like(energy)), axis=(1, 2)))
    above, whole = xp.concat(high), xp.concat(total)
    share = float(xp.sum(above)) / float(xp.sum(whole))
    _, stderr = row_mean((above - share * whole) / float(xp.mean(whole)))
    return Metric(
        metric.name, share, stderr, False, metric.n_rows, metric.reference, metric.settings
    )


def _dct_matrix(size: int, ref: Array) -> Array:
    """Orthonormal DCT-II: row k is sqrt(2 / n) cos(pi (i + 1/2) k / n), the first over sqrt(2)."""
    xp = namespace(ref)
    index = xp.arange(size, dtype=ref.dtype, device=device(ref))
    rows = xp.cos(math.pi / size * index[:, None] * (index[None, :] + 0.5))
    first = xp.where(index == 0, math.sqrt(0.5) + 0 * index, 1 + 0 * index)
    return rows * first[:, None] * math.sqrt(2 / size)


def local_distant_similarity(
    Z: Any,
    *,
    latent_shape: Any = None,
    near: float = 0.25,
    far: float = 0.5,
    center: bool = False,
    standardize: str = "channel",
    max_points: int = 2000,
    random_state: Any = 0,
) -> Metric:
    """How much more alike near positions of a latent are than distant ones (LDS).

    Parameters
    ----------
    Z : array-like of shape (N, C, H, W), (N, C, L) or (N, d)
    latent_shape : tuple of int, optional
    near, far : float
        Pairs at distance up to `near` and from `far`, as shares of the largest distance; at least
        distance 1 is near.
    center : bool
        Subtract the mean position of every latent first, which removes a direction common to all.
    standardize : {"channel", "rms", "none"}
    max_points : int
        Rows that are taken at random where there are more.
    random_state : int, RandomState, Generator or None

    Returns
    -------
    Metric
        In [-2, 2], higher is better.

    Raises
    ------
    ValueError
        No positions, or near and far that are not 0 < near < far <= 1.

    Notes
    -----
    Mean cosine similarity of the channel vectors of two positions, near minus far, for Manhattan
    distance on the grid (iREPA, arXiv 2512.10794). The paper's radii are not known to us: these are
    shares of the grid, so that grids of several sizes compare. Pairs of a position with itself are
    left out. Positions whose vector is zero are alike to nothing. The error is over rows.

    Examples
    --------
    >>> import numpy as np
    >>> Z = np.random.default_rng(0).standard_normal((200, 8, 4, 4))
    >>> metric = local_distant_similarity(Z)
    >>> abs(metric.value) < 4 * metric.stderr
    True
    """
    if not 0.0 < near < far <= 1.0:
        raise ValueError(f"near is {near} and far {far}: shares of the grid, 0 < near < far <= 1.")

    latents, counts = _read(Z, latent_shape, standardize, max_points, random_state, "lds")
    largest = len(counts) - 1
    close = [0 < t <= max(1.0, near * largest) for t in range(largest + 1)]
    apart = [t >= far * largest and not close[t] and t > 0 for t in range(largest + 1)]
    n_close = sum(n for n, kept in zip(counts, close, strict=True) if kept)
    n_apart = sum(n for n, kept in zip(counts, apart, strict=True) if kept)
    weights = None
    if n_close and n_apart:
        weights = [
            n * (c / n_close - a / n_apart) for n, c, a in zip(counts, close, apart, strict=True)
        ]
    return _weighted_profile("lds", latents, weights, center, {"near": near, "far": far})


def correlation_decay_slope(
    Z: Any,
    *,
    latent_shape: Any = None,
    far: float = 0.5,
    center: bool = False,
    standardize: str = "channel",
    max_points: int = 2000,
    random_state: Any = 0,
) -> Metric:
    """How fast similarity falls with the distance of positions (CDS).

    Parameters
    ----------
    Z : array-like of shape (N, C, H, W), (N, C, L) or (N, d)
    latent_shape : tuple of int, optional
    far : float
        Distances up to this share of the largest enter.
    center, standardize, max_points, random_state
        As in `local_distant_similarity`.

    Returns
    -------
    Metric
        Loss of cosine similarity per whole extent of the grid; higher is better.

    Raises
    ------
    ValueError
        No positions, or a share outside (0, 1].

    Notes
    -----
    Minus the least-squares slope of the mean cosine similarity at Manhattan distance t = 1, 2, ...
    against t over the largest distance (iREPA, arXiv 2512.10794, whose slope is per step of the
    grid: divide by the largest distance to compare).
    """
    if not 0.0 < far <= 1.0:
        raise ValueError(f"far is {far}: it is a share of the grid, in (0, 1].")

    latents, counts = _read(Z, latent_shape, standardize, max_points, random_state, "cds")
    largest = len(counts) - 1
    used = [t for t in range(1, largest + 1) if t <= max(2.0, far * largest)]
    weights = None
    if len(used) > 1:
        mean = sum(used) / len(used)
        square = sum((t - mean) ** 2 for t in used)
        weights = [-largest * (t - mean) / square if t in used else 0.0 for t in range(largest + 1)]
    return _weighted_profile("cds", latents, weights, center, {"far": far})


def _read(
    Z: Any, latent_shape: Any, standardize: str, max_points: int, random_state: Any, name: str
) -> tuple[Latents, list[int]]:
    """The latents, and how many ordered pairs of positions lie at distance 0, 1, 2, ..."""
    latents = read_latents(Z, latent_shape, standardize=standardize)
    _, height, width = spatial_shape(latents.shape, name)
    counts = [0] * (height + width - 1)
    for down in range(height):
        for across in range(width):
            pairs = (height - down) * (width - across)
            counts[down + across] += pairs * (1 + (down > 0)) * (1 + (across > 0))
    return subsample(latents, max_points, random_state), counts


def _weighted_profile(
    name: str,
    latents: Latents,
    weights: list[float] | None,
    center: bool,
    settings: dict[str, Any],
) -> Metric:
    """A weighted sum, over distances, of the mean similarity at that distance."""
    metric = Metric(
        name,
        math.nan,
        math.nan,
        True,
        latents.rows.shape[0],
        "arXiv 2512.10794",
        {**latents.settings, **settings, "center": center},
    )
    if latents.reason:
        return missing(metric, latents.reason)
    if weights is None:
        return missing(metric, "the grid is too small to tell near positions from far")
    n_channels, height, width = spatial_shape(latents.shape, name)
    xp, positions = namespace(latents.rows), height * width
    place = xp.reshape(_grid(height, width, latents.rows), (positions, 2))
    distance = xp.sum(xp.abs(place[:, None, :] - place[None, :, :]), axis=2)
    # one weight per ordered pair: that of its distance over the number of its pairs
    weigh = xp.zeros_like(distance)
    for t, weight in enumerate(weights):
        at = distance == t
        weigh = xp.where(at, xp.full_like(weigh, weight / float(xp.count_nonzero(at))), weigh)
    parts = []
    for chunk in row_chunks(latents.rows.shape[0], 16 * positions * (positions + n_channels)):
        cells = xp.reshape(latents.rows[chunk, :], (-1, n_channels, positions))
        if center:
            cells = cells - xp.mean(cells, axis=2, keepdims=True)
        length = xp.sqrt(xp.sum(cells**2, axis=1, keepdims=True))
        unit = xp.where(length > 0, cells / xp.where(length > 0, length, 1 + 0 * length), 0 * cells)
        parts.append(xp.sum(xp.matmul(unit, weigh) * unit, axis=(1, 2)))
    value, stderr = row_mean(xp.concat(parts))
    return Metric(name, value, stderr, True, metric.n_rows, metric.reference, metric.settings)


def _grid(height: int, width: int, ref: Array) -> Array:
    xp = namespace(ref)
    down, across = (
        xp.arange(size, dtype=ref.dtype, device=device(ref)) for size in (height, width)
    )
    down = xp.broadcast_to(down[:, None], (height, width))
    across = xp.broadcast_to(across[None, :], (height, width))
    return xp.stack([down, across], axis=2)
