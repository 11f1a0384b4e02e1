"""Tangent spaces by local principal components, or from a score model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from skfisher._backend.arrays import Array, index_like, like, namespace, take_rows
from skfisher._backend.draws import normal, seed_of
from skfisher._backend.neighbourhoods import local_shares
from skfisher._backend.validation import as_sample
from skfisher.geometry.affine import hull_of
from skfisher.geometry.anchors import (
    LARGEST,
    SMALLEST,
    check_positive,
    choose_anchors,
    neighbourhood_sizes,
    neighbourhoods,
    principal_bases,
    row_numbers,
)

__all__ = [
    "ScoreTangents",
    "TangentSpaces",
    "projector_dimension",
    "score_tangents",
    "tangent_spaces",
]

_NOISE = 524  # streams of the draws
_AXES = 64  # leading principal axes in which tangents are sought to tell dimensions and sizes
_ASYMMETRY = 1 / 50  # share of a neighbourhood's thickness that tilts its plane whatever its size
_HULL_RTOL = 1e-8


@dataclass(frozen=True, eq=False)
class TangentSpaces:
    """Orthonormal tangent bases at some rows.

    Attributes
    ----------
    basis : array of shape (A, D, k)
    anchors : integer array of shape (A,)
        Row numbers, increasing.
    n_neighbors : int
        Rows from which each plane was taken; 0 for the hull's.
    radius : float
        Mean distance to the last of them, in units of X.
    exact : bool
        Whether k is the hull's dimension, so that the bases are the hull's.
    reason : str
    """

    basis: Array
    anchors: Array
    n_neighbors: int
    radius: float
    exact: bool
    reason: str


@dataclass(frozen=True, eq=False)
class ScoreTangents:
    """What a score model's projector I + t H says of the data's tangents.

    Attributes
    ----------
    k : int
        The widest gap of the mean spectrum, or the k asked for.
    trace, trace_stderr : float
        E tr(I + t H), the effective dimension, and its standard error over rows.
    spectrum : array of shape (n,)
        Mean eigenvalues, decreasing: near 1 along tangents, near 0 across, at small noise.
    basis : array of shape (A, n, k)
        Leading eigenvectors.
    anchors : integer array of shape (A,)
    n_products : int
    """

    k: int
    trace: float
    trace_stderr: float
    spectrum: Array
    basis: Array
    anchors: Array
    n_products: int


def tangent_spaces(
    X: Any,
    k: int,
    *,
    anchors: Any = None,
    max_anchors: int = 128,
    n_neighbors: int | None = None,
    random_state: Any = 0,
) -> TangentSpaces:
    """Tangent bases by local principal components, or the hull's basis where k is its dimension.

    Parameters
    ----------
    X : array of shape (N, D)
    k : int
        Dimension, from 1 to that of the affine hull.
    anchors : integer vector of length A, optional
        Row numbers. Default `max_anchors` different rows drawn at random.
    max_anchors : int
    n_neighbors : int, optional
        Rows in each neighbourhood. Default the size, one for all, that balances noise and
        curvature: least thickness x (1/m + 1/50), thickness the variance outside the k leading
        directions over that inside. The first part is what m random rows tilt a plane, the second
        what uneven neighbourhoods do whatever their size.
    random_state : None, int, RandomState or Generator

    Returns
    -------
    TangentSpaces

    Raises
    ------
    ValueError
        k out of range; X of equal rows; fewer than k + 1 neighbours.

    Notes
    -----
    The planes err by about the square root of what was minimised; local quadratic fits
    (`skfisher.geometry.fits.fit_second_form`) correct them.

    Examples
    --------
    >>> import numpy as np
    >>> angle = np.random.default_rng(0).uniform(0, 6.28, size=400)
    >>> circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    >>> found = tangent_spaces(circle, 1, anchors=[0])
    >>> along = np.asarray([-np.sin(angle[0]), np.cos(angle[0])])
    >>> bool(abs(found.basis[0, :, 0] @ along) > 0.9999)
    True
    """
    X = as_sample(X)
    xp = namespace(X)
    check_positive(max_anchors=max_anchors)
    seed = seed_of(random_state)
    _, _, _, directions = hull_of(X, _HULL_RTOL)
    hull = int(directions.shape[1])
    if not 1 <= k <= max(hull, 1) or hull == 0:
        raise ValueError(
            f"k is {k}, but the affine hull of X has dimension {hull}: pass a value from 1 to "
            f"{hull}."
        )
    chosen = choose_anchors(X, max_anchors, seed) if anchors is None else row_numbers(anchors)
    if k == hull:
        A, D = len(chosen), X.shape[1]
        basis = xp.broadcast_to(directions[None, :, :], (A, D, k))
        reason = f"the {k} directions of the affine hull"
        return TangentSpaces(basis, index_like(chosen, X), 0, 0.0, True, reason)
    sizes = [n_neighbors] if n_neighbors is not None else []
    found = neighbourhoods(X, chosen, sizes[0] if sizes else LARGEST)
    available = found.rows.shape[1]
    if not sizes:
        smallest = min(max(SMALLEST, 2 * k + 2), available)
        sizes = [m for m in neighbourhood_sizes(found.n_distinct) if m >= smallest] or [smallest]
    if min(sizes[0], available) <= k:
        raise ValueError(
            f"n_neighbors is {min(sizes[0], available)} for tangent spaces of dimension {k}: pass "
            f"more rows, or n_neighbors of {k + 1} or more."
        )
    m = sizes[0]
    if len(sizes) > 1:
        centred = X - xp.mean(X, axis=0)[None, :]
        turned = xp.matmul(centred, directions)
        shares, _ = local_shares(turned, chosen, found.rows, sizes, max(_AXES, 2 * k))
        cost = []
        for i, size in enumerate(sizes):
            inside = float(shares[i, :k].sum())
            cost.append((1.0 - inside) / inside * (1.0 / size + _ASYMMETRY))
        m = sizes[min(range(len(sizes)), key=lambda i: cost[i])]
    basis = principal_bases(X, found, m, k)
    radius = float(found.distances[:, min(m, available) - 1].mean())
    reason = f"local principal components of {m} neighbours"
    return TangentSpaces(basis, found.anchors, m, radius, False, reason)


def score_tangents(
    model: Any,
    X: Any,
    sigma: float,
    *,
    k: int | None = None,
    anchors: Any = None,
    max_anchors: int = 64,
    random_state: Any = 0,
) -> ScoreTangents:
    """Tangents as the leading eigenspace of a score model's projector I + t H, from n products.

    Parameters
    ----------
    model : score model
        With ``model.jvp(y, sigma, v)``.
    X : array of shape (N, n)
    sigma : float
        Noise level, small beside the radius of curvature, large beside the distance between rows.
    k : int, optional
        Default the widest gap of the mean spectrum.
    anchors : integer vector, optional
        Row numbers; default `max_anchors` different rows drawn at random.
    max_anchors : int
    random_state : None, int, RandomState or Generator
        Also of the noise: H is taken at y = x + sigma eps, where the score is learned.

    Returns
    -------
    ScoreTangents

    Notes
    -----
    t (I + t H) is the posterior covariance (Tweedie); at small noise it tends to t times the
    orthogonal projector on the tangent space. The symmetric part of a learned H is taken.

    Examples
    --------
    >>> import numpy as np
    >>> from skfisher.scores import GaussianScore
    >>> model = GaussianScore(np.zeros(3), np.diag([1.0, 1.0, 1e-8]))
    >>> score_tangents(model, np.eye(3), 0.01).k
    2
    """
    X = as_sample(X)
    xp = namespace(X)
    seed = seed_of(random_state)
    chosen = choose_anchors(X, max_anchors, seed) if anchors is None else row_numbers(anchors)
    x = take_rows(X, chosen)
    A, n = x.shape
    y = x + sigma * normal(seed, (_NOISE,), slice(0, A), n, x)
    columns = []
    for j in range(n):
        e = like([[float(i == j) for i in range(n)]] * A, x)
        columns.append(e + sigma**2 * model.jvp(y, sigma, e)[1])
    projector = xp.stack(columns, axis=2)
    values, vectors = xp.linalg.eigh((projector + xp.matrix_transpose(projector)) / 2.0)
    spectrum = xp.flip(xp.mean(values, axis=0))
    traces = xp.sum(values, axis=1)
    if k is None:
        # the widest fall; what lies below zero or above one is the model's error
        s = [min(max(float(v), 0.0), 1.0) for v in spectrum] + [0.0]
        k = max(range(1, n + 1), key=lambda j: s[j - 1] - s[j])
    stderr = float(xp.std(traces)) / math.sqrt(max(A - 1, 1)) if A > 1 else math.nan
    basis = xp.flip(vectors, axis=2)[:, :, :k]
    return ScoreTangents(
        k, float(xp.mean(traces)), stderr, spectrum, basis, index_like(chosen, X), n * A
    )


def projector_dimension(model: Any, X: Any, sigma: float, **options: Any) -> int:
    """Dimension at which the spectrum of I + t H falls most; options as for `score_tangents`."""
    return score_tangents(model, X, sigma, **options).k
